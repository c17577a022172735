"""The command line: verbs, flags (one per setting) and their help. Imports nothing heavy."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from sidelight.cli_examples import EXAMPLES
from sidelight.cli_flags import MODALITY, TABLE, current_flag
from sidelight.cli_verbs import (
    add_data,
    add_made,
    add_others,
    add_run,
    add_stored,
    add_students,
    add_suite,
    add_sweep,
)
from sidelight.config import Config
from sidelight.config.io import settings
from sidelight.errors import ConfigError, unknown
from sidelight.synonyms import find_advice

OVERRIDDEN = ("run", "suite", "sweep", "prepare", "windows", "describe")
"""Verbs that take words KEY=VALUE."""
OVERRIDE = re.compile(r"(?!-)[\w.-]*=")
"""What a dotted override looks like: key=value, without a dash."""

ABOUT = "Train with every sensor. Deploy with the ones you keep."
IMPORT = (
    "run your own Python first: a file or dotted module that registers methods (METHODS[...] = ...), encoders "
    "(ENCODERS = {modality: function}), data sets or readers; may be given several times"
)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `ConfigError`s."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message[0].lower()}{message[1:]}. See `{self.prog} --help`.")


def build_parser() -> Parser:
    """The whole command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="sidelight",
        description=ABOUT,
        formatter_class=layout,
        epilog="examples:" + EXAMPLES[""],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")

    def verb(name: str, about: str, usage: str = "", own: bool = True) -> argparse.ArgumentParser:
        epilog = "examples:" + EXAMPLES[name]
        made = verbs.add_parser(
            name,
            help=about,
            description=about,
            usage=usage or None,
            epilog=epilog,
            formatter_class=layout,
            allow_abbrev=False,
        )
        made.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
        if own:
            made.add_argument("--import", action="append", default=[], dest="imports", metavar="FILE", help=IMPORT)
        return made

    for add in (add_run, add_suite, add_sweep, add_data, add_stored, add_students, add_made, add_others):
        add(verb)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace; unknown verbs and flags are named with the nearest valid one."""
    argv = [current_flag(text) for text in argv]
    parser = build_parser()
    verbs = next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    if argv and not argv[0].startswith("-") and argv[0] not in verbs:
        raise ConfigError(unknown("verb", argv[0], verbs))
    chosen = verbs[argv[0]] if argv and argv[0] in verbs else parser
    actions = chosen._option_string_actions
    overrides, rest = [], []
    flag_before = ""
    for before, text in zip(["", *argv], argv):
        flag_before = text.partition("=")[0] if text.startswith("-") else flag_before
        taken = before in actions and actions[before].nargs is None  # the value of a flag
        # face=AU_ after --modality is no setting, but training.epochs=2 behind it is one.
        taken = taken or (flag_before in (MODALITY, TABLE) and text.partition("=")[0] not in settings(Config))
        if argv[0] in OVERRIDDEN and OVERRIDE.match(text) and not taken:
            overrides.append(text)
        else:
            rest.append(text)
    for text in rest:
        name = text.partition("=")[0]
        if re.match(r"--?[A-Za-z]", name) and name not in actions:
            if advice := find_advice(name):
                raise ConfigError(f"unknown flag {name}: {advice}.")
            raise ConfigError(unknown("flag", name, [known for known in actions if known.startswith("--")]))
    args = parser.parse_args(rest)
    args.overrides = [*getattr(args, "overrides", []), *overrides]
    return args
