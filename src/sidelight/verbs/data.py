"""Verbs that look at data: `inspect`, `advise`, `extract`, `datasets`."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sidelight.config import load_config
from sidelight.errors import ConfigError, shown
from sidelight.utils.names import check_modality
from sidelight.verbs.settings import experiment_of, flags_of, is_experiment, source_of, words_of
from sidelight.verbs.text import entry


def inspect_verb(args: argparse.Namespace) -> None:
    config = experiment_of(args)
    from sidelight.data.load import load_for
    from sidelight.inspection import inspect, write_page

    if args.html and Path(args.html).is_dir():  # said before minutes of work
        raise ConfigError(f"--html {args.html}: a folder; name a file in it: {Path(args.html, 'inspect.html')}")
    dataset = load_for(config)
    found = inspect(dataset, flags=words_of(args))
    if is_experiment(args.source):  # the file says more of the data than flags can
        then = "how many networks that trains; without --dry-run it does"
        found = replace(found, commands=((f"sidelight run {shlex.quote(args.source)} --dry-run", then),))
    print(found.to_text(), end="")
    if args.html is not None:
        print(f"\npage: {write_page(dataset, found, args.html)}")


def advise_verb(args: argparse.Namespace) -> None:
    config = experiment_of(args)
    from sidelight.advice import advise
    from sidelight.data.load import load_for

    share = config.label_fraction[0] if config.label_fraction else None
    found = advise(load_for(config), config.available, config.privileged, label_fraction=share, seed=config.seed)
    print(json.dumps(found.to_dict(), indent=1) if args.json else found.to_text(), end="")


def extract_verb(args: argparse.Namespace) -> None:
    config = load_config({"data": source_of(args), **flags_of(args)})
    if args.out is None:
        raise ConfigError(f"name the folder to write: sidelight extract {config.data} OUT --encoder MODALITY=NAME")
    encoders, weights = (_by_modality(name, getattr(args, name)) for name in ("encoder", "weights"))
    more = {name: getattr(args, name) for name in ("tokens", "sum_channels", "device")}
    from sidelight.data.load import load_for
    from sidelight.extract import extract

    print(extract(load_for(config), args.out, encoders, weights, quiet=False, **more))


def _by_modality(flag: str, words: Sequence[str]) -> dict[str, str]:
    """["rgb=r3d18"] -> {"rgb": "r3d18"}"""
    for word in words:
        m, _, value = word.partition("=")
        if not value:
            raise ConfigError(f"--{flag} {shown(word)}: expected MODALITY=VALUE, e.g. --{flag} rgb=…")
        check_modality(m, f"--{flag}", ConfigError)
    return {m: value for m, _, value in (word.partition("=") for word in words)}


def datasets_verb(args: argparse.Namespace) -> None:
    from sidelight.data import DATASETS

    for name, data in DATASETS.items():
        entry(name, data.description, f"licence: {data.licence}", data.citation)
