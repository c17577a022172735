"""Everything that only a GPU can show, in one run of at most 8 minutes and one table.

    python benchmarks/gpu.py --output gpu.csv                  # on the first CUDA GPU
    python benchmarks/gpu.py --seconds 240 --only transport    # one section, half the time
    python benchmarks/gpu.py --device cpu --tiny               # whether the script runs; its figures mean nothing

Sections, each with ratios of things that took turns in this run:

- steps: a training step through our loop beside a plain PyTorch loop (training_step.py), and bfloat16 beside float32;
- kernels: whether the Triton kernels of the online transport give the values of its blocks and of the dense path;
- transport: forward and backward of our paths at equal marginal error, beside flash-sinkhorn and geomloss with KeOps;
- tf32: whether transport is the same where TF32 products are allowed globally;
- study: a small study on the device and on the CPU: seconds, and how far the tables are apart;
- resume: whether a killed and resumed training with training.deterministic=true ends with the same bits;
- memory: peak memory of a job, and what copying ahead from pinned memory saves.

It needs no network. What must be installed is in gpu-requirements.txt; without installation: `PYTHONPATH=src`. The seconds are
divided over the sections: the script ends in time and says what it left out. A failed section is a row, and so is a failed check
("wrong"); both give exit status 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from functools import partial
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it before its first product

import torch

import gpu_training
import gpu_transport
from gpu_table import Row, run_sections, write_csv
from sidelight.utils.device import choose_device, describe_device

SECTIONS = {  # name -> share of the seconds, function
    "kernels": (10, gpu_transport.kernels),
    "steps": (25, gpu_training.steps),
    "transport": (30, gpu_transport.times),
    "tf32": (5, gpu_transport.tf32),
    "study": (25, gpu_training.study),
    "resume": (10, gpu_training.resume),
    "memory": (15, gpu_training.memory),
}


def measure(device: torch.device, tiny: bool, seconds: float, only: list[str] | None = None) -> list[Row]:
    """Run the sections.

    Args:
        device: where they compute.
        tiny: take sizes that show nothing but that the script runs.
        seconds: how long all of it may take.
        only: names of sections; all by default.
    """
    chosen = {name: (share, partial(section, device, tiny)) for name, (share, section) in SECTIONS.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_sections({name: chosen[name] for name in only or chosen}, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, mps or cpu")
    parser.add_argument("--seconds", type=float, default=480, help="how long all sections together may take")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="only these sections")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that the script runs")
    parser.add_argument("--output", type=Path, help="the table as CSV")
    args = parser.parse_args()
    device = choose_device(args.device, "--device")
    versions = f"Python {sys.version.split()[0]}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    print(f"{describe_device(device)}, {versions}{', tiny sizes: figures mean nothing' if args.tiny else ''}\n")
    rows = measure(device, args.tiny, args.seconds, args.only)
    if args.output:
        with args.output.open("w", newline="") as file:
            write_csv(rows, file)
    return int(any(row.status in ("error", "wrong") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
