"""`sidelight prepare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidelight.errors import ConfigError, shown
from sidelight.verbs.text import entry


def prepare_verb(args: argparse.Namespace) -> int:
    from sidelight import readers

    if args.name is None:
        for name in readers.READERS:
            entry(name, readers.reader_class(name).summary)
        return 0
    options = _options(args.overrides)
    reader = readers.make_reader(args.name, options)
    if args.synthetic is not None:
        from sidelight.readers.base import synthesize

        print(synthesize(reader, args.synthetic or f"{args.name}-synthetic"))
    elif args.source is None:
        settings = [f"{name}={default}: {about}" for name, default, about in reader.describe_options()]
        entry(args.name, reader.summary, reader.obtain, f"licence: {reader.licence}", reader.citation, *settings)
    elif args.check:
        from sidelight.readers.base import check

        absent = check(reader, args.source)
        print("".join(f"{line}\n" for line in reader.describe(Path(args.source)) if not absent), end="")
        print("\n".join(absent) if absent else f"{args.source}: nothing that {args.name} needs is missing")
        return 1 if absent else 0
    elif args.out is None:
        raise ConfigError(f"name the folder to write: sidelight prepare {args.name} {args.source} OUT, or --check.")
    else:
        from sidelight.readers.base import prepare
        from sidelight.readers.progress import progress_bar

        skip = args.on_error == "skip"
        how: dict[str, Any] = {"skip": skip, "overwrite": args.overwrite, "progress": progress_bar, "tell": print}
        out, faults = prepare(reader, args.source, args.out, **how)
        print(f"{out}" + (f" ({len(faults)} rows skipped: {out / 'skipped.csv'})" if faults else ""))
    return 0


def _options(words: Sequence[str]) -> dict[str, str]:
    """["part=A"] -> {"part": "A"}"""
    for word in words:
        if not word.partition("=")[0] or "=" not in word:
            raise ConfigError(f"cannot read {shown(word)}: expected an option as name=value, e.g. part=A.")
    return {name: value for name, _, value in (word.partition("=") for word in words)}
