"""The command line: parse, call, print. Each verb is imported when it is called, so that others start fast."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import TextIO

from sidelight.cli_parser import build_parser, parse
from sidelight.errors import ConfigError, DiskError, SidelightError, SidelightWarning, UnfinishedError
from sidelight.imports import import_own
from sidelight.utils.machine import launched
from sidelight.utils.stopping import UNFINISHED

WHERE = {
    "run": "verbs.run",
    "suite": "suite.verb",
    "sweep": "verbs.sweep",
    "inspect": "verbs.data",
    "advise": "verbs.data",
    "report": "verbs.stored",
    "status": "verbs.stored",
    "predict": "verbs.students",
    "export": "verbs.students",
    "refit": "verbs.stored",
    "prepare": "verbs.prepare",
    "windows": "sessions.command",
    "extract": "verbs.data",
    "methods": "verbs.about",
    "datasets": "verbs.data",
    "doctor": "verbs.about",
    "show": "verbs.show",
    "init": "verbs.init",
    "compare": "verbs.compare",
    "describe": "verbs.describe",
    "completion": "verbs.completion",
}
"""Verb -> the module with its function, `VERB_verb`."""


def _call(verb: str, args: argparse.Namespace) -> int | None:
    result: int | None = getattr(import_module(f"sidelight.{WHERE[verb]}"), f"{verb}_verb")(args)
    return result


VERBS: dict[str, Callable[[argparse.Namespace], int | None]] = {verb: partial(_call, verb) for verb in WHERE}


def say(kind: str, message: object, colour: int) -> None:
    """One paragraph on stderr, its first word coloured where people read it."""
    plain = not sys.stderr.isatty() or "NO_COLOR" in os.environ
    print(f"{kind}: {message}" if plain else f"\033[1;{colour}m{kind}:\033[0m {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Its exit code: 0, 1 (jobs failed, parts missing), 2 (an error), 75 (run it again) or 130 (interrupted).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if launched()[0] > 0:  # process 0 of torchrun gives the same warnings
                return
            if issubclass(category, SidelightWarning):
                say("note", message, 33)
            else:
                shown(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        try:
            args = parse(argv)
            if args.version:
                from importlib.metadata import version

                print(f"sidelight {version('sidelight')}")
            elif args.verb is None:
                build_parser().print_help()
            else:
                args.own = import_own(getattr(args, "imports", []))  # the user's own Python, before anything else
                rank, processes = launched()
                if processes > 1 and args.verb != "run":
                    if rank > 0:
                        return 2
                    raise ConfigError(
                        f"{processes} processes cannot share `sidelight {args.verb}`: only `run` divides its work over "
                        "the processes of torchrun. Start it without torchrun."
                    )
                return int(VERBS[args.verb](args) or 0)
        except UnfinishedError as error:
            say("stopped", f"{error} Go on with: {resumed(argv)}", 33)
            return UNFINISHED
        except (SidelightError, OSError) as error:
            return fail(error, argv)
        except KeyboardInterrupt:
            again = f" Continue with: {resumed(argv)}" if argv[:1] in RESUMED else ""
            say("stopped", f"interrupted; finished jobs are kept.{again}", 33)
            return 130
    return 0


RESUMED = (["run"], ["suite"], ["sweep"])
"""The verbs that go on where they were stopped."""


def resumed(argv: Sequence[str]) -> str:
    """The command that continues this one."""
    return shlex.join(["sidelight", *argv, *(["--resume"] if "--resume" not in argv else [])])


def fail(error: Exception, argv: Sequence[str]) -> int:
    """Print an error as one paragraph; with --debug, raise it."""
    if "--debug" in argv:
        raise error
    if isinstance(error, BrokenPipeError):  # e.g. sidelight methods | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    again = (
        f" Finished jobs are kept; continue with: {resumed(argv)}"
        if argv[:1] in (["run"], ["suite"], ["sweep"])
        else ""
    )
    if isinstance(error, OSError) and not isinstance(error, SidelightError):
        file = f"{error.filename}: " if error.filename else ""
        say("error", f"{file}{error.strerror or error}.{again}", 31)
    else:
        say("error", f"{error}{again if isinstance(error, DiskError) else ''}", 31)
    return 2


if __name__ == "__main__":
    sys.exit(main())
