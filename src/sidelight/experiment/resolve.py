"""Fills in the settings that depend on the data, and checks the experiment before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.data.detrend import check_detrend
from sidelight.data.rows import is_lazy
from sidelight.errors import ConfigError, DataError, unknown
from sidelight.methods import MethodSpec, check_options, parse_methods
from sidelight.protocols import resolve_protocol
from sidelight.results.between import split_terms
from sidelight.results.budget import REFERENCES, WARM_START
from sidelight.tasks import resolve_task
from sidelight.training.compiling import check_compile
from sidelight.training.precision import check_precision
from sidelight.utils.device import choose_device


def resolve(config: Config, dataset: Dataset) -> Config:
    """Fill in every default that depends on the data.

    Raises:
        ConfigError, DataError: the settings are incompatible with each other or with the data.
    """
    device = choose_device(config.training.device)
    check_precision(config.training.precision, device)
    check_compile(config.training, device)
    available, privileged = dataset.resolve(config.available, config.privileged)
    if config.student.drop:
        _check_subsets(config, dataset, available)
    else:
        _check_available(config, dataset, available)

    # The settings come first, then the defaults of the data set.
    budgets = list(config.label_fraction) or list(dataset.default_modalities.get("label_fraction", [])) or [1.0]
    output = config.output or str(Path("runs") / dataset.name)
    config = replace(
        config,
        available=list(available),
        privileged=list(privileged),
        protocol=resolve_protocol(dataset, config.protocol),
        label_fraction=budgets,
        impute="mean" if "mean" in (config.impute, dataset.impute) else "no",
        output=output,
    )

    _check_views(config, dataset)

    for setting in ("encoders", "weights"):
        for m in getattr(config.network, setting):
            if m not in dataset.inputs:
                raise ConfigError(f"network.{setting}: {unknown('modality', m, dataset.inputs)}")
    if config.student.freeze and config.student.init == "random":
        raise ConfigError("student.freeze freezes the encoders of the teacher; it needs student.init=teacher.")
    if config.teacher.crossfit:  # so that the names in the table show it
        config = replace(
            config,
            methods=_add_crossfit(config.methods),
            placebo=_add_crossfit(config.placebo),
            self_distillation=_add_crossfit(config.self_distillation),
        )

    if config.ablation:
        config = _add_parts(config)

    # Every method is checked now, so that an error costs no training of its teacher.
    task = resolve_task(config, dataset)
    config = replace(config, reference=_resolve_reference(config, task.name))
    check_options(config)
    shapes = {m: dataset.shape(m) for m in (*available, *privileged)}
    for m, kind in config.detrend.items():
        if m not in dataset.inputs:
            raise ConfigError(f"detrend: {unknown('modality', m, dataset.inputs)}")
        check_detrend(m, kind, dataset.shape(m))
    specs = parse_methods(config.methods)
    for spec in specs.values():
        spec.check(config, task, shapes)
    _check_self_distillation(config, specs)
    return config


def find_unsuited(config: Config, dataset: Dataset) -> dict[str, str]:
    """The methods of an experiment that the data set, its task or the settings do not allow -> why.

    Raises:
        ConfigError, DataError: the settings and the data do not fit whatever the method.
    """
    unsuited = {}
    for name in config.methods:
        try:
            resolve(replace(config, methods=[name], placebo=["none"], self_distillation=["none"]), dataset)
        except ConfigError as error:
            unsuited[name] = str(error)
    if len(unsuited) == len(config.methods):
        raise ConfigError(next(iter(unsuited.values())))
    return unsuited


def _check_self_distillation(config: Config, specs: Mapping[str, MethodSpec]) -> None:
    """Check that a baseline can replace the teacher of the methods whose self-distillation is asked for."""
    reasons = {name: spec.self_distillation_obstacle for name, spec in specs.items()}  # "" if it can
    for name in config.self_distillation:
        if reasons.get(name):
            raise ConfigError(f"self_distillation: {name!r} {reasons[name]}. Remove it from self_distillation.")
    if "none" not in config.self_distillation and all(reasons.values()):
        listed = "; ".join(f"{name!r} {reason}" for name, reason in reasons.items())
        raise ConfigError(f"self_distillation: no method supports it: {listed}. Set self_distillation=none.")


def _resolve_reference(config: Config, task_name: str) -> list[str]:
    """The reference rows that the task and the settings allow; a retrieval ranks by an embedding, which models lack."""
    names = [name for name in config.reference if task_name != "retrieval" or name in (WARM_START, "none")]
    if WARM_START in names and config.student.init == "random":
        raise ConfigError("reference: warm-start needs student.init=teacher: it starts from the teacher's weights.")
    if taken := [name for name in config.methods if name in REFERENCES]:
        raise ConfigError(f"methods: {taken[0]!r} is the name of a row of `reference`; register it by another name.")
    return names or ["none"]


def _check_views(config: Config, dataset: Dataset) -> None:
    """Check that a segmentation can crop and flip: label maps and images must have the same view."""
    if not (dataset.size and config.augment.moves):
        return
    arrays = {repr(m): dataset.inputs[m] for m in (*config.available, *config.privileged)}
    # Vectors and signals have no view.
    pixels = {what: x for what, x in arrays.items() if x.ndim >= 4}
    for what, x in {**pixels, "the target": dataset.target}.items():
        if not (is_lazy(x) and x.kind.lazy):
            raise ConfigError(
                f"{dataset.name}: augmentation needs image files; {what} is an array. Leave augment.crop and "
                "augment.flip at their defaults, or use image files (a prepared folder)."
            )


def _add_crossfit(names: Sequence[str]) -> list[str]:
    """Append "@crossfit" to the names of methods that can be cross-fitted."""

    def add(name: str) -> str:
        if name in ("best", "all", "none") or "@" in name or MethodSpec.parse(name).multi_stage:
            return name
        return f"{name}@crossfit"

    return list(dict.fromkeys(map(add, names)))


def _add_parts(config: Config) -> Config:
    """Add every sum without each of its terms to the methods, and all of them to the placebos.

    Raises:
        ConfigError: no method is a sum.
    """
    known = {split_terms(name): name for name in config.methods}
    ablated: list[str] = []
    for name in config.methods:
        terms, how = split_terms(name)
        ordered = name.partition("@")[0].split("+")
        if len(terms) < 2:
            continue
        ablated.append(name)
        for term in ordered:
            rest = "+".join(other for other in ordered if other != term) + (f"@{how}" if how else "")
            ablated.append(known.setdefault((terms - {term}, how), rest))
    if not ablated:
        raise ConfigError("ablation: no method is a sum such as pkdot+kl, so there is no term to leave out.")
    placebo = config.placebo
    if not {"all", "none"} & {*placebo}:
        placebo = list(dict.fromkeys([*placebo, *ablated]))
    return replace(config, methods=list(dict.fromkeys([*config.methods, *ablated])), placebo=placebo)


def _check_available(config: Config, dataset: Dataset, available: Sequence[str]) -> None:
    """Check that every row has every available modality, unless missing ones are imputed."""
    for m in available:
        missing = np.flatnonzero(~dataset.present[m])
        if len(missing) and dataset.impute == "no":
            raise DataError(
                f"{dataset.name}: {m!r} is available, but {dataset.row(int(missing[0]))} lacks it ({len(missing)} rows "
                "do). Add the values, leave the rows out, fill them with the train rows' mean (--impute mean), or "
                "train one student for any subset of the modalities (student.drop=0.3)."
            )


def _check_subsets(config: Config, dataset: Dataset, available: Sequence[str]) -> None:
    """Check the data of a student for any subset: at least two modalities, and at least one of them in every row."""
    if len(available) < 2:
        raise ConfigError(
            f"student.drop leaves available modalities out, but there is only {available[0]!r}. Name another one in "
            "available, or set student.drop=0."
        )
    empty = np.flatnonzero(~np.any([dataset.present[m] for m in available], axis=0))
    if len(empty):
        raise DataError(
            f"{dataset.name}: {dataset.row(int(empty[0]))} has none of the available modalities "
            f"{', '.join(available)} ({len(empty)} such rows). Leave these rows out."
        )
