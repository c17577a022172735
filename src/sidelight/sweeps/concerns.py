"""Which settings a sweep may change, and which networks a setting concerns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sidelight.config import Config
from sidelight.config.io import Setting, find
from sidelight.config.renamed import current_name
from sidelight.errors import ConfigError, unknown
from sidelight.methods import METHODS, MethodSpec
from sidelight.results.budget import BASELINE, TEACHER, WARM_START

ROWS = "says which rows there are and how they are read, which is the same for everything that a fold trains"
FOLDS = "draws the folds and their labels, so it cannot change inside of a fold"
HOW = "says where and how networks are trained, not what they learn"
COMPARED = "names what is compared: every method is swept by itself"
UNSWEPT = {
    **dict.fromkeys(("data", "available", "privileged", "target", "group", "split", "time", "task", "live"), ROWS),
    **dict.fromkeys(("ignore_index", "impute", "on_error", "longest", "standardize", "modalities", "table"), ROWS),
    "detrend": ROWS,
    **dict.fromkeys(("protocol", "gap", "folds", "select", "label_fraction", "select_labels"), FOLDS),
    **dict.fromkeys(("seed", "seeds"), FOLDS + "; seeds=3 repeats the whole sweep with three seeds"),
    **dict.fromkeys(("output", "jobs", "checkpoint_seconds", "max_failures", "tracking"), HOW),
    **{f"training.{name}": HOW for name in ("device", "stack", "deterministic", "compile", "accumulate")},
    **dict.fromkeys(("methods", "placebo", "self_distillation", "reference", "ablation"), COMPARED),
    "teacher.crossfit": "changes the names of the methods; compare kl and kl@crossfit as two methods",
    "metric": "is what the settings are compared by",
}
"""Setting -> why a sweep cannot change it, as the end of a sentence."""
SWEPT = ("network", "training", "augment", "teacher", "student", "transport", "balance", "options")
"""Sections whose other settings a sweep may change."""
SHARED = ("network", "training", "augment")
"""Sections that concern every network."""


def find_swept(name: str, config: Config) -> Setting:
    """The setting that a sweep names.

    Args:
        name: its dotted name.
        config: the experiment's settings.

    Raises:
        ConfigError: there is no such setting, a sweep cannot change it, or no method of the experiment reads it.
    """
    setting = find(Config, current_name(name))
    why = next((why for fixed, why in UNSWEPT.items() if f"{setting.name}.".startswith(f"{fixed}.")), "")
    if why:
        raise ConfigError(f"{setting.name} cannot be swept: it {why}.")
    if setting.is_list:
        raise ConfigError(f"{setting.name} cannot be swept: its value is a list, and a comma separates values to try.")
    if setting.name.startswith("options."):
        method = setting.name.split(".")[1]
        if method not in METHODS:
            raise ConfigError(unknown("method of options", method, METHODS))
    if not any(is_concerned(method, setting.name, config) for method in (BASELINE, *config.methods)):
        raise ConfigError(
            f"{setting.name} cannot be swept: none of the methods ({', '.join(config.methods)}) reads it, so every "
            "draw would be the same."
        )
    return setting


def is_concerned(method: str, name: str, config: Config, swept: Collection[str] = ()) -> bool:
    """Whether a setting can change the network of a method.

    The teacher does not depend on how students learn from it, nor does the baseline. T-Nets, cross-fitted teachers and
    networks on other subsets of the modalities belong to the teacher.

    Args:
        method: a method, `baseline` or `teacher`.
        name: dotted name of the setting.
        config: the experiment's settings.
        swept: the names of all swept settings.
    """
    section = name.partition(".")[0]
    if section in SHARED:
        return True
    if method == TEACHER:
        return section == "teacher"
    if method in (BASELINE, WARM_START):
        if method == WARM_START and section == "student":
            return True
        drops = config.student.drop > 0 or "student.drop" in swept
        # With student.drop the baseline has other losses beside the task loss, and `balance` weighs them.
        return name == "student.drop" or (section == "balance" and drops)
    terms = MethodSpec.parse(method).terms
    if section == "options":
        return name.split(".")[1] in terms
    if section == "transport":
        return any(METHODS[term].section == section for term in terms)
    return True


def select_concerned(method: str, settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The swept settings of a draw that can change the network of a method.

    Args:
        method: a method, `baseline` or `teacher`.
        settings: dotted name -> value, of every swept setting.
        config: the experiment's settings.
    """
    return {name: value for name, value in settings.items() if is_concerned(method, name, config, settings)}
