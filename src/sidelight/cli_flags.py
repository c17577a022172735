"""Flags that several verbs share, and what they say."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

from sidelight.config import Config
from sidelight.config.io import Setting, settings
from sidelight.config.renamed import RENAMED
from sidelight.errors import ConfigError, shown
from sidelight.utils.keywords import warn_renamed
from sidelight.utils.names import split_columns

MODALITY, TABLE = "--modality", "--table"
DEVICE = "cpu, cuda, cuda:1 or mps (default: auto, a GPU if there is one)"


def flag(name: str) -> str:
    """label_fraction -> --label-fraction"""
    return "--" + name.replace("_", "-")


def current_flag(text: str) -> str:
    """--label-groups=0.2 -> --label-fraction=0.2, with a warning; other texts stay."""
    name = text.partition("=")[0]
    for old, new in RENAMED.items():
        if name == flag(old):
            warn_renamed("flag", flag(old), flag(new))
            return flag(new) + text.removeprefix(name)
    return text


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str] | None = None) -> None:
    """A flag for each setting; nested ones in a group of their own. Values stay text: the schema reads them."""
    sections: dict[str, Any] = {"": parser.add_argument_group("settings of the experiment")}
    if names is None or "modalities" in names:
        add_table(sections[""])
        sections[""].add_argument(
            MODALITY,
            nargs="+",
            action="extend",
            metavar="NAME=COLUMNS",
            help="columns of a modality: a prefix (face=AU_) or columns (eda=gsr,scl), or channels of another one "
            "(nir=image[3]); a name alone is one that is found by itself. Only these are read; all that are "
            "found if none is named.",
        )
    for name, setting in settings(Config).items():
        if name == "data" or setting.is_mapping or (names is not None and name not in names):
            continue
        section = name.rpartition(".")[0]
        if section not in sections:
            title = f"settings of the {section} (also without dashes: {name}=VALUE)"
            sections[section] = parser.add_argument_group(title)
        sections[section].add_argument(flag(name), **_argument(setting))


def add_table(parser: Any) -> None:
    """The flag that says how a text table is written."""
    parser.add_argument(
        TABLE,
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="how a text manifest is written, where the file does not show it: separator=semicolon (comma, tab, pipe, "
        "blanks), decimal=comma (point), encoding=latin-1, header=3 (the line of the names; 0: none)",
    )


def _argument(setting: Setting) -> dict[str, Any]:
    default = setting.default
    shown = " ".join(map(str, default)) if isinstance(default, list) else "null" if default is None else str(default)
    about = f"{setting.help} Default: {shown or 'empty'}.".replace("%", "%%")
    word = setting.name.rpartition(".")[2].upper()
    many: dict[str, Any] = {"nargs": "*"} if setting.is_list else {}
    return {"dest": setting.name, "metavar": word, "help": about, "default": None, **many}


def mappings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Settings by dotted name: --modality face=AU_ eda=gsr,scl video gives modalities.face, ….eda and ….video."""
    found: dict[str, Any] = {}
    for word in vars(args).get("modality") or []:
        m, equals, columns = word.partition("=")
        if not m or "." in m or (equals and not columns.strip(", ")):
            raise ConfigError(
                f"--modality {shown(word)}: expected NAME=PREFIX (face=AU_), NAME=COLUMN,COLUMN (eda=gsr,scl), "
                "NAME=CHANNELS (nir=image[3]), or the NAME of one that is found by itself."
            )
        # Quoted or as a list, since YAML would read the column 1 as a number.
        several = split_columns(columns)
        value = several if isinstance(several, list) else json.dumps(several)
        found[f"modalities.{m}"] = value if equals else None
    return found | {f"table.{name}": json.dumps(value) for name, value in table_of(args).items()}


def table_of(args: argparse.Namespace) -> dict[str, str]:
    """["decimal=comma"] of --table -> {"decimal": "comma"}."""
    words = vars(args).get("table") or []
    for word in words:
        if "=" not in word or word.startswith("="):
            raise ConfigError(f"--table {shown(word)}: expected e.g. separator=semicolon, decimal=comma or header=0.")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def add_where(parser: argparse.ArgumentParser) -> None:
    """The flags that say where a study runs, and how long."""
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="train on the workers of a Dask scheduler: tcp://host:8786, or local:3 for three on this machine "
        "(docs/scale.md)",
    )
    parser.add_argument(
        "--time-limit",
        metavar="[D-]H:MM:SS",
        help="save and stop in time; exit code 75 says that the same command with --resume goes on",
    )


def add_how(parser: argparse.ArgumentParser) -> None:
    """The flags that say where jobs run, for how long, and which."""
    add_where(parser)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="JOB", help="run these jobs alone, as `sidelight status` names them"
    )
