"""Checks of the caller's arguments: each error names the argument, its value and the fix, before anything is solved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

CHOICES = {"path": ("auto", "dense", "online"), "on_failure": ("warn", "raise", "ignore")}


def require_settings(tolerance: Any, max_iterations: Any, **choices: Any) -> None:
    """Refuse a tolerance or a number of iterations out of range, and unknown names among ``choices``."""
    require_positive("tolerance", tolerance)
    require_positive("max_iterations", max_iterations)
    for name, value in choices.items():
        require_choice(name, value, CHOICES[name])


def require_choice(name: str, value: Any, names: Iterable[str]) -> None:
    """Refuse a value that is none of the names.

    Args:
        name: the argument's name, for the error.
        value: the argument's value.
        names: the values that are allowed.

    Raises:
        ValueError: ``value`` is no string or not among ``names``.
    """
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"unknown {name} {value!r}: expected one of {', '.join(map(repr, names))}")


def require_positive(name: str, value: Any, or_zero: bool = False) -> None:
    """Refuse a value that is not a finite number above 0.

    Args:
        name: the argument's name, for the error.
        value: the argument's value.
        or_zero: whether 0 is allowed too.

    Raises:
        ValueError: ``value`` is no number, not finite, or out of range.
    """
    number = isinstance(value, float | int | Real) and not isinstance(value, bool)
    if not number or not (0 < float(value) < float("inf") or (or_zero and value == 0)):
        raise ValueError(f"{name} must be {'0 or ' * or_zero}a positive number, got {value!r}")


def require_whole(name: str, value: Any) -> None:
    """Refuse a value that is not a whole number of at least 1."""
    if not isinstance(value, int | Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def require_tensor(name: str, value: Any) -> Tensor:
    """Return ``value`` if it is a dense real tensor that the solver can differentiate; raise TypeError otherwise."""
    if not isinstance(value, Tensor):
        hint = ": torch.as_tensor makes one" if hasattr(value, "__len__") and not isinstance(value, str) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}{hint}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {value.layout}: {name}.to_dense() makes one")
    if value.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {value.dtype}")
    transformed = torch._C._functorch.is_functorch_wrapped_tensor  # torch has no public function for this
    if not torch.compiler.is_compiling() and transformed(value):
        raise TypeError(
            f"{name} is inside a transform of torch.func (grad, vmap, jvp, ...), which cannot trace the solver: "
            "use torch.autograd.grad in place of grad, leading dimensions in place of vmap"
        )
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(value).tangent is not None:  # type: ignore[no-untyped-call]
        raise TypeError(f"{name} carries a forward-mode tangent: transport is differentiable in reverse mode only")
    return value


def require_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity, and name the first position. One pass, a sum, suffices where all numbers are finite."""
    with torch.no_grad():
        if math.isfinite(tensor.float().sum().item()):
            return
        if place := find_first(~tensor.isfinite()):
            raise ValueError(f"{name} holds NaN or infinity, first at {place}")


def find_first(wrong: Tensor) -> tuple[int, ...]:
    """The index of the first True in a mask; () where there is none."""
    places = wrong.nonzero()
    return tuple(places[0].tolist()) if len(places) else ()


def require_masses(name: str, weight: Tensor) -> None:
    """Refuse masses (..., n) that are negative or not finite, or whose sum is 0 or not finite."""
    total = weight.sum(-1)
    bad = ~((total > 0) & (total < float("inf")))
    if (weight >= 0).all().item() and not bad.any().item():
        return
    wrong = ~(weight >= 0) | weight.isinf()
    if wrong.any().item():
        place = find_first(wrong)
        raise ValueError(f"{name} must be finite and non-negative, got {weight[place].item():g} at {place}")
    place = find_first(bad)
    where = f" in problem {place}" if place else ""
    raise ValueError(
        f"{name} must have a positive sum in the range of {weight.dtype}, got {total[place].item():g}{where}: leave "
        "problems without mass out, or divide the masses by a constant"
    )


def require_labels(value: Any, rows: int) -> Tensor:
    """Return the class codes, one for each of ``rows`` rows."""
    if tuple(require_tensor("labels", value).shape) != (rows,):
        raise ValueError(f"labels need one class code per row ({rows},), got {tuple(value.shape)}")
    return value  # type: ignore[no-any-return]


def require_clouds(x: Any, y: Any) -> None:
    """Refuse clouds of points between which no cost is defined."""
    one, two = require_tensor("x", x).shape, require_tensor("y", y).shape
    if x.ndim < 2 or y.ndim < 2 or one[-1] != two[-1] or one[:-2] != two[:-2]:
        shared = x.ndim > y.ndim == 2 and one[-1] == two[-1]
        hint = f"; one y for all problems is y.expand({', '.join(map(str, (*one[:-2], *two)))})" if shared else ""
        raise ValueError(
            f"x (..., n, d) and y (..., m, d) must agree in d and in leading dimensions, got {tuple(one)} and "
            f"{tuple(two)}{hint}"
        )
    for name, shape in (("x", one), ("y", two)):
        if not shape[-2]:
            raise ValueError(f"{name} has no points: its shape is {tuple(shape)}")
    if x.device != y.device:
        raise ValueError(f"x is on {x.device} and y on {y.device}: move one of them with .to")


def require_shape(name: str, value: Any, shape: Sequence[int], last: int = 0) -> Tensor:
    """Return a tensor that has a shape or can be expanded to it.

    Args:
        name: the argument's name, for the error.
        value: the argument's value.
        shape: the shape to expand to.
        last: number of last dimensions that must already agree.

    Returns:
        ``value``, not yet expanded.

    Raises:
        TypeError: ``value`` is not a dense real tensor.
        ValueError: its shape does not fit.
    """
    tensor = require_tensor(name, value)
    own = tensor.shape
    fits = len(own) <= len(shape) and all(s in (1, t) for s, t in zip(reversed(own), reversed(shape)))
    if not fits or (last and tuple(own[-last:]) != tuple(shape[-last:])):
        raise ValueError(f"{name} has shape {tuple(own)}, which does not fit {tuple(shape)}")
    return tensor


def require_potentials(potentials: Any, shapes: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return the potentials of an earlier result, one for each side."""
    if not isinstance(potentials, tuple | list) or len(potentials) != 2:
        raise TypeError(f"potentials is a pair of tensors, got {type(potentials).__name__}: pass result.potentials")
    for name, z, shape in zip(("potentials[0]", "potentials[1]"), potentials, shapes):
        if tuple(require_tensor(name, z).shape) != tuple(shape):
            raise ValueError(f"{name} has shape {tuple(z.shape)}; for these problems it is {tuple(shape)}")
        if not z.isfinite().all().item():
            raise ValueError(f"{name} holds NaN or infinity: start without potentials")
    return potentials[0], potentials[1]


def require_triple(name: str, given: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return three tensors: x-y, x-x, y-y."""
    if len(given) != 3:
        raise ValueError(f"{name} of a divergence is a triple of tensors (x-y, x-x, y-y), got {len(given)}")
    one, two, three = (require_tensor(f"{name}[{i}]", z) for i, z in enumerate(given))
    return one, two, three


def require_symmetric(name: str, cost: Tensor) -> None:
    """Refuse a cost of one side with itself that is not symmetric; three rows are compared with their columns."""
    if cost.ndim < 2 or cost.shape[-1] != cost.shape[-2]:
        return  # the solver refuses other shapes itself
    with torch.no_grad():
        for i in {0, cost.shape[-1] // 2, cost.shape[-1] - 1}:
            row, column = cost[..., i, :], cost[..., i]
            if ((row - column).abs() > 1e-3 * row.abs().amax(-1, keepdim=True)).any().item():
                raise ValueError(f"{name}, of a side with itself, must be symmetric: row and column {i} differ")


def describe_non_finite(**tensors: Tensor | None) -> str:
    """The sentence that explains why a cost is not finite: which argument holds NaN or infinity, or what overflows."""
    given = {name: tensor.detach() for name, tensor in tensors.items() if tensor is not None}
    for name, tensor in sorted(given.items(), key=lambda item: item[0] != "offset"):  # which a cost may contain
        wrong = ~tensor.isfinite()
        if wrong.any().item():
            hint = "" if name in ("x", "y") else "; a large finite cost forbids a pair"
            return f"{name} holds NaN or infinity, first at {find_first(wrong)}{hint}"
    if not given:
        return "the cost holds NaN or infinity"
    largest = max(tensor.abs().max().item() for tensor in given.values())
    kind = str(next(iter(given.values())).dtype).removeprefix("torch.")
    if "cost" in given:
        return (
            f"the mean of the cost is not finite, though the cost is (up to {largest:.1e}): its sum overflows {kind}. "
            "Divide the cost by a constant, or use float64"
        )
    return (
        f"the cost is not finite, though the input is (up to {largest:.1e}): it overflows {kind}, or a cost function "
        "divides by 0. Divide the points by a constant, or use float64"
    )
