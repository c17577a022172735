"""How much memory `sidelight run` and `sidelight inspect` take, beside the size of the data.

    python benchmarks/memory.py

Writes an .npz of two modalities in float32, runs each command on it, and samples the proportional set size (PSS) of the whole process tree: a page
that k processes share counts 1/k in each, so the sum is what the machine has to provide. Linux only (`/proc/PID/smaps_rollup`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MIB = 2**20
PER_PROCESS = 350e6
"""Bytes that each process may take beside the data: Python, torch, scikit-learn, pandas and a network."""
PROCESSES = {"run": 3}
"""Processes that read rows: the parent, and two workers of a run."""
MOST = {"inspect": 1.6, "dry run": 1.5, "run": 1.5}
"""Copies of the data that a command may hold beside `PER_PROCESS`."""
TRAINING = ["training.epochs=1", "training.batch_size=1024"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=32, help="of each of the two modalities")
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2, help="worker processes of the run")
    parser.add_argument("--compressed", action="store_true", help="write the .npz compressed")
    parser.add_argument("--only", choices=MOST, action="append", help="a command; by default all")
    parser.add_argument("--timeline", action="store_true", help="print each new peak when it is reached")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        size = write_rows(path, args.rows, args.columns, args.groups, args.compressed)
        print(f"{args.rows:,} rows, {size / MIB:.0f} MiB of float32, a file of {path.stat().st_size / MIB:.0f} MiB")
        roles = ["--available", "phone", "--privileged", "watch"]
        study = ["run", str(path), *roles, "--methods", "kl", "--folds", "2", "--seeds", "1"]
        study += ["--jobs", str(args.jobs), "--output", str(Path(folder) / "run"), "--quiet", *TRAINING]
        commands = {"inspect": ["inspect", str(path)], "dry run": [*study, "--dry-run"], "run": study}
        missed = [name for name in args.only or commands if not measure(name, commands[name], size, args.timeline)]
    sys.exit(1 if missed else 0)


def write_rows(path: Path, rows: int, columns: int, groups: int, compressed: bool) -> int:
    """Write two modalities that tell four classes with some error, and groups; returns the bytes of the modalities."""
    rng = np.random.default_rng(0)
    target = rng.integers(4, size=rows)
    inputs = {}
    for name, signal in (("phone", 0.3), ("watch", 0.6)):
        x = rng.standard_normal((rows, columns), dtype=np.float32)
        x[:, :4] += signal * np.eye(4, dtype=np.float32)[target]
        inputs[name] = x
    save = np.savez_compressed if compressed else np.savez
    save(path, **inputs, target=target, group=rng.integers(groups, size=rows))
    return sum(x.nbytes for x in inputs.values())


def measure(name: str, command: list[str], data: int, timeline: bool) -> bool:
    """Run a command and print its peak; whether it stays within its bound."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "sidelight", *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    peak, at_peak, most_processes = 0, [0], 0
    while process.poll() is None:
        sizes = [size for size in map(read_pss, list_tree(process.pid)) if size]
        most_processes = max(most_processes, len(sizes))
        if sum(sizes) > peak:
            peak, at_peak = sum(sizes), sizes
            if timeline:
                print(f"  {time.monotonic() - start:6.1f} s  {describe(at_peak)}", flush=True)
        time.sleep(0.1)  # telling the size of a process walks its pages, which takes milliseconds
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    # The parent and its workers; neither the resource tracker of multiprocessing nor the server that workers are
    # forked from raises the bound.
    large = PROCESSES.get(name, 1)
    bound = MOST[name] * data + large * PER_PROCESS
    print(
        f"{name}: {'kept' if peak <= bound else 'MISSED'}: seen {peak / 1e6:.0f} MB, bound {bound / 1e6:.0f} MB; "
        f"{time.monotonic() - start:.0f} s, {most_processes} processes ({describe(at_peak)}); seen "
        f"{(peak - large * PER_PROCESS) / data:.2f} × the data + {large} × {PER_PROCESS / 1e6:.0f} MB "
        f"(at most {MOST[name]} ×), {peak / data:.1f} × the data in all",
        flush=True,
    )
    return peak <= bound


def describe(sizes: list[int]) -> str:
    return " + ".join(f"{size / 1e6:.0f}" for size in sizes) + " MB"


def list_tree(root: int) -> list[int]:
    """A process and everything below it."""
    found = [root]
    for pid in found:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:  # ended meanwhile
            continue
        found += map(int, children)
    return found


def read_pss(pid: int) -> int:
    """Bytes of the proportional set size of a process; 0 where it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    main()
