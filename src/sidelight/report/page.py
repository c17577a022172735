"""Fill the template of the report."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sidelight.report import comparisons
from sidelight.report.answer import build_section
from sidelight.report.caveats import list_caveats
from sidelight.report.evidence import build_evidence
from sidelight.report.headline import build_headline
from sidelight.report.question import describe_question, describe_setting
from sidelight.report.stored import Stored
from sidelight.report.style import PALETTE
from sidelight.report.sweep import build_sweep
from sidelight.results import budgets, compare, metric_columns

FAILURES_SHOWN = 20
"""The most failed jobs that the page describes."""


def render_page(stored: Stored) -> str:
    """Render the report of a run as HTML."""
    env = Environment(loader=PackageLoader("sidelight.report"), autoescape=True, undefined=StrictUndefined)
    env.filters["glued"] = lambda text: text.replace(" %", "\u00a0%")
    env.trim_blocks = env.lstrip_blocks = True
    results = stored.results
    usable = len(results) > 0 and len(metric_columns(results)) > 0
    compared = [compare(results, share) for share in budgets(results)] if usable else []
    main = compared[0] if compared else None
    failures = stored.failures
    unfinished = stored.progress is not None and stored.progress[0] + len(failures) < stored.progress[1]
    script = read_script()
    context: dict[str, Any] = {
        "script": Markup(script),
        "script_hash": hash_script(script),
        "headline": build_headline(compared, unfinished),
        "setting": describe_setting(stored),
        "title": str(stored.data.get("name") or stored.config.get("data") or stored.run.resolve().name),
        "style": Markup(read_style()),
        "question": describe_question(stored),
        "progress": stored.progress,
        "unfinished": unfinished,
        "jobs": len(results),
        "failed": [f for f in failures if not f.needs],
        "skipped": Counter(f.needs for f in failures if f.needs),
        "run": stored.run,
        "failures_shown": FAILURES_SHOWN,
        "sections": [build_section(results, c, alone=len(compared) == 1) for c in compared],
        "main": main,
        "several": len(compared) > 1,
        "curve": comparisons.plot_label_fractions(compared) if len(compared) > 1 else None,
        "sweeps": [section for c in compared if (section := build_sweep(stored, c))],
        "evidence": [build_evidence(stored, c) for c in compared],
        "task": stored.task,
        "caveats": list_caveats(compared, unfinished),
        "config": stored.config_text.strip(),
        "environment": _flatten_environment(stored),
    }
    context["notes"] = stored.notes  # last, because everything above may add notes
    return env.get_template("report.html.j2").render(context)


def _flatten_environment(stored: Stored) -> list[tuple[str, str]]:
    """The entries of environment.json as flat pairs: `versions.torch`, `2.13.0`."""
    lines: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            lines.append((prefix, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))

    walk("", stored.environment)
    return lines


def read_script() -> str:
    """The page's script, which sorts tables and adds a slider: the page is complete without it."""
    return (files("sidelight.report") / "templates" / "report.js").read_text()


def hash_script(script: str) -> str:
    """The hash by which the page's Content-Security-Policy allows this script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def read_style() -> str:
    """The page's style sheet, with the palette for light and dark."""
    css = (files("sidelight.report") / "templates" / "report.css").read_text()
    light = "".join(f"--{name}:{value};" for name, (value, _) in PALETTE.items())
    dark = "".join(f"--{name}:{value};" for name, (_, value) in PALETTE.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{css}"
