"""Run folders as an experiment leaves them, with known effects, for the tests of results and report."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save

CLASSES = ("seated", "standing up", "walking", "turning", "sitting down")
SKILL = {"baseline": 0.0, "teacher": 1.25, "kl": 0.6, "pkdot": 0.2, "pkdot+kl": 0.66, "mse": 0.45}
CONTROL = {"": 1.0, "placebo": 0.08, "self": 0.2}
FULL = 0.6  # what every label is worth to the baseline
GROUPS, ROWS = 20, 40
EPOCHS = (0, 1, 2, 5, 10, 20)


def make_run(
    path: Path,
    task: str = "classification",
    budgets: Sequence[float] = (0.2,),
    methods: Sequence[str] = ("kl", "pkdot", "pkdot+kl"),
    controls: Sequence[tuple[str, str]] = (("pkdot+kl", "placebo"),),
    folds: int = 5,
    seeds: int = 3,
    finished: float = 1.0,
    labels: Sequence[str] = CLASSES,
    skill: dict[str, float] | None = None,
    protocol: str = "group-kfold",
) -> Path:
    """Write a run folder. finished: share of the planned jobs that have ended; skill: of methods, over the defaults."""
    labels = list(labels) if task == "classification" else ["valence", "arousal"]
    skill = {**SKILL, **(skill or {})}
    named = [("baseline", ""), ("teacher", ""), *((m, "") for m in methods), *controls]
    jobs = []
    for seed in range(seeds):
        for fold in range(folds):
            if 1.0 not in budgets:
                jobs.append(("baseline", "", 1.0, fold, seed))
            jobs += [(m, c, share, fold, seed) for share in budgets for m, c in named]
    ids = [job_id(*job) for job in jobs]
    path.mkdir(parents=True, exist_ok=True)
    _settings(path, task, budgets, methods, folds, seeds, protocol)
    (path / "plan.json").write_text(json.dumps({"jobs": ids}))
    for job, name in list(zip(jobs, ids))[: round(finished * len(jobs))]:
        folder = path / "jobs" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in _job(job, task, tuple(labels), folds, skill[job[0].split("@")[0]]).items():
            (folder / file).write_bytes(content)
    return path


def job_id(method: str, control: str, labels: float, fold: int, seed: int) -> str:
    return f"{method}{f'~{control}' if control else ''}-l{labels:g}-f{fold}-s{seed}"


@functools.cache
def _job(job: tuple, task: str, labels: tuple[str, ...], folds: int, skill: float) -> dict[str, bytes]:
    """The files of a job, which many runs have alike."""
    method, control, share, fold, seed = job
    level = skill * CONTROL[control]
    level = max(level, FULL) if share == 1 and method != "teacher" else level
    own = np.random.default_rng([fold, seed, *job_id(*job).encode()])
    groups = np.random.default_rng(seed).permutation(GROUPS)[fold::folds]
    rows = _classified if task == "classification" else _estimated
    frame, metrics = rows(groups, level, own, labels)
    predictions = frame.to_csv(index=False, float_format="%.6g")
    primary = "accuracy" if task == "classification" else "ccc"
    select = metrics[primary] + own.normal(0, 0.01)
    epochs = int(own.integers(22, 36))
    curves = _curves(method, select, epochs, own).to_csv(index=False)
    matrices = _similarity(level, method, fold, seed, len(labels), own, task)
    record = {
        "job": {"method": method, "control": control, "labels": share, "fold": fold, "seed": seed},
        "metrics": metrics,
        "select": select,
        "seconds": float(own.uniform(2, 4)) * (1.6 if method == "teacher" else 1),
        "n_train": (GROUPS - len(groups) or GROUPS) * ROWS * 3 // 4,
        "n_labelled": round((GROUPS - len(groups) or GROUPS) * ROWS * 3 // 4 * share),
        "n_test": len(frame),
        "best_epoch": epochs - 15,
        "stopped_epoch": epochs,
        "select_labels": "inner" if share < 1 else "part",
        "primary": primary,
        "task": task,
        "labels": labels,
    }
    return {
        "predictions.csv": predictions.encode(),
        "curves.csv": curves.encode(),
        "similarity.safetensors": save(matrices),
        "job.json": json.dumps(record).encode(),
    }


def _classified(groups: np.ndarray, level: float, own: np.random.Generator, labels: tuple[str, ...]) -> tuple:
    targets, shares = [], []
    for g in groups:
        of_group = np.random.default_rng(1000 + g)
        target = np.sort(of_group.integers(0, len(labels), ROWS))
        difficulty = of_group.normal(0, 0.5)
        confusable = np.exp(-0.7 * np.abs(target[:, None] - np.arange(len(labels))))
        logits = 2.2 * confusable + of_group.normal(0, 1, confusable.shape) + own.normal(0, 0.45, confusable.shape)
        logits[np.arange(ROWS), target] += 0.9 + 1.3 * level + difficulty
        targets.append(target)
        shares.append(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    target, p = np.concatenate(targets), np.concatenate(shares)
    said = {"target": np.take(labels, target), "prediction": np.take(labels, p.argmax(1))}
    frame = pd.DataFrame(_names(groups) | said | {f"p.{c}": p[:, k] for k, c in enumerate(labels)})
    right = target == p.argmax(1)
    recall = float(np.mean([right[target == c].mean() for c in np.unique(target)]))
    return frame, {"accuracy": float(right.mean()), "unweighted_accuracy": recall, "macro_f1": recall - 0.004}


def _names(groups: np.ndarray) -> dict[str, list[str]]:
    """The columns that say whose row it is."""
    return {
        "id": [f"s{g:02d}-w{i:03d}" for g in groups for i in range(ROWS)],
        "group": [f"s{g:02d}" for g in groups for _ in range(ROWS)],
    }


def _estimated(groups: np.ndarray, level: float, own: np.random.Generator, names: tuple[str, ...]) -> tuple:
    targets, answers = [], []
    for g in groups:
        of_group = np.random.default_rng(1000 + g)
        target = np.clip(of_group.normal(0, 0.35, (ROWS, 2)) + of_group.normal(0, 0.2, 2), -1, 1)
        noise = of_group.normal(0, 0.25, (ROWS, 2)) + own.normal(0, 0.1, (ROWS, 2))
        targets.append(target)
        answers.append((0.35 + 0.4 * level) * target + (1 - 0.35 * level) * noise)
    t, p = np.concatenate(targets), np.concatenate(answers)
    said = {f"{word}.{n}": x[:, k] for word, x in (("target", t), ("prediction", p)) for k, n in enumerate(names)}
    frame = pd.DataFrame(_names(groups) | said)
    both = ((t - t.mean(0)) * (p - p.mean(0))).mean(0)
    ccc = float((2 * both / (t.var(0) + p.var(0) + (t.mean(0) - p.mean(0)) ** 2)).mean())
    error = float(np.sqrt(((t - p) ** 2).mean()))
    return frame, {"ccc": ccc, "mae": float(np.abs(t - p).mean()), "rmse": error}


def _curves(method: str, select: float, epochs: int, own: np.random.Generator) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    rise = 1 - np.exp(-epoch / 5)
    noise = own.normal(0, 0.012, epochs)
    columns = {"epoch": epoch, "select": select - 0.35 * (1 - rise) + noise - 0.03 * rise.max()}
    plain = method.split("@")[0]
    terms = ["task", *([] if plain in ("baseline", "teacher") else plain.split("+"))]
    for k, term in enumerate(terms):
        columns[term] = (1.4 / (1 + 3 * k)) * (1 - 0.85 * rise) * np.exp(own.normal(0, 0.05, epochs))
    return pd.DataFrame(columns | {"seconds": own.uniform(0.05, 0.09, epochs)})


def _similarity(
    level: float, method: str, fold: int, seed: int, classes: int, own: np.random.Generator, task: str
) -> dict[str, np.ndarray]:
    probe = np.random.default_rng([fold, seed, 5])
    group = np.sort(probe.integers(0, classes, 60))
    if task == "classification":
        centres = probe.normal(0, 1, (classes, 24))
        rows = centres[group]
    else:
        group = np.sort(probe.uniform(-1, 1, 60))
        rows = np.cos(np.pi * group[:, None] * probe.normal(0, 1, (1, 24)))
    noise = probe.normal(0, 1, rows.shape) * 1.2
    out: dict[str, np.ndarray] = {"group": group}
    for epoch in EPOCHS:
        strength = (0.25 + 0.6 * level) * (1 - np.exp(-epoch / 4)) + 0.15
        x = strength * 2 * rows + noise + 0.5 * own.normal(0, 1, rows.shape) + 0.9
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        out[f"epoch_{epoch:04d}"] = (x @ x.T).astype(np.float16)
    return out


def _settings(
    path: Path, task: str, budgets: Sequence[float], methods: Sequence[str], folds: int, seeds: int, protocol: str
) -> None:
    sensors = {
        "available": ["phone_acc"],
        "privileged": ["phone_gyro", "watch_acc", "watch_gyro"],
        "target": "activity",
    }
    config = {
        "data": "phone-watch" if task == "classification" else "faces",
        **sensors,
        "target": "activity",
        "group": "subject",
        "task": task,
        "protocol": protocol,
        "folds": folds,
        "seeds": seeds,
        "label_fraction": list(budgets),
        "methods": list(methods),
        "training": {"epochs": 60, "patience": 15, "batch_size": 128},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    environment = {
        "versions": {"python": "3.11.9", "sidelight": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
        "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
        "data": {"name": config["data"], "rows": GROUPS * ROWS, "licence": "CC BY 4.0", "citation": "Someone (2023)"},
        "started": "2025-01-02T03:04:05+0000",
    }
    (path / "environment.json").write_text(json.dumps(environment))
