"""Every method, task, fusion and encoder: a step, a prediction and an export on the pretend device are as on the CPU.

The method is built once, on the CPU, and copied to the device, in double precision. The default run has every method
once, and with them every task, fusion and kind of encoder; all of their combinations are run with `-m slow`.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from helpers.both_devices import compare
from helpers.pretend_device import CPU, PRETEND, sharing_the_cpu_stream
from helpers.small import fold_models, make_data, merged
from sidelight.data.batch import Batch
from sidelight.experiment.assemble import assemble
from sidelight.experiment.context import JobContext
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.export import Student, load_student
from sidelight.methods import CONTROLS, METHODS, DistillationLoss, Method, MethodSpec, Supervised, Teacher, TrainState
from sidelight.methods.teacher_outputs import OnlineOutputs
from sidelight.networks.fusions import FUSIONS, MAP_FUSIONS
from sidelight.networks.network import Network, Output, predict_in_chunks
from sidelight.tasks import TASKS, Task
from sidelight.training.loop import TrainingLoop

pytestmark = [
    pytest.mark.filterwarnings("ignore:k=.* anchors:UserWarning"),
    pytest.mark.filterwarnings("ignore:network.fusion=.* attends over time:UserWarning"),
]
ENCODERS = ("auto", "statistics", "mlp", "resnet18")
MAP_ENCODERS = ("auto", "resnet18", "resnet34-pyramid")
SUMS = ("pkdot+kl", "mse+cosine@crossfit")


class Case(NamedTuple):
    """A method in an experiment."""

    method: str
    task: str
    fusion: str
    encoder: str
    variant: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, self))


def suits(method: str, task: str) -> bool:
    return method in CONTROLS or all(
        METHODS[term].supports_task(TASKS[task]) for term in MethodSpec.parse(method).terms
    )


def every_case() -> Iterator[Case]:
    for method in (*CONTROLS, *METHODS, *SUMS):
        for task in TASKS:
            if suits(method, task):
                maps = task == "segmentation"
                for fusion in MAP_FUSIONS if maps else FUSIONS:
                    for encoder in MAP_ENCODERS if maps else ENCODERS:
                        yield Case(method, task, fusion, encoder, method if method == "mmanet" else "")


CASES = list(every_case())


def quick(case: Case) -> bool:
    """Whether the networks are small; test_networks.py has each of the large ones once."""
    return case.encoder in (ENCODERS[:1] if case.task == "segmentation" else ENCODERS[:3])


def chosen_cases() -> list[Case]:
    """Every method once, each time with the task, fusion and encoder that were met least."""
    met: Counter[str] = Counter()
    chosen = []
    for method in dict.fromkeys(case.method for case in CASES):
        own = [case for case in CASES if case.method == method and quick(case)]
        chosen.append(min(own, key=lambda c: (met[c.task], met[c.fusion], met[c.encoder])))
        met.update(chosen[-1][1:4])
    return chosen


CHOSEN = chosen_cases()
VARIANTS: dict[str, dict[str, Any]] = {
    "any subset of the modalities": {
        "available": ["phone", "watch"],
        "privileged": ["pulse"],
        "student": {"drop": 0.4},
    },
    "mmanet": {**METHODS["mmanet"].check_study, "options": {"mmanet": {"begin": 0}}},
    "several teachers": {"teacher": {"sets": ["each"]}},
    "t-nets": {"student": {"hallucinate": "t-net"}},
    "hallucination networks": {"student": {"hallucinate": "encoder"}},
    "frozen encoders": {"student": {"freeze": True}},
    "balanced by ratio": {"balance": {"kind": "target-ratio"}},
    "balanced by gradients": {"balance": {"kind": "gradnorm"}},
    "rates of parts": {"training": {"learning_rates": {"head": 0.1}}},
}
"""Settings of an experiment that change what a step computes."""
VARIED = {
    "classification": [Case("pkdot+kl", "classification", "concat", "auto", variant) for variant in VARIANTS],
    "regression": [Case("mse", "regression", "concat", "auto", variant) for variant in VARIANTS],
}


def test_the_default_run_meets_everything():
    assert {case.method for case in CHOSEN} == {*CONTROLS, *METHODS, *SUMS}
    assert {case.task for case in CHOSEN} == set(TASKS)
    assert {case.fusion for case in CHOSEN} == {*FUSIONS, *MAP_FUSIONS}
    assert {case.encoder for case in CHOSEN} == {case.encoder for case in CASES if quick(case)}


@cache
def models(task: str, fusion: str, encoder: str, variant: str = "") -> FoldModels:
    """Networks that are trained for one epoch, with features of several time steps where a fusion attends over them."""
    kind = TASKS[task].kind
    fixed_length = {} if encoder in ("auto", "statistics") else {"lengths": {}}
    data = make_data(kind, n=96, **fixed_length)
    if task == "anti-spoofing":
        data = replace(data, target=data.target.clip(0, 1), class_names=("attack", "real"))
    tokens = 1 if fusion == "concat" or kind == "segmentation" else 3
    changes: dict[str, Any] = {
        "task": task,
        "live": "real" if task == "anti-spoofing" else "",
        "privileged": ["watch"] if fusion == "squeeze-excitation" else ["watch", "pulse"],  # it adds maps alone
        "methods": ["mse" if kind == "regression" else "kl"],
        "network": {"fusion": fusion, "encoder": encoder, "tokens": tokens},
        "training": {"epochs": 1},
    }
    folder = Path(mkdtemp(prefix="sidelight-devices-"))  # inside of pytest's own
    return fold_models(folder, data, **merged(changes, VARIANTS.get(variant, {})))


def build(case: Case) -> Method:
    """The method of the last stage, untrained."""
    made, job = models(*case[1:]), Job(case.method, "", 1.0, 0, 0)
    if job.spec is None:
        reads = made.data.modalities if case.method == "teacher" else made.data.available
        return Supervised(made.builder.network(reads), made.data.fit_task(1.0))
    return assemble(job.spec, JobContext(made, job))[0]


def train_and_use(case: Case, method: Method, place: torch.device, folder: Path) -> dict[str, Any]:
    """What a step, a prediction and an export give."""
    made, job = models(*case[1:]), Job(case.method, "", 1.0, 0, 0)
    method = copy.deepcopy(method).double().to(place)
    settings = replace(made.config.training, optimizer="sgd", momentum=0.9, learning_rate=0.05)
    rows = made.rows(job)
    with sharing_the_cpu_stream():
        loop = TrainingLoop(method, settings, len(rows), 1, made.config.balance, None, None, place)
        batch = rows.index_select(torch.arange(0, len(rows), 2)).materialize().to(torch.float64).to(place)
        if method.learns_from == "labelled":
            batch = batch.index_select(batch.labelled.nonzero()[:, 0])
        terms = []
        for group, values in method.train().steps(batch, TrainState()):
            loop.update(group, values, TrainState())
            terms.append({name: value.detach() for name, value in values.items()})
        network = method.deployed_network()
        assert {x.device for x in network.state_dict().values()} == {place}
        test = made.rows(job, "select").materialize().to(torch.float64)
        answers = predict_in_chunks(network, test, test.index, made.data.fit_task(1.0).compact_answer)
        assert answers.device == CPU
    task = made.data.fit_task(1.0)
    student = Student(network, made.data.preprocessor, task, {"method": case.method})
    file = student.save(folder / f"{place.type}.safetensors")
    stored = load_student(file).network.state_dict()
    return {"terms": terms, "state": dict(method.state_dict()), "answers": answers, "stored": stored}


def check(case: Case, folder: Path) -> None:
    method = build(case)
    here, there = (train_and_use(case, method, place, folder) for place in (CPU, PRETEND))
    for x in there["stored"].values():
        assert x.device == CPU
    compare(here, there, rtol=1e-6, atol=1e-7)
    assert any(isinstance(x, Tensor) and x.device.type == "pretend" for x in there["state"].values())


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_a_step_a_prediction_and_an_export(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.parametrize("case", VARIED["classification"], ids=str)
def test_settings_that_change_a_step(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", VARIED["regression"], ids=str)
def test_settings_that_change_a_step_of_a_regression(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.parametrize("method", [pytest.param("mse", marks=pytest.mark.slow), "mse@crossfit"])
def test_teachers_whose_maps_do_not_fit_into_memory(method, tmp_path, monkeypatch):
    monkeypatch.setattr("sidelight.experiment.teachers.MAPS_IN_MEMORY", 0)
    case = Case(method, "segmentation", "concat", "auto", "teachers that run in every step")
    assert isinstance(build(case).teachers[""].outputs, OnlineOutputs)
    check(case, tmp_path)


class KeepsACPUBuffer(DistillationLoss):
    """A loss that holds a tensor which does not move with it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(3)

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return ((student.prediction - teacher.prediction) * self.scale).square().mean()


class MakesACPUTensor(DistillationLoss):
    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        weight = torch.linspace(0, 1, len(batch))
        return ((student.prediction - teacher.prediction).square().mean(1) * weight).mean()


class RemembersRowsOnTheCPU(DistillationLoss):
    """A loss whose memory of the teacher is no buffer."""

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        self.memory = teacher.outputs.all_rows.prediction.clone()

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return (student.prediction - self.memory[batch.index]).square().mean()


class WantsNumpy(DistillationLoss):
    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return student.prediction.mean() * float(teacher.prediction.numpy().mean())


@pytest.mark.parametrize("broken", [KeepsACPUBuffer, MakesACPUTensor, RemembersRowsOnTheCPU, WantsNumpy])
def test_a_method_that_mixes_devices_is_seen(broken, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "broken", broken)
    case = Case("broken", "classification", "concat", "auto")
    train_and_use(case, build(case), CPU, tmp_path)
    with pytest.raises((RuntimeError, TypeError), match=r"same device|numpy"):
        check(case, tmp_path)


class DrawsElsewhere(DistillationLoss):
    """A loss that is another function on the device."""

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return student.prediction.square().mean() * (1 + 1e-3 * (student.prediction.device.type != "cpu"))


def test_a_method_that_computes_something_else_is_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "broken", DrawsElsewhere)
    with pytest.raises(AssertionError, match="not close"):
        check(Case("broken", "classification", "concat", "auto"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case not in CHOSEN], ids=str)
def test_every_combination(case, tmp_path):
    check(case, tmp_path)
