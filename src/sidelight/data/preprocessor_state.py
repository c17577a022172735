"""The plans and statistics of a `Preprocessor`: what is stored, copied and looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sidelight.data.by_modality import map_values
from sidelight.data.fitting import extract_features, fit_group_scaling
from sidelight.data.modality_plan import ModalityPlan
from sidelight.data.stored_rows import Values
from sidelight.errors import ConfigError, unknown

BUFFERS = ("fill", "mean", "scale")
CHOICES = {"standardize": ("train", "group"), "impute": ("no", "mean")}


class PreprocessorState(nn.Module):
    """Statistics as buffers (state_dict) and the structure as JSON (`to_config`).

    Args:
        plans: modality -> its preprocessing.
        standardize: "train" or "group".
        impute: "no" or "mean".
        groups: names of the groups with statistics of their own.
    """

    def __init__(
        self,
        plans: Mapping[str, ModalityPlan],
        standardize: str = "train",
        impute: str = "no",
        groups: Sequence[str] = (),
    ):
        super().__init__()
        for setting, value in (("standardize", standardize), ("impute", impute)):
            if value not in CHOICES[setting]:
                raise ConfigError(unknown(f"value of {setting}", value, CHOICES[setting]))
        self.plans = dict(plans)
        self.standardize, self.impute = standardize, impute
        self.groups = list(groups)
        # Buffers are numbered: a modality's name may be no valid name of an attribute. Row 0 holds the train rows'
        # statistics, row 1 + i those of group i.
        for i, plan in enumerate(self.plans.values()):
            rows = 1 + len(self.groups)
            width = plan.channels if plan.image else plan.output[-1]
            self.register_buffer(f"fill_{i}", torch.zeros(plan.channels))
            self.register_buffer(f"mean_{i}", torch.zeros(rows, width))
            self.register_buffer(f"scale_{i}", torch.ones(rows, width))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that it can read."""
        return tuple(self.plans)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> shape of a preprocessed row: (D,), (T, C), (C, H, W) or (C, T, H, W)."""
        return {m: plan.output for m, plan in self.plans.items()}

    @property
    def variable(self) -> tuple[str, ...]:
        """Modalities that are still variable-length signals after preprocessing."""
        return tuple(m for m, plan in self.plans.items() if plan.variable and not plan.statistics)

    def count_steps(self, lengths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Modality -> (B,) valid time steps after preprocessing, of those that are still variable-length signals.

        Args:
            lengths: modality -> (B,) valid time steps of raw rows.
        """
        return {m: self.plans[m].count_steps(n) for m, n in lengths.items() if m in self.variable}

    def subset(self, modalities: Iterable[str]) -> Self:
        """A copy that reads these modalities only, as a student carries it."""
        names = list(modalities)
        for m in names:
            self._index(m)
        copy = type(self)({m: self.plans[m] for m in names}, self.standardize, self.impute, self.groups)
        for m in names:
            for kind in BUFFERS:
                copy._get(kind, m).copy_(self._get(kind, m))
        return copy

    def to_config(self) -> dict[str, Any]:
        """The structure as JSON-able values; `from_config` and `load_state_dict` restore the preprocessor."""
        return {
            "modalities": map_values(ModalityPlan.to_config, self.plans),
            "standardize": self.standardize,
            "impute": self.impute,
            "groups": list(self.groups),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Restore the structure that `to_config` wrote; `load_state_dict` restores the values."""
        plans = map_values(ModalityPlan.from_config, config["modalities"])
        return cls(plans, config["standardize"], config["impute"], config["groups"])

    def _index(self, m: str) -> int:
        if m not in self.plans:
            raise ConfigError(unknown("modality", m, self.plans))
        return list(self.plans).index(m)

    def _get(self, kind: str, m: str) -> Tensor:
        buffer = getattr(self, f"{kind}_{self._index(m)}")
        assert isinstance(buffer, Tensor)
        return buffer

    def _get_default(self, m: str) -> tuple[Tensor, Tensor]:
        """(D,) mean and scale of the train rows."""
        return self._get("mean", m)[0], self._get("scale", m)[0]

    def _extract(self, m: str, x: Values, length: Tensor | None) -> Values:
        fill = self._get("fill", m)
        return extract_features(m, self.plans[m], x, length, fill if self.impute == "mean" else None)

    def _find_new_groups(self, names: NDArray) -> list[str]:
        return [g for g in np.unique(names).tolist() if g not in self.groups]

    def _get_scaling(
        self,
        m: str,
        x: Values,
        f: Values,
        length: Tensor | None,
        present: Tensor | None,
        group: Sequence[str] | NDArray | None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and scale that broadcast over the features f (B, …) of the raw rows x (B, …)."""
        mean, scale, which = self._list_scalings(m, x, f, length, present, group)
        if which is None:
            return mean[0], scale[0]
        # (B, D) or (B, 1, C) to broadcast over time steps; images take (B, C).
        shape = (len(f), *[1] * (f.dim() - 2 if f.dim() < 4 else 0), mean.shape[1])
        return mean[which].view(shape), scale[which].view(shape)

    def _list_scalings(
        self,
        m: str,
        x: Values,
        f: Values,
        length: Tensor | None,
        present: Tensor | None,
        group: Sequence[str] | NDArray | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """(K, D) means and (K, D) scales, and (B,) int64 which of them each row has; None: the first."""
        if self.standardize == "train" or self.plans[m].standard:
            return self._get("mean", m), self._get("scale", m), None
        if group is None:
            raise ConfigError("standardize='group' needs the group of every row; give group=…")
        mean, scale = self._get("mean", m), self._get("scale", m)
        names = np.asarray(group).astype(str)
        new = self._find_new_groups(names)
        if new:
            added = fit_group_scaling(self.plans[m], x, f, length, present, names, new, self._get_default(m))
            mean, scale = torch.cat([mean, added[0]]), torch.cat([scale, added[1]])

        code = {g: i for i, g in enumerate([*self.groups, *new], 1)}
        return mean, scale, torch.tensor([code[g] for g in names.tolist()], device=mean.device)
