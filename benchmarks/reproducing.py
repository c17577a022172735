"""What each fault of the released code is worth, measured on phone-watch and on synthetic clouds.

    python benchmarks/reproducing.py               # about five minutes on 2 cores; the figures of docs/reproducing.md
    python benchmarks/reproducing.py --start --seeds 1   # its table on where a student starts

1. Folds that share subjects: accuracy with rows split at random against accuracy with subjects kept apart.
2. The epoch picked on the test fold: the best test score over epochs against the test score of the epoch that `select` picks.
3. A T-Net that was never trained: a pkdot student with random frozen T-Nets against one with trained ones.
4. Plain entropic transport shrinks: the spread of the free cloud that minimises each objective.
5. Transport between clouds does not see which row is which: the loss of a teacher whose rows are permuted.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

import sidelight as sl
from sidelight.config import Config, load_config
from sidelight.experiment.assemble import run_job
from sidelight.experiment.context import JobContext
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.resolve import resolve
from sidelight.losses.cosine import cosine_similarity_matrix
from sidelight.losses.structural import StructuralTransport
from sidelight.methods import Method, Supervised
from sidelight.networks.build import feature_shape
from sidelight.networks.hallucination import make_hallucinators
from sidelight.networks.network import compute_outputs
from sidelight.results import load_results
from sidelight.training import fit
from sidelight.transport import select_anchors, sinkhorn, sinkhorn_divergence


def build_models(config: Config, place: Path, seeds: int) -> list[FoldModels]:
    for part in ("jobs", "shared", "checkpoints"):
        (place / part).mkdir(parents=True, exist_ok=True)
    dataset = sl.load("phone-watch")
    return [FoldModels(config, dataset, place, {}, fold, seed) for seed in range(seeds) for fold in range(config.folds)]


def settled(**settings: object) -> Config:
    return resolve(load_config({"data": "phone-watch", "methods": ["pkdot"], **settings}), sl.load("phone-watch"))


def shared_subjects(place: Path, seeds: int) -> None:
    for protocol in ("random", "group-kfold"):
        config = settled(protocol=protocol, label_fraction=[1.0])
        for models in build_models(config, place / protocol, seeds):
            for method in ("baseline", "teacher"):
                run_job(models, Job(method, "", 1.0, models.data.number, models.data.seed))
        scores = load_results(place / protocol).groupby("method")["accuracy"].agg(["mean", "std"])
        for method, row in scores.iterrows():
            print(f"1. {protocol:12} {method:9} accuracy {100 * row['mean']:.1f} ± {100 * row['std']:.1f}")


class TestScores:
    """Reads the test rows after every epoch, which nothing in the library ever does."""

    def __init__(self, models: FoldModels):
        self.task, self.test, self.scores = models.data.fit_task(0.2), models.data.rows("test"), []

    def __call__(self, method: Method, epoch: int) -> None:
        said = compute_outputs(method.deployed_network(), self.test, self.test.index).prediction
        self.scores.append(self.task.score(said, self.test.target, self.test.labelled))

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


def epoch_on_test(place: Path, seeds: int) -> None:
    honest, picked = [], []
    config = settled(label_fraction=[0.2])
    for models in build_models(config, place / "epoch", seeds):
        watch = TestScores(models)
        context = JobContext(models, Job("baseline", "", 0.2, models.data.number, models.data.seed))
        method = Supervised(context.network(models.data.available), models.data.fit_task(0.2))
        rows = models.data.rows("train", 0.2), models.data.rows("select")
        history = fit(method, *rows, config.training, seed=models.order_seed, callback=watch)
        honest.append(watch.scores[history.best_epoch])
        picked.append(max(watch.scores[1:]))
    gain = np.array(picked) - np.array(honest)
    print(
        f"2. baseline, epoch from select {100 * np.mean(honest):.1f}, from test {100 * np.mean(picked):.1f}: "
        f"+{100 * gain.mean():.1f} ± {100 * gain.std(ddof=1):.1f} points for nothing"
    )


def untrained_tnet(place: Path, seeds: int) -> None:
    scores: dict[str, list[float]] = {"trained": [], "random": []}
    config = settled(label_fraction=[0.2], student={"init": "teacher", "freeze": True})
    for kind in scores:
        for models in build_models(config, place / f"tnet-{kind}", seeds):
            if kind == "random":
                teacher = Job("teacher", "", 0.2, models.data.number, models.data.seed)
                network = models.control_network(teacher)
                tnets = make_hallucinators(feature_shape(network), models.data.available, models.data.privileged)
                for tnet in tnets.values():
                    tnet.trained_steps += 1  # what `freeze` would refuse
                models._tnets[teacher] = tnets  # as if they had been trained
            run_job(models, Job("pkdot", "", 0.2, models.data.number, models.data.seed))
        found = load_results(place / f"tnet-{kind}")
        scores[kind] = found[found["method"] == "pkdot"].sort_values(["seed", "fold"])["accuracy"].tolist()
    difference = 100 * (np.array(scores["trained"]) - np.array(scores["random"]))
    print(
        f"3. pkdot, frozen encoders: trained T-Net {100 * np.mean(scores['trained']):.1f}, random T-Net "
        f"{100 * np.mean(scores['random']):.1f}; difference {difference.mean():+.1f} ± {difference.std(ddof=1):.1f}"
    )


def starts(place: Path, seeds: int) -> None:
    """Scores on the select rows, labels of 20 %; the fold's teacher and T-Nets are the same for all three."""
    methods = ["kl", "pkdot", "pkdot-sidelight", "pkdot+kl"]
    kinds: dict[str, dict[str, object]] = {
        "from the teacher, trained": {},
        "random, trained": {"init": "random"},
        "from the teacher, frozen": {"freeze": True},
    }
    print(f"{'accuracy on select x 100':28}", *(f"{m:>16}" for m in methods))
    first = None
    for kind, student in kinds.items():
        folder = place / kind.replace(" ", "-")
        if first is not None:
            shutil.copytree(first / "shared", folder / "shared")
            shutil.copytree(first / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("kl-*", "pkdot*"))
        first = first or folder
        for models in build_models(settled(label_fraction=[0.2], methods=methods, student=student), folder, seeds):
            for method in methods:
                run_job(models, Job(method, "", 0.2, models.data.number, models.data.seed))
        scores = load_results(folder).groupby("method")["select"].mean() * 100
        print(f"{kind:28}", *(f"{scores[m]:16.1f}" for m in methods), flush=True)


def clouds() -> None:
    """Five clusters in 32 dimensions; the clouds are the rows of 128 × 30 similarities to the paper's anchors."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 32, generator=generator)
    teacher = centres[torch.arange(128) % 5] + 0.7 * torch.randn(128, 32, generator=generator)
    similarity = cosine_similarity_matrix(teacher)
    anchors = select_anchors(similarity, 30, "paper")
    target = similarity[:, anchors]
    for objective in ("plain", "divergence"):
        for epsilon in (1.0, 0.1, 0.01):
            cloud = (0.3 * torch.randn(128, 30, generator=torch.Generator().manual_seed(1))).requires_grad_()
            optimiser = torch.optim.Adam([cloud], 0.02)
            for _ in range(600):
                optimiser.zero_grad()
                if objective == "plain":
                    sinkhorn(cloud, target, epsilon=epsilon).objective.backward()
                else:
                    sinkhorn_divergence(cloud, target, epsilon=epsilon).divergence.backward()
                optimiser.step()
            ratio = float((cloud.detach().var(0).sum() / target.var(0).sum()).sqrt())
            print(f"4. {objective:10} epsilon {epsilon:<5}: spread of the minimiser {ratio:.2f} of the teacher's cloud")
    others = torch.tensor([i for i in range(128) if i not in set(anchors.tolist())])
    turned = teacher.clone()
    turned[others] = teacher[others[torch.randperm(len(others), generator=generator)]]
    loss = StructuralTransport("paper", objective="divergence", epsilon=0.01)
    noise = torch.randn(128, 32, generator=generator)
    values = [abs(float(loss(z, teacher))) for z in (teacher, turned, noise)]
    print(
        "5. divergence to the teacher: itself {:.4f}, rows (but the anchors) permuted {:.4f}, noise {:.4f}".format(
            *values
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clouds", action="store_true", help="only 4 and 5, which train no network")
    parser.add_argument("--start", action="store_true", help="only the table on where a student starts")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if args.clouds:
        clouds()
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if args.start:
            starts(place, args.seeds)
            return
        shared_subjects(place, args.seeds)
        epoch_on_test(place, args.seeds)
        untrained_tnet(place, args.seeds)
    clouds()


if __name__ == "__main__":
    main()
