"""A study trained in stacks against the same study in an earlier build of sidelight, in turn.

    python benchmarks/stacked.py --reference 50d220c             # a git revision, checked out into a temporary folder
    python benchmarks/stacked.py --reference ../sidelight-before # or a folder with an earlier build
    python benchmarks/stacked.py --study methods                 # 5 folds x 5 seeds x 10 methods on phone-watch
    python benchmarks/stacked.py --reference . --set training.stack=1   # this build, one by one
    python benchmarks/stacked.py --own training.stack=1                 # an earlier build, and this one one by one

Both run `sidelight run` in processes of one thread each, as many as `--jobs`. The machine may be busy with other work, so
they take turns, and processor time is printed beside the time that passed. The table of both studies is compared: means
of every method over all folds and seeds. Other arguments are those of `sidelight run`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, median

STUDIES = {
    "demo": ["phone-watch"],
    "methods": [
        "phone-watch", "--folds", "5", "--seeds", "5", "--label-fraction", "1.0", "--placebo", "none", "--methods",
        "kl", "mse", "cosine", "rkd", "sp", "pkt", "mmd", "pkdot", "pkdot+kl", "pkdot-sidelight",
    ],
}  # fmt: skip
HERE = Path(__file__).resolve().parent.parent


def check_out(reference: str, folder: Path) -> Path:
    """The `src` folder of a build: a folder, or a git revision, which is written into `folder`."""
    if (Path(reference) / "src").is_dir():
        return (Path(reference) / "src").resolve()
    archive = subprocess.run(["git", "-C", HERE, "archive", reference, "src"], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder / "src"


def run(source: Path, arguments: list[str], output: Path) -> tuple[float, float]:
    """Run a study with a build; returns (seconds that passed, processor seconds)."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "sidelight", "run", *arguments, "--output", str(output)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def read_scores(output: Path) -> dict[str, dict[str, float]]:
    """Method, control and label fraction -> fold and seed -> the primary metric."""
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for file in output.glob("jobs/*/job.json"):
        record = json.loads(file.read_text())
        job = record["job"]
        kind = f"{job['method']}{'~' if job['control'] else ''}{job['control']} labels {job['labels']:g}"
        scores[kind][f"{job['seed']}/{job['fold']}"] = record["metrics"][record["primary"]]
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default="50d220c")
    parser.add_argument("--study", choices=STUDIES, default="demo")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the reference alone")
    parser.add_argument("--own", nargs="*", default=["training.stack=0"], metavar="NAME=VALUE", help="of this build")
    options, more = parser.parse_known_args()
    arguments = [*STUDIES[options.study], "--jobs", str(options.jobs), *more]
    with tempfile.TemporaryDirectory() as place:
        reference = check_out(options.reference, Path(place))
        took: dict[str, list[tuple[float, float]]] = {"reference": [], "stacked": []}
        for i in range(options.rounds):
            for name, source, own in (("reference", reference, options.set), ("stacked", HERE / "src", options.own)):
                output = Path(place) / f"{name}-{i}"
                took[name].append(run(source, [*arguments, *own], output))
                print(f"{name}: {took[name][-1][0]:.1f} s, processors {took[name][-1][1]:.1f} s", flush=True)
        before, now = read_scores(Path(place) / "reference-0"), read_scores(Path(place) / "stacked-0")

    jobs = sum(map(len, now.values()))
    for what, place_of in (("time that passed", 0), ("processor time", 1)):
        ratios = [a[place_of] / b[place_of] for a, b in zip(took["reference"], took["stacked"])]
        print(f"{what}: ratios {', '.join(f'{r:.2f}' for r in ratios)}, median {median(ratios):.2f} ({jobs} jobs)")
    print(f"\n{'':32}reference  stacked  largest difference of a fold")
    for kind in sorted(before.keys() & now.keys()):
        both = before[kind].keys() & now[kind].keys()
        apart = max(abs(before[kind][fold] - now[kind][fold]) for fold in both)
        print(f"{kind:32}{mean(before[kind].values()):9.4f}{mean(now[kind].values()):9.4f}{apart:9.4f}")


if __name__ == "__main__":
    main()
