"""Several models of one structure as one: stacked weights, which `torch.vmap` runs, and one optimizer over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim

from sidelight.data.batch import Batch
from sidelight.methods.base import Method
from sidelight.methods.teacher_outputs import CachedTensors, find_cached
from sidelight.training.stacked_rows import StackedBatch
from sidelight.utils.stacking import Streams, stacked

NARROW = 16
"""Outputs of a layer from which on its weights are stored transposed."""


class StackedModels:
    """The weights of M methods of one structure, stacked along a leading dimension.

    The weights of each method are views of the stacked ones while it is part of the stack: an update of the stack is an
    update of every method.

    Args:
        methods: the methods, which differ in the values of tensors alone.
    """

    def __init__(self, methods: Sequence[Method]):
        self.methods = list(methods)
        self.template = self.methods[0]
        cached = {id(value) for method in methods for part in find_cached(method) for value in part.buffers()}
        self.parameters: dict[str, Tensor] = {}
        self.flipped: set[str] = set()
        for name, p in self.template.named_parameters():
            weights = _stack([method.get_parameter(name) for method in methods])
            # Matrices are stored transposed, because the gradients of a batched product come out so: torch's fused
            # optimizers need gradients with the strides of the weights, and copying them takes a tenth of a step. Those
            # of a few outputs are not: batched products with so narrow a second matrix are several times slower.
            if weights.dim() == 3 and weights.shape[1] >= NARROW:
                self.flipped.add(name)
            self.parameters[name] = self._flip(name, weights).contiguous().requires_grad_(p.requires_grad)
        self.buffers: dict[str, Tensor] = {}
        for name, value in self.template.named_buffers():
            if id(value) not in cached:
                self.buffers[name] = _stack([method.get_buffer(name) for method in methods])
        self.slots = [_find_slot(self.template, name) for name in (*self.parameters, *self.buffers)]
        self.cached = [CachedRows(list(parts)) for parts in zip(*(find_cached(method) for method in methods))]
        self.members = list(range(len(methods)))
        self._share()

    def _share(self) -> None:
        """Make the weights of every method views of the stacked ones."""
        for place, i in enumerate(self.members):
            for name, value in self.parameters.items():
                self.methods[i].get_parameter(name).data = self._flip(name, value.data)[place]
            for name, value in self.buffers.items():
                self.methods[i].get_buffer(name).data = value[place]

    def _flip(self, name: str, x: Tensor) -> Tensor:
        """A stack of weights between the shape in which it is stored and that of its layers."""
        return x.mT if name in self.flipped else x

    def call(
        self,
        function: str,
        batch: StackedBatch,
        streams: Streams,
        *args: Any,
        places: Sequence[int] | None = None,
    ) -> Any:
        """Call a function of the template for every model of the stack, with one batch each.

        Args:
            function: the name of a function of `Method` whose first argument is a batch.
            batch: a batch for each model.
            streams: the sources of random numbers.
            args: further arguments, the same for all models.
            places: the positions in the stack of the models to call; by default all.

        Returns:
            What the function returns; its tensors have a leading dimension.
        """
        weights = [self._flip(name, value) for name, value in self.parameters.items()] + list(self.buffers.values())
        members = self.members
        if places is not None and len(places) < len(members):
            chosen = torch.tensor(places)
            weights = [value.detach()[chosen] for value in weights]
            members = [members[place] for place in places]
        tasks = self._stack_task(members)
        index, first = batch.fields["index"], torch.tensor(members)
        rows = [cached.gather(function, index, first) for cached in self.cached]

        # `functional_call` would do this too, but takes as long as the forward pass of a small network.
        def run(
            weights: list[Tensor],
            fields: dict[str, Any],
            drawn: list[Tensor],
            tasks: dict[str, Tensor],
            rows: list[dict[str, Tensor]],
        ) -> Any:
            streams.drawn, streams.asked = drawn, []
            for (registered, name), value in zip(self.slots, weights):
                registered[name] = value
            for cached, own_rows in zip(self.cached, rows):
                cached.point(function, own_rows)
            vars(self.template.task).update(tasks)
            return getattr(self.template, function)(Batch(**fields), *args)

        own = [registered[name] for registered, name in self.slots]
        task, settings = self.template.task, vars(self.template.task).copy()
        try:
            with stacked(streams):
                return torch.vmap(run)(weights, batch.fields, streams.draw(batch.sizes), tasks, rows)
        finally:
            for (registered, name), value in zip(self.slots, own):
                registered[name] = value
            for cached in self.cached:
                cached.release()
            vars(task).update(settings)

    def _stack_task(self, members: Sequence[int]) -> dict[str, Tensor]:
        """The tensors of the task (a regression's units), which differ between folds."""
        tasks = [vars(self.methods[i].task) for i in members]
        return {name: _stack([t[name] for t in tasks]) for name, x in tasks[0].items() if isinstance(x, Tensor)}

    def remove(self, leaving: Sequence[int], optimizers: Sequence[optim.Optimizer]) -> None:
        """Take models out of the stack; their methods keep their weights.

        Args:
            leaving: the numbers of the methods.
            optimizers: hold the stacked parameters; the others' state in them is kept.
        """
        for i in leaving:
            for value in (*self.methods[i].parameters(), *self.methods[i].buffers()):
                value.data = value.data.clone(memory_format=torch.contiguous_format)
        places = torch.tensor([place for place, i in enumerate(self.members) if i not in leaving], dtype=torch.int64)
        self.members = [i for i in self.members if i not in leaving]
        if not self.members:
            return
        replaced: dict[Tensor, Tensor] = {}
        for name, value in self.parameters.items():
            replaced[value] = self.parameters[name] = value.detach()[places].requires_grad_(value.requires_grad)
        self.buffers = {name: value[places] for name, value in self.buffers.items()}
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [replaced[p] for p in group["params"]]
            for old, new in replaced.items():
                if old in optimizer.state:
                    state = optimizer.state.pop(old)
                    optimizer.state[new] = {
                        name: x[places] if isinstance(x, Tensor) and x.shape == old.shape else x
                        for name, x in state.items()
                    }
        self._share()


class CachedRows:
    """The cached outputs of every model's teacher, one after the other.

    The rows of a step are gathered before `torch.vmap`, where that takes an eighth of the time, if the function has
    read them in its first call.

    Args:
        parts: the cached tensors of each model.
    """

    START = "start"
    """Stands for the tensors in a first call, which is given the first row of the model."""

    def __init__(self, parts: Sequence[CachedTensors]):
        self.template = parts[0]
        rows = [part.all_rows for part in parts]
        counts = [len(next(iter(named.values()))) if named else 0 for named in rows]
        self.starts = torch.tensor([sum(counts[:i]) for i in range(len(counts))])
        self.tensors = {name: torch.cat([named[name] for named in rows]) for name in rows[0]}
        self.read: dict[str, bool] = {}

    def gather(self, function: str, index: Tensor, models: Tensor) -> dict[str, Tensor]:
        """The rows (M, B, …) that a function of these models reads; in its first call, which of them is not known.

        Args:
            function: the name of the function.
            index: (M, B) int64, `Batch.index` of each model.
            models: (M,) int64, their numbers.
        """
        starts = self.starts[models]
        if function not in self.read:
            return {self.START: starts}
        if not self.read[function]:
            return {}
        flat = (index + starts[:, None]).flatten()
        return {name: x.index_select(0, flat).view(*index.shape, *x.shape[1:]) for name, x in self.tensors.items()}

    def point(self, function: str, rows: dict[str, Tensor]) -> None:
        """Let the template read the rows of one model, as `gather` returned them."""
        start = rows.get(self.START)
        if start is None:
            self.template.stacked = lambda index: rows
            return
        first_row = start
        self.read[function] = False

        def take(index: Tensor) -> dict[str, Tensor]:
            self.read[function] = True
            return {name: x[index + first_row] for name, x in self.tensors.items()}

        self.template.stacked = take

    def release(self) -> None:
        """Let the template read its own rows again."""
        self.template.stacked = None


def _find_slot(module: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Where a module registers a parameter or buffer: the dictionary, and its key."""
    path, _, key = name.rpartition(".")
    owner = module.get_submodule(path)
    return (owner._parameters if key in owner._parameters else owner._buffers), key


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([x.detach() for x in tensors])
