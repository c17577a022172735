"""A student on ONNX Runtime alone, without Python's torch or sidelight, beside the same student in torch.

    python benchmarks/deploy.py runs/phone-watch

Writes the ONNX file, runs it in a process that imports onnxruntime and numpy and nothing else of ours, compares the
answers, and times single rows on one thread, the two taking turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

ALONE = """
import sys, time
import numpy as np
import onnxruntime

folder, repeats = sys.argv[1], int(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(folder + "/student.onnx", options, providers=["CPUExecutionProvider"])
rows = dict(np.load(folder + "/rows.npz"))
np.save(folder + "/answers.npy", session.run(None, rows)[0])
one = {name: value[:1] for name, value in rows.items()}
for line in sys.stdin:  # a turn
    start = time.perf_counter()
    for _ in range(repeats):
        session.run(None, one)
    print((time.perf_counter() - start) / repeats * 1e6, flush=True)
loaded = sorted({"torch", "sidelight"} & {name.partition(".")[0] for name in sys.modules})
print("imported:", loaded, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("student", help="run folder, or student.safetensors")
    parser.add_argument("--repeats", type=int, default=300, help="calls in a turn")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()

    import numpy as np
    import torch

    from sidelight.export import load_student
    from sidelight.export.deployed import Deployed
    from sidelight.export.graph import typical_rows

    torch.set_num_threads(1)
    student = load_student(args.student)
    deployed = Deployed(student.network, student.preprocessor, student.task).eval()
    tensors = typical_rows(deployed, 256)
    one = [z[:1] for z in tensors]
    raw = {m: z.numpy() for m, z in zip(deployed.inputs, one) if m in student.reads}
    lengths = {m: one[deployed.inputs.index(f"{m}_length")].numpy() for m in deployed.variable}

    def graph() -> object:
        with torch.no_grad():
            return deployed(*one)

    def predict() -> object:
        return student.respond(raw, lengths=lengths)

    with tempfile.TemporaryDirectory() as folder:
        student.export(Path(folder) / "student.onnx")
        np.savez(Path(folder) / "rows.npz", **{name: z.numpy() for name, z in zip(deployed.inputs, tensors)})
        command = [sys.executable, "-c", ALONE, folder, str(args.repeats)]
        alone = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert alone.stdin is not None
        assert alone.stdout is not None
        times: dict[str, list[float]] = {"ONNX Runtime": [], "torch, the network alone": [], "Student.respond": []}
        for _ in range(args.turns):
            alone.stdin.write("turn\n")
            alone.stdin.flush()
            times["ONNX Runtime"].append(float(alone.stdout.readline()))
            for name, call in (("torch, the network alone", graph), ("Student.respond", predict)):
                start = time.perf_counter()
                for _ in range(args.repeats):
                    call()
                times[name].append((time.perf_counter() - start) / args.repeats * 1e6)
        alone.stdin.close()
        print("the process of ONNX Runtime", alone.stdout.readline().strip())
        alone.wait()
        answers = np.load(Path(folder) / "answers.npy")
    with torch.no_grad():
        expected = deployed(*tensors)[0].numpy()
    print(
        f"largest difference of {deployed.outputs[0]}: {np.abs(answers - expected).max():.1e} over {len(answers)} rows"
    )
    fastest = statistics.median(times["ONNX Runtime"])
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name}: {median:.0f} µs a row at batch 1, {median / fastest:.1f} times ONNX Runtime")


if __name__ == "__main__":
    main()
