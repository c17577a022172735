"""Trains several methods of one structure as one batched model, as if each were trained alone.

Each model has its own rows, order of rows, dropout masks, early stopping and best weights. Models take their steps
together, so they have always taken equally many, but each counts its own epochs, because folds differ in size. A model
that is finished leaves the stack at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sidelight.config import BalanceConfig, TrainingConfig
from sidelight.errors import RunError
from sidelight.methods.base import TrainState
from sidelight.training.job import Trained, TrainingJob
from sidelight.training.loop import History, check_weights, compute_means, copy_state, draw_batches, is_finished
from sidelight.training.loss_weighting import build_loss_weighting
from sidelight.training.optimizers import (
    build_optimizer,
    build_scheduler,
    map_parameters_to_parts,
    step_schedulers,
)
from sidelight.training.pace import set_pace
from sidelight.training.stacked_models import StackedModels
from sidelight.training.stacked_rows import StackedBatch, StackedRows
from sidelight.utils.phases import phase
from sidelight.utils.stacking import Streams

ROWS_AT_ONCE = 1 << 14
"""Select rows of all models that are scored at once."""


@dataclass
class Member:
    """One model of a stack.

    Attributes:
        job: what is trained.
        rows: (N,) int64, the training rows that batches are drawn from.
        order: the source of the order of rows.
        dropout: the source of every other random number.
        history: the record of the training.
        best: the state of the best epoch.
        batches: the row numbers of the batches of this epoch.
        values: (terms,) the terms of each step of this epoch.
        seconds: the share of this model in the duration of this epoch.
        error: why the training of this model ended before its time; "" if it did not.
    """

    job: TrainingJob
    rows: Tensor
    order: torch.Generator
    dropout: torch.Generator
    best: dict[str, Tensor]
    history: History = field(default_factory=History)
    batches: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    def state_dict(self) -> dict[str, Any]:
        return {
            "order": self.order.get_state(),
            "dropout": self.dropout.get_state(),
            "best": self.best,
            "history": dict(vars(self.history)),
            "batches": self.batches,
            "values": self.values,
            "seconds": self.seconds,
            "watch": self.job.callback.state_dict() if self.job.callback else {},
            "error": self.error,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.order.set_state(state["order"])
        self.dropout.set_state(state["dropout"])
        self.best, self.history = state["best"], History(**state["history"])
        self.batches, self.values, self.seconds = state["batches"], state["values"], state["seconds"]
        self.error = state.get("error", "")  # earlier versions ended with the first
        if self.job.callback:
            self.job.callback.load_state_dict(state["watch"])


class StackedLoop:
    """The state of a stacked training, and how one step of all its models changes it.

    Args:
        jobs: what is trained; `find_obstacle` and `structure_of` say what can be stacked.
        settings: the optimisation budget.
        balance: the settings of the loss weighting.
    """

    def __init__(self, jobs: Sequence[TrainingJob], settings: TrainingConfig, balance: BalanceConfig):
        self.settings = settings
        self.members: list[Member] = []
        for job in jobs:
            rows = job.rows_to_draw()
            if len(rows) == 0:
                raise RunError(f"{job.name}: no labelled training row to learn from")
            # The streams of `TrainingLoop`.
            order = torch.Generator().manual_seed((job.seed + 1) % 2**63)
            dropout = torch.Generator().manual_seed(job.seed)
            self.members.append(Member(job, rows, order, dropout, copy_state(job.method.state_dict())))
        methods = [job.method for job in jobs]
        self.models = StackedModels(methods)
        self.train_rows = StackedRows([job.train_batch() for job in jobs])
        self.select_rows = StackedRows([job.select for job in jobs])
        self.weighting = build_loss_weighting(methods[0], balance)

        names = {p: name for name, p in methods[0].named_parameters()}
        parts = map_parameters_to_parts(methods[0]) if settings.learning_rates else {}
        own = methods[0].groups()["main"]
        self.trained = [names[p] for p in own]
        parameters: Any = [self.models.parameters[name] for name in self.trained]
        part_of: Any = {self.models.parameters[names[p]]: part for p, part in parts.items()}
        self.optimizer = build_optimizer(parameters, settings, part_of)
        steps = settings.epochs * set_pace(settings, jobs[0].rows_per_epoch).steps
        scheduler = build_scheduler(self.optimizer, settings, steps)
        self.schedulers = {} if scheduler is None else {"main": scheduler}
        self.streams = Streams()
        self.step = 0
        self.terms: list[str] = []

    @property
    def active(self) -> list[Member]:
        """The models that are still trained, in the order of the stack."""
        return [self.members[i] for i in self.models.members]

    def start(self) -> None:
        """Show every untrained model to its callback."""
        for member in self.members:
            if member.job.callback:
                member.job.callback(member.job.method, 0)

    @phase("train: batches, networks, losses")
    def take_step(self) -> None:
        """Take one step of every model; score those that end their epoch, and remove those that are finished."""
        start = time.perf_counter()
        for member in self.active:
            if not member.batches:
                size, count = set_pace(self.settings, member.job.rows_per_epoch)
                folds = member.job.teacher_fold if member.job.method.within_teacher_folds else None
                classes = member.job.classes_to_draw(self.settings)
                member.batches = draw_batches(member.rows, folds, size, member.order, count, classes)
        self._update()

        done = [place for place, member in enumerate(self.active) if len(member.values) == len(member.batches)]
        scored = [place for place in done if not self.active[place].job.scores]
        measured = dict(zip(scored, self._measure(scored))) if scored else {}
        share = (time.perf_counter() - start) / len(self.active)
        for member in self.active:
            member.seconds += share
        for place in done:
            member = self.active[place]
            try:
                self._end_epoch(member, measured.get(place))
            except RunError as error:  # of this model alone: no other depends on its numbers
                member.error = str(error)
        finished = [i for i in self.models.members if self._is_finished(self.members[i])]
        if finished:
            self.models.remove(finished, [self.optimizer])

    def _is_finished(self, member: Member) -> bool:
        return bool(member.error) or is_finished(member.history, self.settings, member.job.scores)

    def _update(self) -> None:
        """Take the gradients of all models, and update them."""
        members = self.active
        parts = [member.batches[len(member.values)] for member in members]
        batch = self.train_rows.gather(self.models.members, parts)
        state = TrainState(len(members[0].history.epochs), self.settings.epochs, self.step)
        # An earlier stage may have left the network alone in evaluation mode, which the method's flag does not show.
        if not self.models.template.training or self.streams.shapes is None:
            self.models.template.train()
        self.streams.generators = [member.dropout for member in members]
        if self.streams.shapes is None:
            self._ask_shapes(batch, state)
        terms: dict[str, Tensor] = self.models.call("terms", batch, self.streams, state)
        # The sum over models: no model's terms depend on the weights of another.
        self._descend(self.weighting.combine(terms, state))
        step_schedulers(self.schedulers)
        self.step += 1

        self.terms = list(terms)
        for member, values in zip(members, torch.stack(list(terms.values()), 1).detach()):
            member.values.append(values)

    @phase("train: gradients, updates")
    def _descend(self, loss: Tensor) -> None:
        """Take the optimizer's step along the gradient of a loss."""
        trained = [self.models.parameters[name] for name in self.trained]
        for p, g in zip(trained, torch.autograd.grad(loss, trained, allow_unused=True)):
            # torch's fused optimizers read gradients as if they had the strides of the weights.
            p.grad = None if g is None else g.contiguous()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _ask_shapes(self, batch: StackedBatch, state: TrainState) -> None:
        """Run the terms once to learn which random numbers a step draws; counters of steps are set back."""
        before = {name: value.clone() for name, value in self.models.buffers.items()}
        self.models.call("terms", batch, self.streams, state)
        self.streams.shapes = self.streams.asked
        for name, value in before.items():
            self.models.buffers[name].copy_(value)

    @phase("score epochs on select rows")
    @torch.no_grad()
    def _measure(self, places: list[int]) -> list[Tensor]:
        """`Method.measure` of some models on their select rows."""
        numbers = [self.models.members[place] for place in places]
        counts = [len(self.members[i].job.select) for i in numbers]
        batch = self.select_rows.gather(numbers, [torch.arange(n) for n in counts])
        self.models.template.eval()
        measured: Tensor = self.models.call("measure", batch, Streams(), places=places)
        return [x[:n] if x.dim() else x for x, n in zip(measured, counts)]

    def _end_epoch(self, member: Member, answers: Tensor | None) -> None:
        """Score a model at the end of its epoch, and keep its weights if the score is the best.

        Args:
            member: the model.
            answers: what it answers on its select rows; None if inner trainings have measured its scores.
        """
        number, method = len(member.history.epochs) + 1, member.job.method
        means = compute_means(dict(zip(self.terms, torch.stack(member.values).unbind(1))), number)
        check_weights(method, number)
        known = member.job.scores
        score = known[number - 1] if answers is None else method.score_measured(answers, member.job.select)
        member.history.add(number, score, means, member.seconds)
        if member.history.best_epoch == number:
            member.best = copy_state(method.state_dict())
        member.history.seconds += member.seconds
        member.batches, member.values, member.seconds = [], [], 0.0
        if member.job.callback:
            member.job.callback(method, number)
        if member.job.observer:
            member.job.observer(member.history)

    def finish(self) -> list[Trained]:
        """Leave every method with the weights of its best epoch; returns the record of each training."""
        for member in self.members:
            member.job.method.load_state_dict(member.best)
            member.job.method.eval()
        size = len(self.members)
        return [Trained(replace(m.history, stacked=size), m.dropout.get_state(), m.error) for m in self.members]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            "names": [member.job.name for member in self.members],
            "active": list(self.models.members),
            "parameters": {name: x.detach() for name, x in self.models.parameters.items()},
            "buffers": self.models.buffers,
            "optimizer": self.optimizer.state_dict(),
            "schedules": {name: scheduler.state_dict() for name, scheduler in self.schedulers.items()},
            "step": self.step,
            "terms": self.terms,
            "members": [member.state_dict() for member in self.members],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`."""
        left = [i for i in self.models.members if i not in state["active"]]
        if left:
            self.models.remove(left, [self.optimizer])
        if self.models.members:
            for name, value in (*self.models.parameters.items(), *self.models.buffers.items()):
                kept = state["parameters"].get(name, state["buffers"].get(name))
                value.data.copy_(kept)
            self.optimizer.load_state_dict(state["optimizer"])
            for name, scheduler in self.schedulers.items():
                scheduler.load_state_dict(state["schedules"][name])
        self.step, self.terms = state["step"], state["terms"]
        for member, kept in zip(self.members, state["members"]):
            member.load_state_dict(kept)
