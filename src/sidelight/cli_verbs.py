"""Arguments and examples of the verbs in `sidelight.verbs`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

EXAMPLES = {
    "show": """
  sidelight show runs/phone-watch               what the run's student reads, how good it was and on what
  sidelight show student.safetensors --json
  sidelight show runs/phone-watch/refit""",
    "init": """
  sidelight init data/manifest.csv              writes data/experiment.yaml, to be edited
  sidelight init data/manifest.csv study/ --target pain --group subject --available video
  sidelight init phone-watch try.yaml
  sidelight run data/experiment.yaml --dry-run""",
    "compare": """
  sidelight compare runs/a runs/b               every row that both runs have: b − a, with its interval
  sidelight compare runs/a runs/b runs/c --json

Within one run: sidelight report RUN --between kl pkdot""",
    "describe": """
  sidelight describe data/                      data/metadata.csv names files: writes data/modalities.json
  sidelight describe data/ eda.rate=4 eda.unit=uS voice.seconds=3 --target pain --group subject
  sidelight inspect data/

docs/data.md describes every entry of modalities.json.""",
    "completion": """
  sidelight completion bash > ~/.local/share/bash-completion/completions/sidelight
  sidelight completion zsh >> ~/.zshrc
  sidelight completion fish > ~/.config/fish/completions/sidelight.fish""",
}


def add_verbs(
    verb: Callable[..., argparse.ArgumentParser], add_settings: Callable[[argparse.ArgumentParser, Iterable[str]], None]
) -> None:
    """Add the verbs to the command line.

    Args:
        verb: makes the parser of a verb from its name and what it does.
        add_settings: adds the flags of the settings of these names to a parser.
    """
    show = verb("show", "say what a student reads and predicts, how good it was and on what, and how to use it")
    show.add_argument("student", metavar="STUDENT", help="student.safetensors, its folder, or a run or refit folder")
    show.add_argument("--json", action="store_true", help="print JSON")

    init = verb("init", "look at a data set, and write a commented experiment.yaml to start from")
    init.add_argument("source", metavar="SOURCE", help="a data set: built-in name, .npz, manifest or folder")
    init.add_argument(
        "out", nargs="?", metavar="OUT", help="file or folder to write (default: experiment.yaml beside the data)"
    )
    init.add_argument("--overwrite", action="store_true", help="replace an existing file")
    asked = ("available", "privileged", "target", "group", "split", "time", "task", "impute", "on_error", "modalities")
    add_settings(init, asked)

    compare = verb("compare", "compare the rows of two or more runs, paired where they tested the same rows")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="run folders; each is compared with the first")
    compare.add_argument("--json", action="store_true", help="print JSON")

    describe = verb("describe", "look at a folder of recordings, and write the modalities.json that says what they are")
    describe.add_argument("folder", metavar="FOLDER", help="folder with metadata.csv and its columns *_file_name")
    describe.add_argument("overrides", nargs="*", metavar="MODALITY.SETTING=VALUE", help="what is known: eda.rate=4")
    describe.add_argument("--overwrite", action="store_true", help="replace an existing modalities.json")
    add_settings(describe, ("target", "group", "split"))

    completion = verb("completion", "print a script that completes verbs, flags, settings and methods in a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
