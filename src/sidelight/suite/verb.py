"""`sidelight suite`: what it does with its arguments."""

from __future__ import annotations

import argparse

from sidelight.errors import ConfigError, SidelightError
from sidelight.experiment.resolve import resolve
from sidelight.experiment.runner import plan_jobs
from sidelight.methods import parse_methods
from sidelight.results.across import summarize
from sidelight.suite import open_set, read_suite, run_suite
from sidelight.utils.stopping import parse_duration, stops_on_sigterm

FLAGS = ("jobs", "seeds")


def suite_verb(args: argparse.Namespace) -> int:
    """Run a suite, or print its plan; returns 1 if a set ended with an error or has jobs that failed."""
    if args.source is None:
        raise ConfigError("suite needs a file: sidelight suite suite.yaml")
    flags = [f"{name}={value}" for name in FLAGS if (value := vars(args)[name]) is not None]
    overrides = [*flags, *args.overrides]
    if args.dry_run:
        return _print_plan(args, overrides)
    limit = None if args.time_limit is None else parse_duration(args.time_limit, "--time-limit")
    patience = max(config.checkpoint_seconds for config in read_suite(args.source, overrides).sets.values())
    with stops_on_sigterm(patience, limit):
        suite = run_suite(
            args.source,
            output=args.output,
            overrides=overrides,
            resume=args.resume,
            quiet=args.quiet,
            encoders=args.own.encoders,
            imports=args.own.files,
            executor=args.scheduler,
            time_limit=limit,
        )
    for name in suite.stored.compared:
        print(f"{name}: {suite.study(name).sentence()}")
    for name, error in suite.failures.items():
        print(f"{name}: ended with an error. {error}")
    print(summarize(suite.across()) if suite.stored.compared else "No data set has results.")
    print(f"report: {suite.folder / 'suite.html'}")
    return 1 if suite.failures or any(suite.study(name).failures for name in suite.stored.compared) else 0


def _print_plan(args: argparse.Namespace, overrides: list[str]) -> int:
    """Read every data set and say what its run would train; returns 1 if one of them cannot be run."""
    plan, failed = read_suite(args.source, overrides, args.output), 0
    for name in plan.sets:
        try:
            config, dataset, left_out = open_set(plan, name)
            config = resolve(config, dataset)
            jobs = plan_jobs(config, dataset, parse_methods(config.methods))
        except (SidelightError, OSError) as error:
            failed += 1
            print(f"{name}: cannot be run. {error}")
            continue
        folds, seeds = len({job.fold for job in jobs}), len({job.seed for job in jobs})
        print(f"{name}: {len(jobs)} jobs over {folds} folds x {seeds} seeds, {len(config.methods)} methods")
        for method, why in left_out.items():
            print(f"  without {method}: {why}")
    return 1 if failed else 0
