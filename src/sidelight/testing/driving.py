"""Takes a method's steps as the training loop does, and says what went wrong."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import Parameter

from sidelight.data.batch import Batch
from sidelight.methods.base import Method, Step, TrainState
from sidelight.testing.subject import ContractError, require


def run_steps(
    method: Method, batch: Batch, rate: float = 0.05, kind: str = "a full batch"
) -> Iterator[tuple[Step, dict[str, Tensor]]]:
    """Take the method's steps as the loop does (plain gradient descent), yielding each with its group's gradients.

    Raises:
        ContractError: a step cannot be taken on the batch, which messages call `kind`.
    """
    method.train()
    groups = method.groups()
    try:
        yield from _run_steps(method, batch, rate, groups)
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(f"a step on {kind} fails: {named(error)}") from error


def named(error: Exception) -> str:
    """`ValueError: what it says`."""
    return f"{type(error).__name__}: {error}"


def _run_steps(
    method: Method, batch: Batch, rate: float, groups: dict[str, list[Parameter]]
) -> Iterator[tuple[Step, dict[str, Tensor]]]:
    for step in method.steps(batch, TrainState()):
        params = groups.get(step.group, [])
        grads = torch.autograd.grad(weighed(method, step), params, allow_unused=True)
        names = {id(p): name for name, p in method.named_parameters()}
        yield step, {names.get(id(p), "?"): g for p, g in zip(params, grads) if g is not None}
        with torch.no_grad():
            for p, g in zip(params, grads):
                if g is not None:
                    p.sub_(g, alpha=rate)


def weighed(method: Method, step: Step) -> Tensor:
    """The loss of a step, as the loop weighs it."""
    group = f"a step names the group {step.group!r}"
    require(bool(method.groups().get(step.group)), f"{group}, which has no parameter; groups: {list(method.groups())}")
    require(bool(step.terms), f"{group} and no term")
    for name, value in step.terms.items():
        require(isinstance(value, Tensor), f"term {name!r} is a {type(value).__name__}, not a tensor")
        require(value.dim() == 0, f"term {name!r} has shape {tuple(value.shape)}, not that of a scalar")
    loss = torch.stack([method.weights.get(name, 1.0) * value for name, value in step.terms.items()]).sum()
    require(loss.requires_grad, f"{group}, but its terms {list(step.terms)} depend on no trainable parameter")
    return loss


def state_of(method: Method) -> dict[str, Tensor]:
    """A copy of every parameter and buffer by its name."""
    return {name: value.detach().clone() for name, value in method.state_dict().items()}
