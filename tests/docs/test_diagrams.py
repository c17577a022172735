"""The pictures of the methods: every method has one, and what it shows is what the code reads and trains."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from _site import diagram, networks

from helpers.slow import mostly_slow
from helpers.support import AVAILABLE, standalone_subject
from sidelight.methods import METHODS, DistillationLoss, MultiStageMethod, TrainState
from sidelight.networks.network import Output
from sidelight.testing import make_subject
from sidelight.testing.subjects import tasks_of

LOSSES = [name for name, kind in METHODS.items() if issubclass(kind, DistillationLoss)]
STAGED = [name for name, kind in METHODS.items() if issubclass(kind, MultiStageMethod)]


class Watched:
    """The outputs of a network, which note which of them are read."""

    def __init__(self, output: Output, name: str, read: set[tuple[str, str]]):
        self.output, self.name, self.read = output, name, read

    def note(self, place: str) -> None:
        self.read.add((self.name, place))

    @property
    def prediction(self):
        self.note("prediction")
        return self.output.prediction

    @property
    def fused(self):
        self.note("embedding")
        return self.output.fused

    @property
    def embedding(self):
        self.note("embedding")
        return self.output.embedding

    def vector(self, slot: str):
        self.note("available" if slot in AVAILABLE else "slot" if self.name == "student" else "privileged")
        return self.output.vector(slot)


def task_for(name: str) -> str:
    return next(task for task in ("classification", "regression") if task in tasks_of(name))


def test_every_method_has_a_picture_that_can_be_read():
    assert list(networks.facts()) == list(METHODS)
    for name in METHODS:
        made = diagram.draw(networks.describe(name))
        assert "\n\n" not in made  # Markdown would end the figure there
        svg = ElementTree.fromstring(made).find("svg")
        width, height = map(float, svg.get("viewBox").split()[2:])
        assert svg.get("aria-label").startswith(f"{name}. The ")
        for box in svg.iter("rect"):
            x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
            assert 0 <= x <= x + w <= width, name
            assert 0 <= y <= y + h <= height, name


@pytest.mark.filterwarnings("ignore:k=30 anchors exceed")
@pytest.mark.parametrize("name", LOSSES)
def test_a_term_stands_between_the_outputs_that_it_reads(name):
    method = make_subject(name, task_for(name), "complete").factory(torch.float32)
    batch = make_subject(name, task_for(name), "complete").rows
    read: set[tuple[str, str]] = set()
    (teacher,) = method.teachers.values()
    outputs = Watched(method.student(batch), "student", read), Watched(teacher(batch), "teacher", read)
    value = method.parts[name](*outputs, batch, method.task)
    terms = networks.describe(name).terms
    shown = {place for term in terms for place in (*term.sources, *term.targets, *term.also) if place[0] != "labels"}
    assert shown == read
    assert {term.name for term in terms} == (set(value) if isinstance(value, dict) else {name})


@pytest.mark.parametrize("name", mostly_slow(STAGED, ("mmanet", "c2kd")))
def test_the_terms_of_the_last_stage_are_those_of_the_picture(name):
    subject = standalone_subject(name, task_for(name), "complete")
    method = subject.factory(torch.float32)
    steps = list(method.steps(subject.rows, TrainState(epoch=40, epochs=50)))
    apart = {"discriminate"} if name == "amid" else set()  # the discriminators' own, of which the note speaks
    completion = {"complete"}  # of `student.drop`
    said = {term for step in steps for term in step.terms} - {"task"} - apart - completion
    said = {re.sub(r"^(translate) .*", r"\1", term) for term in said}  # one for each modality
    assert said == {term.name for term in networks.describe(name).terms if not term.earlier}


@pytest.mark.parametrize("name", LOSSES)
def test_what_fills_the_slots_is_what_the_class_says(name):
    student = networks.describe(name).lanes[-1]
    assert (student.name, student.deployed, student.slot) == ("student", True, METHODS[name].hallucinates)


@pytest.mark.parametrize("name", STAGED)
def test_slots_of_methods_of_several_stages_are_those_of_the_class(name):
    student = networks.describe(name).lanes[-1]
    assert bool(student.slot) == bool(METHODS[name].hallucinates)
    if METHODS[name].hallucinates == "t-net":
        assert student.slot == "t-net"
