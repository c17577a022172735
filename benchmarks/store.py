"""A run of 10,000 stored jobs: how long `status`, the listing and the report take, and what the next job costs to store.

    python benchmarks/store.py                       # writes the run folder (minutes), then measures
    python benchmarks/store.py --jobs 1000 --out /tmp/store-1000
    python benchmarks/store.py --measure-only --out /tmp/store

One tiny network is trained and tested as in any study; its job is then stored thousands of times under other names by
the function that stores every job, with other scores and predictions. The run folder is therefore one that a study
leaves, of 10 folds, 50 seeds and 18 methods for 10,000 jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import sidelight as sl
from sidelight.config import load_config
from sidelight.experiment.artifacts import Similarities, store_job
from sidelight.experiment.evaluate import Evaluation, evaluate
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.provenance import describe_environment, select_digests
from sidelight.experiment.resolve import resolve
from sidelight.experiment.run_folder import enter_run_folder
from sidelight.methods import Supervised, parse_methods
from sidelight.runs.plan import list_stored
from sidelight.training import History, fit
from sidelight.utils.atomic import write_atomic

METHODS = [
    "kl", "mse", "dkd", "dist", "cosine", "fitnet", "rkd", "sp", "pkt", "mad", "mmd", "nce", "crd", "ccl", "pkdot", "kl+pkdot",
    "kl+rkd", "kl+sp",
]  # fmt: skip
PEAK = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        exec(sys.argv[1])
except SystemExit as ended:
    assert not ended.code, ended.code
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
"""Runs a module or code, and prints the most memory that the process held, in KiB. (Linux)"""
FOLDS, GROUPS, ROWS, PROBE = 10, 100, 10, 60


def make_data() -> sl.Dataset:
    """A small vector for each of two sensors, three classes, 100 people."""
    own = np.random.default_rng(0)
    hidden = own.normal(size=(GROUPS * ROWS, 3))
    return sl.load(
        {
            "camera": hidden + 2 * own.normal(size=hidden.shape),
            "wearable": hidden + own.normal(size=hidden.shape) / 2,
            "label": np.array(["low", "middle", "high"])[hidden.argmax(1)],
            "subject": [f"s{g:03d}" for g in np.repeat(np.arange(GROUPS), ROWS)],
        },
        target="label",
        group="subject",
    )


def build(out: Path, count: int) -> None:
    """Write a run folder of `count` jobs."""
    data, kinds = make_data(), ["baseline", "teacher", *METHODS]
    config = load_config(
        {
            "data": data.name, "available": ["camera"], "privileged": ["wearable"], "methods": METHODS, "output": str(out),
            "folds": FOLDS, "seeds": max(1, round(count / (FOLDS * len(kinds)))), "placebo": ["none"],
            "network": {"width": 4}, "training": {"epochs": 8, "patience": 8, "least_steps": 1},
        }
    )  # fmt: skip
    config, specs = resolve(config, data), parse_methods(METHODS)
    now = describe_environment(data, {}, specs.values())
    with enter_run_folder(out, config, specs.values(), data, now, False):
        models = FoldModels(config, data, out, {}, 0, 0, made_with=select_digests(now))
        share = config.label_fraction[0]
        jobs = [Job(m, "", share, f, s) for s in range(config.seeds) for f in range(FOLDS) for m in kinds]
        write_atomic(out / "plan.json", json.dumps({"jobs": [job.id for job in jobs]}, indent=0))
        trained = train(models, jobs[0])
        times = []
        for number, job in enumerate(jobs):
            start = time.perf_counter()
            store_job(out, job, *vary(trained, job))
            times.append(time.perf_counter() - start)
            if number % 1000 == 999:
                print(
                    f"{number + 1} jobs stored; the last 100 took {1000 * np.mean(times[-100:]):.1f} ms each",
                    flush=True,
                )


def train(models: FoldModels, job: Job) -> tuple[Evaluation, History, Similarities]:
    """Train, test and describe one small network, as `train_and_store` does."""
    network = models.builder.network(models.data.available)
    train, select = models.rows(job), models.rows(job, "select")
    similarities = Similarities(select.index_select(torch.arange(PROBE)))
    method = Supervised(network, models.data.fit_task(job.label_fraction))
    history = fit(method, train, select, models.config.training, seed=0, callback=similarities)
    similarities.add(network, history.best_epoch)
    return evaluate(models.data, job, network, history, models.made_with), history, similarities


def vary(trained: tuple[Evaluation, History, Similarities], job: Job) -> tuple[Evaluation, History, Similarities]:
    """The same network with the scores of another job: skilled methods are better, and folds differ."""
    evaluation, history, similarities = trained
    own = np.random.default_rng([*job.id.encode()])
    level = 0.6 + 0.05 * (job.method != "baseline") + 0.02 * np.sin(job.fold) + own.normal(0, 0.02)
    frame, target = dict(evaluation.predictions), np.asarray(evaluation.predictions["target"])
    frame["prediction"] = np.where(own.random(len(target)) < level, target, own.permutation(target))
    score = float((frame["prediction"] == target).mean())
    metrics = dict.fromkeys(evaluation.facts["metrics"], score)
    facts = {**evaluation.facts, "metrics": metrics, "seconds": float(own.uniform(1, 3))}
    return replace(evaluation, predictions=frame, facts=facts), replace(history, best_score=level), similarities


def measure(out: Path) -> None:
    """Time what reads the folder, each in a process of its own, and one more stored job."""
    print(f"{len(list_stored(out))} jobs, {sum(f.stat().st_size for f in out.glob('jobs/*/*')) / 2**20:.0f} MiB")
    listed = f"from sidelight.results import load_results; r = load_results({str(out)!r})"
    filtered = "print(len(r[(r.method == 'kl') & (r.fold < 5)]))"
    table = f"from sidelight.results.parquet import write_parquet; write_parquet({str(out)!r}, {str(out / 'results.parquet')!r})"
    commands = {
        "status": ["-m", "sidelight", "status", str(out)],
        "status --json": ["-m", "sidelight", "status", str(out), "--json"],
        "list and filter": ["-c", f"{listed}; {filtered}"],
        "one Parquet file": ["-c", table],
        "report": ["-m", "sidelight", "report", str(out)],
    }
    for name, words in commands.items():
        start, before = time.perf_counter(), os.times()
        ended = subprocess.run([sys.executable, "-c", PEAK, *words], stdout=subprocess.PIPE, text=True, check=True)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        peak = int(ended.stdout.split()[-1]) / 1024
        print(f"{name:16} {time.perf_counter() - start:6.2f} s, {cpu:6.2f} s CPU, {peak:5.0f} MiB", flush=True)
    print(f"report.html: {(out / 'report.html').stat().st_size / 2**20:.2f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("store-benchmark"))
    parser.add_argument("--measure-only", action="store_true")
    args = parser.parse_args()
    if not args.measure_only:
        build(args.out, args.jobs)
    measure(args.out)


if __name__ == "__main__":
    main()
