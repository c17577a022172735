"""The regime map: where does which method help? Every method in each regime of `sl.synthetic`, over independent draws.

    python benchmarks/regimes.py --output runs/regimes          # resumable: methods, then their placebos
    python benchmarks/regimes.py --output runs/regimes --page   # writes regimes.csv and docs/regimes.md from it

A draw is a data set of its own, so draws are independent and an interval over them says what another data set of the
regime would show. Jobs of several draws are trained as one model (docs/stacking.md).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd
import torch

import sidelight as sl
from regimes_page import write_page
from regimes_table import STORED
from sidelight.config import Config, load_config
from sidelight.data.builtin.synthetic import REGIMES
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.provenance import describe_environment, select_digests
from sidelight.experiment.resolve import resolve
from sidelight.experiment.stacks import run_stacked
from sidelight.methods import METHODS, parse_methods
from sidelight.methods.pointwise import KL
from sidelight.methods.structural import PKDOT
from sidelight.results.job import read_record


class WarmStart(KL):
    """The student's initial weights from the teacher, and no term: what every other method has beside its term."""

    def __init__(self) -> None:
        super().__init__(weight=0.0)


class KLTNet(KL):
    """`kl` with T-Nets in the places of the privileged encoders."""

    hallucinates = "t-net"


class PKDOTWithout(PKDOT):
    """`pkdot` without T-Nets."""

    hallucinates = ""


OWN = {"warm-start": WarmStart, "kl-t-net": KLTNet, "pkdot-no-t-net": PKDOTWithout}
ROWS = [*(m for m in METHODS if m != "mmanet"), "pkdot+kl", *OWN]
"""The rows of the map: every method but `mmanet`, which needs two available modalities, a sum, and three ablations."""
DEAR = ("admd", "amid", "osmd", "c2kd", "mst")
"""Methods of which no stage is stacked, or most is not: they come last."""
METHODS.update(OWN)


@cache
def dataset(regime: str, draw: int) -> sl.Dataset:
    return sl.synthetic(regime, draw)


def settings(regime: str, draw: int, output: Path) -> Config:
    """The settings of a draw: the library's own, with its number as the seed."""
    made = {"data": f"synthetic-{regime}", "methods": ROWS, "placebo": ["none"], "seeds": 1, "seed": draw, "jobs": 1}
    folder = str(output / regime / f"draw{draw:02d}")
    return resolve(load_config({**made, "output": folder, "training": {"stack": 0}}), dataset(regime, draw))


def models(regime: str, draw: int, output: Path) -> FoldModels:
    config = settings(regime, draw, output)
    specs = parse_methods(config.methods)
    made = select_digests(describe_environment(dataset(regime, draw), {}, specs.values()))
    for part in ("jobs", "shared", "checkpoints"):
        (Path(config.output) / part).mkdir(parents=True, exist_ok=True)
    return FoldModels(config, dataset(regime, draw), Path(config.output), {}, 0, draw, made_with=made)


def train(regime: str, draws: Sequence[int], wanted: Sequence[tuple[str, str]], output: Path) -> None:
    """Train what is not stored yet, the draws of each (method, control) together."""
    made = {draw: models(regime, draw, output) for draw in draws}
    jobs = [
        Job(method, control, made[draw].config.label_fraction[0], 0, draw)
        for method, control in wanted
        for draw in draws
    ]
    run_stacked(lambda fold, seed: made[seed], jobs, lambda: None)


def store(output: Path) -> pd.DataFrame:
    """Write the accuracies of the finished jobs to `regimes.csv`, a row per regime and draw."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for regime in REGIMES:
        for file in (output / regime).glob("draw*/jobs/*/job.json"):
            record = read_record(file.parent)
            job, name = record["job"], record["job"]["method"]
            row = found.setdefault((regime, job["seed"]), {})
            row[f"{name}~{job['control']}" if job["control"] else name] = 100 * record["metrics"]["accuracy"]
    order = [f"{m}{control}" for control in ("", "~placebo") for m in ("baseline", "teacher", *ROWS)]
    table = pd.DataFrame.from_dict(found, orient="index").reindex(columns=order).dropna(axis=1, how="all")
    table = table.reindex([(regime, draw) for regime in REGIMES for draw in range(100) if (regime, draw) in found])
    table.index.names = ["regime", "draw"]
    table.round(3).to_csv(STORED)
    return table


def train_all(methods: Sequence[str], control: str, regimes: Sequence[str], draws: int, output: Path) -> None:
    """Train methods, or their placebos, with the controls that they are compared with."""
    wanted = [(m, control) for m in ("teacher", *([] if control else ["baseline"]), *methods)]
    for regime in regimes:
        start = time.process_time()
        train(regime, range(draws), wanted, output)
        print(f"{regime}: {time.process_time() - start:.0f} s of CPU time", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/regimes"))
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=list(REGIMES))
    parser.add_argument("--methods", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--page", action="store_true", help="train nothing; write the page from what is stored")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if args.page:
        if args.output.is_dir():
            store(args.output)
        return write_page(ROWS)
    cheap = [m for m in args.methods if m not in DEAR]
    train_all(cheap, "", args.regimes, args.draws, args.output)
    train_all([m for m in args.methods if m in DEAR], "", args.regimes, args.draws, args.output)
    train_all(args.methods, "placebo", args.regimes, args.draws, args.output)
    store(args.output)


if __name__ == "__main__":
    main()
