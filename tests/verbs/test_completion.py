"""`sidelight completion`: what bash offers at a cursor, and that every flag of the parser is in every script."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from sidelight.methods import METHODS
from sidelight.verbs.completion import SHELLS, read_verbs, write_completion


@pytest.fixture(scope="module")
def bash() -> str:
    return write_completion("bash")


def offered(script: str, *words: str) -> set[str]:
    """What bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    end = f"\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _sidelight; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    said = subprocess.run(["bash", "-c", script + end], capture_output=True, text=True, check=True)
    assert said.stderr == ""
    return set(said.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "some"),
    [
        (("sidelight", "st"), {"status"}),
        (("sidelight", "run", "--label"), {"--label-fraction"}),
        (("sidelight", "run", "x.csv", "--methods", "kl", "pkd"), {m for m in METHODS if m.startswith("pkd")}),
        (("sidelight", "run", "x.csv", "--task", "cl"), {"classification"}),
        (("sidelight", "run", "x.csv", "transport.eps"), {"transport.epsilon="}),
        (("sidelight", "run", "x.csv", "protocol", "=", "group"), {"group-kfold"}),
        (("sidelight", "run", "x.csv", "protocol=group"), {"protocol=group-kfold"}),
        (("sidelight", "completion", ""), set(SHELLS)),
        (("sidelight", "show", "transport.eps"), set()),
    ],
)
def test_bash_offers(bash, words, some):
    assert offered(bash, *words) == some


@pytest.mark.parametrize("shell", SHELLS)
def test_every_verb_and_flag_is_in_the_script(shell):
    script = write_completion(shell)
    for name, verb in read_verbs().items():
        assert name in script
        for flag in verb.flags:
            assert (f"-l {flag.name[2:]}" if shell == "fish" else flag.name) in script


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_parse_its_script(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    subprocess.run([shell, "-n"], input=write_completion(shell), text=True, check=True)
