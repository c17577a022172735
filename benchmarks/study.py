"""The demo's study against a straightforward PyTorch script that trains the same networks for the same steps.

    python benchmarks/study.py                     # both, one after the other, in this run; prints the ratio
    python benchmarks/study.py --seeds 1 --epochs 10

The script is what one writes without a library: one process, `DataLoader`s over tensors, `loss.backward()`, the teacher
asked again at every step. Both use the same folds, the same preprocessed tensors, the same networks and the same transport
loss, and no early stopping, so that the number of optimiser steps is equal. The study also writes its predictions, curves,
models and report; the script writes nothing. One thread per process in both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import sidelight as sl
from sidelight.config import load_config
from sidelight.experiment.fold import FoldData
from sidelight.experiment.resolve import resolve
from sidelight.losses.structural import StructuralTransport
from sidelight.networks.build import build_network, feature_shape
from sidelight.networks.hallucination import make_hallucinators

METHODS = ["kl", "pkdot", "pkdot+kl"]


def settings(epochs: int, seeds: int) -> dict:
    return {
        "data": "phone-watch",
        "methods": METHODS,
        "label_fraction": [0.2],
        "select_labels": "extra",  # one training each, as `script` does
        "placebo": ["kl"],
        "seeds": seeds,
        "training": {"epochs": epochs, "patience": epochs},
    }


def study(epochs: int, seeds: int, folder: str) -> float:
    start = time.perf_counter()
    own = settings(epochs, seeds)
    sl.compare(own.pop("data"), methods=own.pop("methods"), output=folder, quiet=True, **own)
    return time.perf_counter() - start


def script(epochs: int, seeds: int) -> float:
    start = time.perf_counter()
    torch.set_num_threads(1)
    dataset = sl.load("phone-watch")
    config = resolve(load_config(settings(epochs, seeds)), dataset)
    for seed in range(seeds):
        for fold in range(config.folds):
            run_fold(FoldData(config, dataset, fold, seed), config)
    return time.perf_counter() - start


def run_fold(data: FoldData, config) -> None:
    train_all = data.rows("train", 1.0)
    train, select, test = data.rows("train", 0.2), data.rows("select"), data.rows("test")
    supervised(network(data, config, data.available), train_all, select, test, config)
    supervised(network(data, config, data.available), train, select, test, config)
    teacher = supervised(network(data, config, data.modalities), train, select, test, config)
    tnets = hallucinators(data, teacher, train, select, config)
    for method in METHODS:
        distil(data, teacher, tnets if "pkdot" in method else {}, method, train, select, test, config)
    mixed, chosen = data.rows("train", 0.2, "placebo"), data.rows("select", control="placebo")
    fooled = supervised(network(data, config, data.modalities), mixed, chosen, test, config)
    distil(data, fooled, {}, "kl", mixed, select, test, config)


def network(data, config, reads, tnets=None):
    shapes = {m: data.preprocessor.shapes[m] for m in reads}
    slots = data.modalities if tnets else reads
    return build_network(shapes, reads, len(data.dataset.class_names), config.network, slots=slots, hallucinators=tnets)


def loader(rows, config, only=None):
    where = rows.index if only is None else rows.index[only]
    return DataLoader(TensorDataset(where), batch_size=config.training.batch_size, shuffle=True)


def accuracy(net, rows) -> float:
    net.eval()
    with torch.no_grad():
        return (net(rows).prediction.argmax(1) == rows.target).float().mean().item()


def optimiser(net, config):
    params = [p for p in net.parameters() if p.requires_grad]
    return torch.optim.AdamW(params, lr=config.training.learning_rate, weight_decay=config.training.weight_decay)


def supervised(net, train, select, test, config):
    """As many steps per epoch as the students take, as in the study: the labelled rows are gone through again."""
    opt = optimiser(net, config)
    steps = -(-len(train) // config.training.batch_size)
    batches = loader(train, config, train.labelled)
    for _ in range(config.training.epochs):
        net.train()
        done = 0
        while done < steps:
            for (index,) in batches:
                batch = train.index_select(index)
                opt.zero_grad()
                F.cross_entropy(net(batch).prediction, batch.target).backward()
                opt.step()
                done += 1
                if done == steps:
                    break
        accuracy(net, select)
    accuracy(net, test)
    return net.eval()


def hallucinators(data, teacher, train, select, config):
    tnets = torch.nn.ModuleDict(make_hallucinators(feature_shape(teacher), data.available, data.privileged))
    opt = optimiser(tnets, config)
    for _ in range(config.training.epochs):
        for (index,) in loader(train, config):
            with torch.no_grad():
                features = teacher(train.index_select(index)).features
            read = {m: features[m] for m in data.available}
            opt.zero_grad()
            sum(F.mse_loss(tnet(read), features[m]) for m, tnet in tnets.items()).backward()
            opt.step()
    for tnet in tnets.values():
        tnet.trained_steps += 1
        tnet.requires_grad_(False)
    return dict(tnets)


def distil(data, teacher, tnets, method, train, select, test, config):
    student = network(data, config, data.available, tnets or None)
    opt = optimiser(student, config)
    transport = StructuralTransport("paper")
    for _ in range(config.training.epochs):
        student.train()
        for (index,) in loader(train, config):
            batch = train.index_select(index)
            with torch.no_grad():
                told = teacher(batch)
            said = student(batch)
            known = batch.labelled
            loss = F.cross_entropy(said.prediction[known], batch.target[known]) if known.any() else 0.0
            if "kl" in method.split("+"):
                soft = F.softmax(told.prediction / 4, 1)
                loss = loss + 16 * F.kl_div(F.log_softmax(said.prediction / 4, 1), soft, reduction="batchmean")
            if "pkdot" in method:
                loss = loss + 0.4 * transport(said.fused, told.fused)
            opt.zero_grad()
            loss.backward()
            opt.step()
        accuracy(student, select)
    accuracy(student, test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        ours = study(args.epochs, args.seeds, os.path.join(place, "study"))
    plain = script(args.epochs, args.seeds)
    print(f"{args.seeds} seeds x 5 folds x 7 networks and T-Nets, {args.epochs} epochs, {os.cpu_count()} cores")
    print(f"study {ours:.1f} s, script {plain:.1f} s, ratio {ours / plain:.2f} (must be at most 1.00)")


if __name__ == "__main__":
    main()
