"""Verbs about sidelight itself: `methods`, `doctor`."""

from __future__ import annotations

import argparse

from sidelight.errors import ConfigError, unknown
from sidelight.verbs.text import entry


def methods_verb(args: argparse.Namespace) -> None:
    from sidelight.methods import METHODS
    from sidelight.methods.catalog import documentation, summarize_method

    if args.markdown:
        print(documentation())
        return
    for name in args.names or METHODS:
        if name not in METHODS:
            raise ConfigError(unknown("method", name, METHODS))
        told = summarize_method(name)
        entry(name, told.summary, *(told.whole() if args.names else told.about()))
    if args.names:
        return
    print(
        "Losses joined by + make one method: pkdot+kl. With @crossfit no teacher teaches the groups it was trained on."
    )
    print("Every study also has the baseline (the same network, no teacher) and the teacher (reads every modality).")


def doctor_verb(args: argparse.Namespace) -> int:
    from sidelight import doctor

    checks = doctor.examine()
    for check in checks:
        print(check)
    return 1 if any(check.state == "missing" for check in checks) else 0
