"""The sections of gpu.py about training: steps, a small study, a resumed training, and memory."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sidelight as sl
from gpu_table import Clock, Row, compare, seconds_of, synchronize
from sidelight.config import TrainingConfig
from sidelight.data.batch import Batch
from sidelight.experiment.study import Study
from sidelight.methods import Method, Supervised
from sidelight.networks.network import Network
from sidelight.tasks import make_task
from sidelight.training import fit
from sidelight.training.compute import compute_on
from sidelight.utils.device import supports_bf16
from training_step import CASES, CLASSES, build, our_steps, plain_steps, take_turns

TINY = {"R3D-18, clips": ("mlp", 4, (8,)), "ResNet-18, spectrograms": ("mlp", 8, (6,))}
"""Name -> encoder, batch size and shape of a row that stand in for it and only show that the script runs."""


def network_of(name: str, tiny: bool) -> tuple[Network, Batch, int, str]:
    """The network of a case, rows of two batches, the batch size, and the case in words."""
    encoder, size, _, shape = CASES[name]
    encoder, size, shape = TINY[name] if tiny else (encoder, size, shape)
    network, rows = build(encoder, size, shape)
    return network, rows, size, f"{name if not tiny else encoder}, {size} × {' × '.join(map(str, shape))}"


def has_bf16(device: torch.device) -> bool:
    return "precision" in {field.name for field in fields(TrainingConfig)} and supports_bf16(device)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """cuDNN's convolutions do not round float32 to TF32, which torch allows by default."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


# ---------------------------------------------------------------- steps


def steps(device: torch.device, tiny: bool, clock: Clock) -> Iterator[Row]:
    """A step of our loop beside one of a plain loop, and bfloat16 beside float32."""
    for i, name in enumerate(CASES):
        yield from steps_of(name, device, tiny, Clock(clock.left() / (len(CASES) - i)))


def steps_of(name: str, device: torch.device, tiny: bool, clock: Clock) -> Iterator[Row]:
    network, rows, size, case = network_of(name, tiny)
    ours = our_steps(network, rows, size, device)
    takers = {"plain": plain_steps(network, rows, size, device), "ours": ours}
    if device.type == "cuda":
        takers["ours, float32 without TF32 convolutions"] = exact_convolutions()(ours)
    if has_bf16(device):
        takers["ours, bf16"] = our_steps(network, rows, size, device, precision="bf16")
    for take in takers.values():  # kernels are chosen and memory is taken
        take(2)
    each = 1 if tiny else 20
    once = sum(seconds_of(lambda take=take: take(each), device) for take in takers.values())
    times = take_turns(list(takers.values()), each, clock.rounds(once, 2, 2 if tiny else 30), device)
    for k, what in enumerate(takers):
        value = 1e3 * statistics.median(row[k] for row in times)
        if what == "plain":
            yield Row("steps", f"{case}: {what}", "time of a step", value, "ms")
        elif what == "ours, bf16":
            for other in range(1, k):
                median, low, high = compare(times, other, k)
                beside = list(takers)[other].replace("ours", "ours, float32", 1) if other == 1 else list(takers)[other]
                yield Row(
                    "steps", f"{case}: {what}", "speed-up of a step", value, "ms", median, beside, low, high, "≥ 1.8 is the aim"
                )  # fmt: skip
        else:
            median, low, high = compare(times, k, 0)
            aim = "≤ 1.05 is the aim" if what == "ours" else ""
            yield Row("steps", f"{case}: {what}", "time of a step", value, "ms", median, "plain", low, high, aim)
    if "ours, bf16" not in takers:
        why = "this version has no training.precision, or the device no bf16"
        yield Row("steps", f"{case}: ours, bf16", "time of a step", note=why, status="left out")


# ---------------------------------------------------------------- a study


def study(device: torch.device, tiny: bool, clock: Clock) -> Iterator[Row]:
    """The same study on the device and on the CPU, without dropout, whose masks differ between devices."""
    places = [torch.device("cpu"), device]
    with tempfile.TemporaryDirectory() as folder:
        done, seconds = [], []
        for i, place in enumerate(places):
            start = time.perf_counter()
            done.append(run_study(Path(folder) / str(i), place, tiny))
            seconds.append(time.perf_counter() - start)
            case = f"phone-watch, {len(done[-1])} jobs, {place}"
            yield Row("study", case, "time of the study", seconds[i], "s", seconds[i] / seconds[0], "cpu")
    here, there = done
    names = [name for name in here.columns if here[name].dtype.kind == "f" and name not in ("seconds", "labels")]
    gap = (here[names] - there[names]).abs()
    missing = int((here[names].isna() != there[names].isna()).sum().sum()) + abs(len(here) - len(there))
    yield Row(
        "study", f"largest of {', '.join(names)}", "difference of the tables", float(gap.max().max()), beside="cpu",
        note="one test row of thousands may change sides" if not missing else f"{missing} cells are in one table only",
        status="wrong" if missing or gap.max().max() > 0.05 else "measured",
    )  # fmt: skip
    yield Row("study", "median of them", "difference of the tables", float(gap.stack().median()), beside="cpu")


@contextmanager
def without_page() -> Iterator[None]:
    """Studies leave no report.html: it is not what is measured, and drawing it needs matplotlib."""
    before = Study.report
    Study.report = lambda self, path=None: self.folder / "report.html"
    try:
        yield
    finally:
        Study.report = before


@without_page()
def run_study(folder: Path, device: torch.device, tiny: bool) -> Any:
    """The table of results of a study, sorted by job."""
    epochs = 1 if tiny else 5
    named = {"available": ["phone_acc"], "privileged": ["watch_acc"]} if tiny else {}
    study = sl.compare(
        small_data() if tiny else "phone-watch",
        methods=["kl"] if tiny else ["kl", "pkdot"],
        output=str(folder),
        quiet=True,
        jobs=1,
        folds=2 if tiny else 5,
        seeds=1,
        label_fraction=[1.0 if tiny else 0.2],
        placebo=["none"],
        network={"dropout": 0.0, "width": 8 if tiny else 64},
        training={"epochs": epochs, "patience": epochs, "device": str(device)},
        **named,
    )
    return study.results.sort_values(["method", "fold", "seed"]).reset_index(drop=True)


def small_data() -> sl.Dataset:
    """Rows of six subjects of phone-watch, with a sensor of the phone and one of the watch."""
    data = sl.load("phone-watch")
    assert data.group is not None
    rows = np.concatenate([np.flatnonzero(data.group == name)[:30] for name in np.unique(data.group)[:6]])
    columns = {name: data.inputs[name][rows] for name in ("phone_acc", "watch_acc")}
    columns |= {"target": data.target[rows], "group": data.group[rows]}
    return sl.load(columns, target="target", group="group", task="classification", name="small")


# ---------------------------------------------------------------- a resumed training


class Stop(Exception):
    pass


class StopAt:
    """Ends a training after an epoch's checkpoint."""

    def __init__(self, epoch: int | None):
        self.epoch = epoch

    def __call__(self, method: Method, epoch: int) -> None:
        if self.epoch is not None and epoch > self.epoch:
            raise Stop

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def resume(device: torch.device, tiny: bool, clock: Clock) -> Iterator[Row]:
    """Two uninterrupted trainings and one that was ended and resumed, with deterministic operations."""
    name = "ResNet-18, spectrograms"
    network, rows, size, case = network_of(name, tiny)
    for precision in ("32", "bf16") if has_bf16(device) and not tiny else ("32",):
        more = {} if precision == "32" else {"precision": precision}
        settings = TrainingConfig(4, 4, size, device=str(device), deterministic=True, **more)
        with tempfile.TemporaryDirectory() as folder:
            whole, again = (trained(network, rows, settings) for _ in range(2))
            path = Path(folder) / "state.pt"
            try:
                trained(network, rows, settings, checkpoint=path, callback=StopAt(2))
            except Stop:
                torch.manual_seed(12345)  # whatever happened in between
            resumed = trained(network, rows, settings, checkpoint=path, callback=StopAt(None))
        for what, other in (("repeated", again), ("ended after 2 of 4 epochs and resumed", resumed)):
            apart = sum(not torch.equal(whole[key], other[key]) for key in whole)
            yield Row(
                "resume", f"{case}, deterministic, precision {precision}: {what}", "tensors that differ", apart, beside="one training",
                note=f"of {len(whole)}; must be 0", status="wrong" if apart else "measured",
            )  # fmt: skip


def trained(network: Network, rows: Batch, settings: TrainingConfig, **more: Any) -> dict[str, Tensor]:
    """The state of a network after training, on the CPU."""
    method = Supervised(copy.deepcopy(network), make_task("classification", CLASSES))
    with compute_on(torch.device(settings.device), settings):
        fit(method, rows, rows, settings, seed=5, checkpoint_seconds=0, **more)
    return {key: value.cpu() for key, value in method.state_dict().items()}


# ---------------------------------------------------------------- memory


def memory(device: torch.device, tiny: bool, clock: Clock) -> Iterator[Row]:
    """Peak memory of a training, and steps with batches that come in three ways."""
    for i, name in enumerate(CASES):
        part = Clock(clock.left() / (len(CASES) - i))
        yield from peaks_of(name, device, tiny)
        yield from copies_of(name, device, tiny, part)


def peaks_of(name: str, device: torch.device, tiny: bool) -> Iterator[Row]:
    network, rows, size, case = network_of(name, tiny)
    weights = sum(p.numel() * p.element_size() for p in network.parameters()) / 1e6
    yield Row("memory", case, "weights", weights, "MB", note="gradients and two moments of AdamW: three times more")
    if device.type != "cuda":
        yield Row("memory", case, "peak of a job", note=f"{device} does not report it", status="left out")
        return
    for precision in ("32", "bf16") if has_bf16(device) else ("32",):
        torch.cuda.empty_cache()
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        take = our_steps(network, rows, size, device, **({} if precision == "32" else {"precision": precision}))
        take(3)
        synchronize(device)
        peak = (torch.cuda.max_memory_allocated(device) - before) / 1e6
        yield Row("memory", f"{case}, precision {precision}", "peak of a job", peak, "MB", peak / weights, "weights")
        del take


def copies_of(name: str, device: torch.device, tiny: bool, clock: Clock) -> Iterator[Row]:
    """A step with rows that are on the device already, copied before each step, and copied one batch ahead."""
    network, rows, size, case = network_of(name, tiny)
    there = rows.index_select(torch.arange(size)).to(device)

    def resident(rows: Batch, parts: Sequence[Tensor], device: torch.device) -> Iterable[Batch]:
        return [there] * len(parts)

    def waiting(rows: Batch, parts: Sequence[Tensor], device: torch.device) -> Iterable[Batch]:
        return (rows.index_select(part).to(device) for part in parts)

    takers = {
        "rows on the device": our_steps(network, rows, size, device, resident),
        "copied when asked for": our_steps(network, rows, size, device, waiting),
        "copied one batch ahead (ours)": our_steps(network, rows, size, device),
    }
    for take in takers.values():
        take(2)
    each = 1 if tiny else 20
    once = sum(seconds_of(lambda take=take: take(each), device) for take in takers.values())
    times = take_turns(list(takers.values()), each, clock.rounds(once, 2, 2 if tiny else 20), device)
    for k, what in enumerate(takers):
        median, low, high = compare(times, k, 0)
        value = 1e3 * statistics.median(row[k] for row in times)
        yield Row("memory", f"{case}: {what}", "time of a step", value, "ms", median, "rows on the device", low, high)
