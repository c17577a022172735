"""Arguments and examples of the verbs in `sidelight.verbs`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable

EXAMPLES = {
    "show": """
  sidelight show runs/phone-watch               what the run's student reads, how good it was and on what
  sidelight show student.safetensors --json
  sidelight show runs/phone-watch/refit""",
}


def add_verbs(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs to the command line.

    Args:
        verb: makes the parser of a verb from its name and what it does.
    """
    show = verb("show", "say what a student reads and predicts, how good it was and on what, and how to use it")
    show.add_argument("student", metavar="STUDENT", help="student.safetensors, its folder, or a run or refit folder")
    show.add_argument("--json", action="store_true", help="print JSON")
