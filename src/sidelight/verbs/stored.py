"""Verbs of a stored run: `report`, `status`, `refit`."""

from __future__ import annotations

import argparse
import json

from sidelight.errors import ConfigError


def report_verb(args: argparse.Namespace) -> None:
    from sidelight.report import write_report
    from sidelight.results.store import is_suite

    if is_suite(args.run):
        from sidelight.report.suite import write_suite_report

        if args.between:
            raise ConfigError(f"--between compares rows of one run; name the run of a data set in {args.run}.")
        print(write_suite_report(args.run, args.output))
        return
    print(write_report(args.run, args.output))
    if args.parquet:
        from sidelight.results.parquet import write_parquet

        print(write_parquet(args.run, args.parquet))
    if args.between:
        from sidelight.results import between, budgets, load_results, primary_metric
        from sidelight.results.units import labels_phrase, unit

        results = load_results(args.run)
        for share in budgets(results):
            difference = between(results, args.between[0], args.between[1], share)
            print(f"{labels_phrase(share)}: {difference.describe(unit(primary_metric(results)))}")


def status_verb(args: argparse.Namespace) -> int:
    from sidelight.runs.status import read_status

    status = read_status(args.run)
    if args.state:
        print("".join(f"{job}\n" for job in status.of_state(args.state)), end="")
    else:
        print(f"{json.dumps(status.to_dict(), indent=1)}\n" if args.json else status.to_text(), end="")
    return 1 if status.failures else 0


def refit_verb(args: argparse.Namespace) -> None:
    from sidelight.experiment.refit import NO_TEST, refit

    print(f"{refit(args.run, encoders=args.own.encoders, device=args.device)}\n{NO_TEST}")
