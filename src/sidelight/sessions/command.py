"""The verb `sidelight windows`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sidelight.errors import ConfigError, shown
from sidelight.sessions.build import build_windows
from sidelight.sessions.draft import draft_plan
from sidelight.utils.yaml12 import parse_yaml, read_yaml

FILES = (".yaml", ".yml")


def windows_verb(args: argparse.Namespace) -> None:
    """Print a first recordings.yaml, or write the windows of one."""
    source = Path(args.source)
    is_plan = source.suffix.lower() in FILES
    if args.out is None:
        if is_plan or args.overrides:
            raise ConfigError(f"name the folder to write: sidelight windows {args.source} OUT")
        print(draft_plan(source), end="")
        return
    given = _read_overrides(args.overrides, dict(read_yaml(source)) if is_plan else {})
    if not is_plan and "sensors" not in given:
        raise ConfigError(
            f"windows needs the sensors of {args.source}: `sidelight windows {args.source} > recordings.yaml` writes a "
            "first list of them; edit it and name it in place of the folder"
        )
    progress = _show if sys.stderr.isatty() and not args.quiet else lambda done, of: None
    print(build_windows(source, args.out, given, overwrite=args.overwrite, progress=progress).to_text())


def _read_overrides(words: list[str], tree: dict[str, Any]) -> dict[str, Any]:
    """["labels.threshold=0.8"] -> the top-level settings that it changes, whole."""
    changed: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name or not value:
            raise ConfigError(f"cannot read {shown(word)}: expected a setting as name=value, e.g. seconds=30")
        top, *inside = name.split(".")
        if not inside:
            changed[top] = parse_yaml(value)
            continue
        place = changed.setdefault(top, _copy(tree.get(top)))
        for part in inside[:-1]:
            place = place.setdefault(part, {}) if isinstance(place.get(part, {}), dict) else {}
        place[inside[-1]] = parse_yaml(value)
    return changed


def _copy(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"file": value}
    return {k: _copy(v) if isinstance(v, dict) else v for k, v in value.items()} if isinstance(value, dict) else {}


def _show(done: int, of: int) -> None:
    end = "\r\x1b[K" if done == of else ""
    print(f"\rsession {min(done + 1, of)} of {of}{end}", end="", file=sys.stderr, flush=True)
