"""Fills in the settings that depend on the data, and checks that the experiment can work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.data.rows import is_lazy
from sidelight.errors import ConfigError, DataError, unknown
from sidelight.methods import MethodSpec, check_options, parse_methods
from sidelight.protocols import resolve_protocol
from sidelight.tasks import asked_task


def resolve(config: Config, dataset: Dataset) -> Config:
    """Fill in every default that depends on the data.

    Raises:
        ConfigError, DataError: settings that cannot work together, or with these data.
    """
    available, privileged = dataset.resolve(config.available, config.privileged)
    (_check_subsets if config.student.drop else _check_available)(config, dataset, available)
    budgets = list(config.label_groups) or list(dataset.default_modalities.get("label_groups", [])) or [1.0]
    output = config.output or str(Path("runs") / dataset.name)
    config = replace(
        config,
        available=list(available),
        privileged=list(privileged),
        protocol=resolve_protocol(dataset, config.protocol),
        label_groups=budgets,
        impute="mean" if "mean" in (config.impute, dataset.impute) else "no",
        output=output,
    )
    _check_views(config, dataset)
    for setting in ("encoders", "weights"):
        for m in getattr(config.network, setting):
            if m not in dataset.inputs:
                raise ConfigError(f"network.{setting}: {unknown('modality', m, dataset.inputs)}")
    if config.student.freeze and config.student.init == "random":
        raise ConfigError("student.freeze keeps encoders as the teacher left them; it needs student.init=teacher.")
    if config.teacher.crossfit:  # a row's name says what was run
        config = replace(
            config,
            methods=_crossfitted(config.methods),
            placebo=_crossfitted(config.placebo),
            self_distillation=_crossfitted(config.self_distillation),
        )
    task = asked_task(config, dataset)
    check_options(config)
    shapes = {m: dataset.shape(m) for m in (*available, *privileged)}
    specs = parse_methods(config.methods)
    for spec in specs.values():
        spec.check(config, task, shapes)
    _check_self_distillation(config, specs)
    return config


def _check_self_distillation(config: Config, specs: Mapping[str, MethodSpec]) -> None:
    """A baseline as the teacher needs a method whose teacher it can replace."""
    reasons = {name: spec.no_self_distillation for name, spec in specs.items()}
    for name in config.self_distillation:
        if reasons.get(name):
            raise ConfigError(f"self_distillation: {name!r} {reasons[name]}. Leave it out there.")
    if "none" not in config.self_distillation and all(reasons.values()):
        listed = "; ".join(f"{name!r} {reason}" for name, reason in reasons.items())
        raise ConfigError(f"self_distillation: no method can have it: {listed}. Set self_distillation=none.")


def _check_views(config: Config, dataset: Dataset) -> None:
    """Of a class per pixel, label maps and all images have to be seen in the same view."""
    if not (dataset.size and config.augment.moves):
        return
    rows = {repr(m): dataset.inputs[m] for m in (*config.available, *config.privileged)}
    for what, x in {**rows, "the target": dataset.target}.items():
        pixels = x.ndim >= 4 or what == "the target"
        if pixels and not (is_lazy(x) and x.kind.lazy):
            raise ConfigError(
                f"{dataset.name} has a class per pixel, so augmentation needs image files; {what} is an array: leave "
                "augment.crop and augment.flip as they are, or give image files (a prepared folder)."
            )


def _crossfitted(names: Sequence[str]) -> list[str]:
    def named(name: str) -> str:
        whole = name in ("best", "all", "none") or "@" in name or MethodSpec.parse(name).multi_stage
        return name if whole else f"{name}@crossfit"

    return list(dict.fromkeys(map(named, names)))


def _check_available(config: Config, dataset: Dataset, available: Sequence[str]) -> None:
    """A deployed student reads its modalities in every row, so a row without one is an error unless it is imputed."""
    for m in available:
        missing = np.flatnonzero(~dataset.present[m])
        if len(missing) and dataset.impute == "no":
            raise DataError(
                f"{dataset.name}: {m!r} is available, but {dataset.row(int(missing[0]))} lacks it ({len(missing)} rows "
                "do). Give the values, leave the rows out, fill them with the train rows' mean (--impute mean), or "
                "train one student for any subset of the modalities (student.drop=0.3)."
            )


def _check_subsets(config: Config, dataset: Dataset, available: Sequence[str]) -> None:
    """A student for any subset needs at least two modalities, and of every row at least one of them."""
    if len(available) < 2:
        raise ConfigError(
            f"student.drop leaves available modalities out, but there is only {available[0]!r}. Name another one in "
            "available, or set student.drop=0."
        )
    nothing = np.flatnonzero(~np.any([dataset.present[m] for m in available], axis=0))
    if len(nothing):
        raise DataError(
            f"{dataset.name}: {dataset.row(int(nothing[0]))} has none of the available modalities "
            f"{', '.join(available)} ({len(nothing)} such rows). Leave these rows out."
        )
