"""Whether the tests notice: faults of one line, each put alone into a copy of the source, and the test that sees it.

    python tools/mutants.py            # all, in a few minutes; exit code 1 if a fault goes unnoticed
    python tools/mutants.py cosine     # those whose name has this in it

The checkout is never written to. A fault is found by its text in the whole of src/sidelight, and its tests by the
stems of their files in the whole of tests, so that both may move. What sees a fault must pass without it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "tests", "docs", "examples", "benchmarks", "pyproject.toml", "README.md")
COLLECTION = {2: "the run was interrupted", 3: "pytest failed", 4: "pytest was called wrongly", 5: "no test was found"}


class Fault(NamedTuple):
    """What is wrong, the text that occurs once in the source, what stands there instead, and the test files to ask."""

    name: str
    right: str
    wrong: str
    tests: tuple[str, ...]


class Gone(Exception):
    """The text of a fault, or one of its test files, is not where it can be found."""


FAULTS = (
    Fault(
        "cosine loss: its sign is flipped",
        "distance = 1 - F.cosine_similarity(",
        "distance = 1 + F.cosine_similarity(",
        ("losses/test_released",),
    ),
    Fault(
        "transport: a potential is divided by epsilon",
        "g = self.xp.log(self.v / self.b) * self.epsilon",
        "g = self.xp.log(self.v / self.b) / self.epsilon",
        ("transport/test_sinkhorn",),
    ),
    Fault(
        "student: it reads the privileged modalities",
        "student = self.network(self.available, slots, fusion)",
        "student = self.network(self.data.modalities, {}, fusion)",
        ("methods/test_distillation", "experiment/test_runner"),
    ),
    Fault(
        "placebo: nothing is permuted",
        "order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(seed % 2**63))",
        "order = torch.arange(len(batch))",
        ("experiment/test_invariants",),
    ),
    Fault(
        "preprocessing: it is fitted on all rows",
        "            self.fold.train,\n            self.modalities,\n",
        "            np.arange(len(self.dataset)),\n            self.modalities,\n",
        ("experiment/test_invariants",),
    ),
    Fault(
        "label share: it is counted over rows, not groups",
        "kept[rows[np.isin(unit, chosen)]] = True",
        "kept[rows[: max(1, round(share * len(rows)))]] = True",
        ("protocols/test_split",),
    ),
    Fault(
        "interval: the normal quantile in place of Student's",
        "special.stdtrit(df, (1 + level) / 2)",
        "special.ndtri((1 + level) / 2)",
        ("results/test_statistics",),
    ),
    Fault(
        "checkpoint: the state of the random numbers is not put back",
        'torch.set_rng_state(states["random"])',
        "torch.get_rng_state()",
        ("training/test_checkpoint",),
    ),
    Fault(
        "choice of the epoch: by test rows",
        'where = self.fold.test if part == "test" else getattr(budget, part)',
        'where = self.fold.test if part != "train" else budget.train',
        ("experiment/test_invariants",),
    ),
    Fault(
        "predictions: NaN passes as an answer",
        "bad = ~answer.isfinite().flatten(1).all(1)",
        "bad = answer.isinf().flatten(1).all(1)",
        ("data/test_overflow",),
    ),
    Fault(
        "metric: a larger error is better",
        '"mae": Metric(mae, False)',
        '"mae": Metric(mae)',
        ("tasks/test_tasks", "results/test_comparison"),
    ),
    Fault(
        "T-Net: one that was never trained is frozen",
        "isinstance(part, TNet) and int(part.trained_steps) == 0",
        "isinstance(part, TNet) and int(part.trained_steps) < 0",
        ("networks/test_build", "methods/test_registry"),
    ),
    Fault(
        "devices: a spectrogram's weights stay on the CPU",
        "return weights.to(like)",
        "return weights.to(like.dtype)",
        ("devices/test_rows_and_tasks",),
    ),
    Fault(
        "devices: the positions of time steps stay on the CPU",
        "time = torch.arange(steps, dtype=kind, device=x.device).unsqueeze(1)",
        "time = torch.arange(steps, dtype=kind).unsqueeze(1)",
        ("devices/test_networks",),
    ),
    Fault(
        "devices: a memory bank does not move with its method",
        'self.register_buffer("bank", F.normalize(bank, dim=2))',
        "self.bank = F.normalize(bank, dim=2)",
        ("devices/test_methods",),
    ),
)  # fmt: skip


def only(found: list[Path], what: str) -> Path:
    """The only path of a list."""
    if len(found) != 1:
        raise Gone(f"{what} is in {len(found)} files ({', '.join(map(str, found))}), not in one")
    return found[0]


@contextmanager
def put_in(fault: Fault, copy: Path) -> Iterator[None]:
    """The copy with the fault, and afterwards without."""
    held = {path: path.read_text() for path in sorted(copy.glob("src/sidelight/**/*.py"))}
    path = only([p for p, text in held.items() if fault.right in text], f"the text {fault.right!r}")
    if held[path].count(fault.right) != 1:
        raise Gone(f"the text {fault.right!r} is in {path.name} {held[path].count(fault.right)} times, not once")
    try:
        path.write_text(held[path].replace(fault.right, fault.wrong))
        yield
    finally:
        path.write_text(held[path])


def files_of(fault: Fault, copy: Path) -> list[str]:
    """The paths of a fault's test files within the copy."""
    found = [only(sorted(copy.glob(f"tests/**/{stem}.py")), f"{stem}.py") for stem in fault.tests]
    return [str(path.relative_to(copy)) for path in found]


def run(copy: Path, *tests: str) -> tuple[int, str]:
    """The exit code of pytest on these tests of the copy, and what it printed."""
    known = {"PYTHONPATH": f"{copy / 'src'}", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    shared = {"SIDELIGHT_SHARED": os.environ.get("SIDELIGHT_SHARED", str(ROOT.parent / "shared"))}
    command = [sys.executable, "-m", "pytest", *tests, "-x", "-q", "-n0", "-p", "no:cacheprovider", "--no-header"]
    done = subprocess.run(
        command, cwd=copy, env=os.environ | known | shared, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def seen_by(fault: Fault, copy: Path) -> str:
    """The test that sees the fault and passes without it; nothing where none does."""
    with put_in(fault, copy):
        code, said = run(copy, *files_of(fault, copy))
    if code == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - |$)", said, re.MULTILINE)
    if code != 1 or failed is None:
        raise Gone(f"{COLLECTION.get(code, 'no test failed')}:\n{said[-2000:]}")
    test = failed[1]
    code, said = run(copy, test)
    if code:
        raise Gone(f"{test} fails without the fault too:\n{said[-2000:]}")
    return test


def main(wanted: str = "") -> int:
    """Put every fault in, print a table, and say whether all were seen."""
    missed = 0
    with TemporaryDirectory(prefix="mutants-") as place:
        copy = Path(place)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, copy / name)
        for fault in (f for f in FAULTS if wanted in f.name):
            try:
                test = seen_by(fault, copy)
                result = f"caught by {test}" if test else f"NOT CAUGHT by {', '.join(fault.tests)}"
            except Gone as error:
                test, result = "", f"NOT TRIED: {error}"
            missed += not test
            print(f"{fault.name:<62} {result}", flush=True)
    print(f"{missed} not caught" if missed else "all caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
