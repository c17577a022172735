"""`sidelight completion`: scripts that complete verbs, flags, settings and methods in bash, zsh and fish.

The scripts are made from the argument parser and hold everything they need: completing starts no Python. (shtab does
the same for flags, but knows neither `setting=` nor the second value of `--methods kl pkdot` in fish.)
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args, get_origin

from sidelight.cli_parser import build_parser
from sidelight.config import Config
from sidelight.config.io import settings
from sidelight.methods import METHODS

SHELLS = ("bash", "zsh", "fish")
OF_METHODS = ("methods", "placebo", "self_distillation")
"""Settings whose values are names of methods."""


class Flag(NamedTuple):
    """A flag: its name, the first sentence of its help, whether it takes a value, and the values that are known."""

    name: str
    about: str
    takes: bool
    values: tuple[str, ...]


class Verb(NamedTuple):
    """A verb: what it does, its flags, its fixed words, and whether settings (`name=value`) may follow it."""

    about: str
    flags: tuple[Flag, ...]
    words: tuple[str, ...]
    overrides: bool


def completion_verb(args: argparse.Namespace) -> None:
    """Print the script for a shell."""
    print(write_completion(args.shell), end="")


def write_completion(shell: str) -> str:
    """The script that completes the command line of sidelight in a shell.

    Args:
        shell: one of `SHELLS`.
    """
    verbs = read_verbs()
    return _fish(verbs) if shell == "fish" else _bash(verbs, zsh=shell == "zsh")


def read_verbs() -> dict[str, Verb]:
    """Read the verbs of the argument parser, by name."""
    parsers = next(a.choices for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    verbs = {}
    for name, parser in parsers.items():
        plain = [a for a in parser._actions if not a.option_strings]
        flags = [_flag(a) for a in parser._actions if a.option_strings]
        words = [str(word) for a in plain for word in a.choices or ()] + ([*METHODS] if name == "methods" else [])
        overrides = name != "prepare" and any(a.dest == "overrides" for a in plain)  # those of `prepare` are a reader's
        verbs[name] = Verb(parser.description or "", tuple(flags), tuple(words), overrides and name != "windows")
    return verbs


def _flag(action: argparse.Action) -> Flag:
    values = tuple(map(str, action.choices or ())) or _values(action.dest)
    about = re.split(r"\. (?=[A-Z])", (action.help or "").replace("%%", "%"))[0]
    return Flag(action.option_strings[-1], about, action.nargs != 0, values)


def _values(name: str) -> tuple[str, ...]:
    """The values of a setting that are known beforehand."""
    if name in OF_METHODS:
        return (*METHODS, *(() if name == "methods" else ("best", "all", "none")))
    if name in ("device", "training.device"):
        return ("auto", "cpu", "cuda", "mps")
    setting = settings(Config).get(name)
    if setting is None:
        return ()
    if setting.type is bool:
        return ("true", "false")
    return tuple(get_args(setting.type)) if get_origin(setting.type) is Literal else ()


def _overrides() -> dict[str, tuple[str, ...]]:
    """The settings that may follow as `name=value`, with the values that are known."""
    known = settings(Config)
    return {name: _values(name) for name, setting in known.items() if name != "data" and not setting.is_mapping}


BASH = """\
# Completion of sidelight for {shell}, made by `sidelight completion {shell}`.
{head}_sidelight() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" verb="${{COMP_WORDS[1]}}" flag="" key="" before="" i words="" settings=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -le 1 ]; then
    COMPREPLY=( $(compgen -W "{verbs} --help --version" -- "$cur") )
    return
  fi
  # bash splits words at "=": `task = cl` stands for task=cl, and so does one word in other shells.
  if [ "$cur" = "=" ]; then
    key="${{COMP_WORDS[COMP_CWORD-1]}}"; cur=""
  elif [ "${{COMP_WORDS[COMP_CWORD-1]}}" = "=" ] && [ "$COMP_CWORD" -gt 2 ]; then
    key="${{COMP_WORDS[COMP_CWORD-2]}}"
  else
    case "$cur" in ?*=*) key="${{cur%%=*}}"; cur="${{cur#*=}}"; before="$key=" ;; esac
  fi
  for (( i = 2; i < COMP_CWORD; i++ )); do
    case "${{COMP_WORDS[i]}}" in -*) flag="${{COMP_WORDS[i]}}" ;; esac
  done
  if [ -n "$key" ]; then
    case "$key" in
{keys}
    esac
    COMPREPLY=( $(compgen -P "$before" -W "$words" -- "$cur") )
    return
  fi
  case "$cur" in
    -*)
      case "$verb" in
{flags}
      esac
      COMPREPLY=( $(compgen -W "$words" -- "$cur") )
      return ;;
  esac
  case "$verb $flag" in
{values}
  esac
  if [ -z "$words" ]; then
    case "$verb" in
{plain}
    esac
  fi
  COMPREPLY=( $(compgen -W "$words" -- "$cur") )
  if [ -n "$cur" ] && [ -n "$settings" ]; then
    COMPREPLY+=( $(compgen -W "{settings}" -- "$cur") )
    case "${{COMPREPLY[0]}}" in *=) compopt -o nospace 2>/dev/null ;; esac
  fi
}}
complete -o default -F _sidelight sidelight
"""
ZSH_HEAD = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def _bash(verbs: dict[str, Verb], zsh: bool) -> str:
    """The script for bash, which zsh runs too by its bashcompinit."""
    flags = [_case(6, name, "words", (flag.name for flag in verb.flags)) for name, verb in verbs.items()]
    values = [
        _case(4, f"'{name} {flag.name}'", "words", flag.values)
        for name, verb in verbs.items()
        for flag in verb.flags
        if flag.values
    ]
    plain = [_case(6, name, "words", verb.words) for name, verb in verbs.items() if verb.words]
    plain += [_case(6, "|".join(n for n, verb in verbs.items() if verb.overrides), "settings", ["yes"])]
    known = _overrides()
    keys = [_case(6, f"{name}|--{name.replace('_', '-')}", "words", values) for name, values in known.items() if values]
    return BASH.format(
        shell="zsh" if zsh else "bash",
        head=ZSH_HEAD if zsh else "",
        verbs=" ".join(verbs),
        keys="\n".join(keys),
        flags="\n".join(flags),
        values="\n".join(values),
        plain="\n".join(plain),
        settings=" ".join(f"{name}=" for name in known),
    )


def _case(indent: int, pattern: str, variable: str, words: Iterable[str]) -> str:
    return f"{' ' * indent}{pattern}) {variable}={shlex.quote(' '.join(words))} ;;"


FISH = """\
# Completion of sidelight for fish, made by `sidelight completion fish`.
function __sidelight_after --description 'whether the last flag before the cursor is this one'
    set -l flags (string match -- '-*' (commandline -opc))
    test (count $flags) -gt 0; and test "$flags[-1]" = "$argv[1]"
end
"""


def _fish(verbs: dict[str, Verb]) -> str:
    lines = [FISH.rstrip("\n")]
    for name, verb in verbs.items():
        lines.append(_complete("__fish_use_subcommand", f"-f -a {name}", verb.about))
        seen = f"__fish_seen_subcommand_from {name}"
        for flag in verb.flags:
            if not flag.name.startswith("--"):
                continue
            takes = f" -x -a {_fish_quote(' '.join(flag.values))}" if flag.values else " -r" if flag.takes else ""
            lines.append(_complete(seen, f"-l {flag.name[2:]}{takes}", flag.about))
            if flag.values:
                after = f"{seen}; and __sidelight_after {flag.name}"
                lines.append(_complete(after, f"-f -a {_fish_quote(' '.join(flag.values))}", ""))
        if verb.words:
            lines.append(_complete(seen, f"-f -a {_fish_quote(' '.join(verb.words))}", ""))
    several = " ".join(name for name, verb in verbs.items() if verb.overrides)
    for name, values in _overrides().items():
        words = [f"{name}={value}" for value in values] or [f"{name}="]
        lines.append(_complete(f"__fish_seen_subcommand_from {several}", f"-a {_fish_quote(' '.join(words))}", ""))
    return "\n".join(lines) + "\n"


def _complete(condition: str, what: str, about: str) -> str:
    described = f" -d {_fish_quote(about)}" if about else ""
    return f"complete -c sidelight -n {_fish_quote(condition)} {what}{described}"


def _fish_quote(text: str) -> str:
    """Quote for fish, in whose single quotes only \\ and ' are escaped."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
