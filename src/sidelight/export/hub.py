"""Write a student as the folder that model hubs take: weights, configuration and a model card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sidelight.errors import ConfigError
from sidelight.export.describe import describe_student
from sidelight.export.file import HUB_FILE, read_student
from sidelight.export.input_facts import UNKNOWN, describe_measured
from sidelight.results.units import Unit, labels_phrase, metric_name, unit
from sidelight.utils.atomic import write_atomic
from sidelight.utils.files import check_place

CARD, CONFIG = "README.md", "config.json"
BLOCK = 2**20
"""Bytes of the weights that are copied at a time."""
MANY = 8
"""Channels whose ranges the card lists."""
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")
ANSWERS = {
    "regression": "with values for each row",
    "segmentation": "with one of these classes for each pixel",
    "retrieval": "with an embedding of length 1 for each row",
}
"""Task -> its answers in words; all other tasks have classes."""
NO_RUN = (
    "The run that made this student was not beside its file, so its baseline, its placebo and every interval are "
    "unknown here: write this folder from the run folder."
)


def write_hub_folder(student: str | Path, folder: str | Path) -> Path:
    """Write `model.safetensors`, `config.json` and a model card `README.md`; `load_student` reads the folder.

    The card states the intended use, the data, the scores of the method over its run with intervals and placebo, and
    limits. No network is built, so a student with encoders of the user's own needs no `encoders` here.

    Args:
        student: student.safetensors, its folder, or a run or refit folder. Only from a run does the card have
            intervals and a placebo.
        folder: the folder to write; its name is the name of the model in the card.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder holds one of the files already.
        RunError: there is no student, or it cannot be read.
    """
    folder = check_place(folder, ConfigError)
    told = describe_student(student)
    for name in (HUB_FILE, CONFIG, CARD):
        if (folder / name).exists():
            raise ConfigError(
                f"{folder / name} exists, and changes made by hand would be lost; remove it, or name another folder"
            )
    _, description = read_student(Path(told["file"]))
    card = write_card(told, folder.resolve().name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}; name another place") from None
    write_atomic(folder / CONFIG, json.dumps(description, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
    write_atomic(folder / CARD, card)
    with open(told["file"], "rb") as weights:  # the last, so that a folder with weights is whole
        write_atomic(folder / HUB_FILE, iter(partial(weights.read, BLOCK), b""))
    return folder


def write_card(told: Mapping[str, Any], name: str) -> str:
    """The text of a model card.

    Args:
        told: what `describe_student` found.
        name: the model's name.
    """
    env = Environment(
        loader=PackageLoader("sidelight.export"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, finalize=_plain, autoescape=False,
    )  # fmt: skip
    data, crossed = told["data"], told["cross_validated"]
    control = f", {told['control']}, a control" if told["control"] else ""
    share = "" if told["label_fraction"] is None else f" with {labels_phrase(told['label_fraction'])}"
    text = env.get_template("model_card.md.j2").render(
        front=Markup(yaml.safe_dump(_front(told, name), allow_unicode=True, sort_keys=False)),
        name=name,
        target=data.get("target") or "its target",
        reads=list(told["inputs"]),
        task=told["task"],
        version=told["versions"].get("sidelight", ""),
        method=f"{told['method'] or 'unknown'}{control}{share}",
        privileged=told["privileged"],
        answers=ANSWERS.get(told["task"], "with one of these classes for each row"),
        labels=told["labels"],
        groups_of_data=f"groups ({data['group']})" if data.get("group") else "people or places",
        inputs={m: _input(about) for m, about in told["inputs"].items()},
        any_subset=told["any_subset"],
        groups=told["groups"],
        quoted=Markup(json.dumps(name, ensure_ascii=False)),
        call=Markup(json.dumps(dict.fromkeys(told["inputs"], "…"), ensure_ascii=False).replace('"…"', "array")),
        data_name=data.get("name", "unknown"),
        **{key: data.get(key, "") for key in ("description", "licence", "source", "citation")},
        rows=_rows(told),
        run=_run(told["run"]),
        metrics=[] if not _has_run(told) else list(_lines(told["run"])),
        no_run=(told["run"] or {}).get("fault", NO_RUN),
        fold=told["fold"],
        seed=told["seed"],
        own=_scores(told["metrics"]),
        note=told["note"],
        crossed=_scores({m: s["mean"] for m, s in (crossed or {}).items() if isinstance(s, dict)}),
        limits=list(_limits(told)),
        parameters=f"{told['parameters']:,}",
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _plain(value: Any) -> Any:
    """A value as text that markdown shows as it is: names come from data that anyone may have written."""
    if isinstance(value, Markup):
        return value
    return SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def _has_run(told: Mapping[str, Any]) -> bool:
    return told["run"] is not None and "fault" not in told["run"]


def _front(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The card's metadata, as model hubs read it. Without a run there are no results."""
    data = told["data"]
    front: dict[str, Any] = {
        "library_name": "sidelight",
        "tags": ["sidelight", "knowledge-distillation", "privileged-information", told["task"]],
    }
    if scored := _measured(told):
        dataset = str(data.get("name", "unknown"))
        front["metrics"] = list(scored)
        results = [{"type": m, "name": metric_name(m), "value": round(value, 6)} for m, value in scored.items()]
        task = {"type": told["task"], "name": str(data.get("target") or told["task"])}
        front["model-index"] = [
            {
                "name": name,
                "results": [{"task": task, "dataset": {"type": dataset, "name": dataset}, "metrics": results}],
            }
        ]
    return front


def _measured(told: Mapping[str, Any]) -> dict[str, float]:
    """Metric -> mean over the networks of the run; without a run, this network's own score."""
    own = {m: value for m, value in told["metrics"].items() if value is not None}
    if not _has_run(told):
        return own
    return {m: s["student"] for m, s in told["run"]["metrics"].items() if s["student"] is not None}


def _input(about: Mapping[str, Any]) -> dict[str, Any]:
    ranges = about["range"]
    if not isinstance(ranges, str):
        names = about.get("columns") or [f"channel {i}" for i in range(len(ranges))]
        spans = [f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in zip(names, ranges)]
        ranges = "; ".join(spans[:MANY]) + (f"; and {len(spans) - MANY} more" if len(spans) > MANY else "")
    return {**about, "unit": "–", "rate": "–", **describe_measured(about), "range": ranges}


def _rows(told: Mapping[str, Any]) -> str:
    if told["rows"]:
        return f"Rows: {', '.join(f'{n} {name}' for name, n in told['rows'].items())}."
    return f"Each network was trained on about {told['run']['trained']} rows." if _has_run(told) else ""


def _run(run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if run is None or "fault" in run:
        return None
    u, over = unit(run["metric"]), run["over_baseline"]
    chance, effect = run["chance"], run["over_placebo"]
    return {
        **{key: run[key] for key in ("answer", "protocol", "networks", "tested", "counted")},
        "n": over["n"] if over else 0,
        "metric": metric_name(run["metric"]),
        "level": f"{100 * run['level']:g} %",
        "chance": "" if chance is None else u.score(chance),
        "effect": _ends(effect, u) if effect else "",
    }


def _lines(run: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The rows of the table of metrics."""
    for metric, scores in run["metrics"].items():
        u, over = unit(metric), scores["over_baseline"]
        means = {who: "–" if mean is None else u.score(mean) for who, mean in scores.items() if who != "over_baseline"}
        name = metric_name(metric) + (f" ({u.noun})" if u.noun else "")
        yield {**means, "name": name, "difference": _ends(over, u) if over else "–"}


def _ends(over: Mapping[str, Any], u: Unit) -> str:
    if over["low"] is None or over["high"] is None:
        return f"{u.difference(over['mean'])} (no interval: {over['note']})"
    return f"{u.difference(over['mean'])} ({u.difference(over['low'])} to {u.difference(over['high'])})"


def _scores(metrics: Mapping[str, float | None]) -> str:
    return ", ".join(f"{metric_name(m)} {unit(m).score(v)}" for m, v in metrics.items() if v is not None)


def _limits(told: Mapping[str, Any]) -> Iterator[str]:
    """What a user has to know before trusting an answer."""
    yield (
        "It answers every row that it can read. Rows far from the ranges above set off a warning of sidelight, which "
        "cannot detect every wrong unit or rate; a graph for another runtime does not warn at all."
    )
    if any(UNKNOWN in describe_measured(about).values() for about in told["inputs"].values()):
        yield "The unit or the rate of an input was not given, so nobody can check that new rows have the same."
    if _has_run(told):
        run = told["run"]
        if run["verdict"] != "better" or not run["survives_holm"]:
            verdict = {"better": "better, but not after Holm over the run's methods"}.get(
                run["verdict"], run["verdict"]
            )
            yield f"Beside the baseline, a student without a teacher: {verdict}."
        yield from run["remarks"]
    else:
        yield "No interval: one network on one set of test rows says little of the next one."
    if told["privileged"]:
        them = "it" if len(told["privileged"]) == 1 else "them"
        yield f"It does not read {' and '.join(told['privileged'])}, even where rows have {them}."
