"""Check a student's ONNX file where neither torch nor sidelight is: this script needs numpy and onnxruntime alone.

sidelight export runs/phone-watch --onnx --output student.onnx            # where sidelight is
sidelight predict runs/phone-watch rows.npz --output expected.csv
python check_onnx.py student.onnx rows.npz expected.csv                   # on the device
"""

import csv
import sys

import numpy as np
import onnxruntime


def main(graph: str, rows: str, expected: str, allowed: float = 1e-4) -> int:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    arrays, given = dict(np.load(rows)), {}
    for name in (wanted.name for wanted in session.get_inputs()):
        modality = name.removesuffix("_length").removeprefix("present_")
        if name in arrays:
            given[name] = arrays[name].astype("int64" if name.endswith("_length") else "float32")
        elif name.endswith("_length"):  # every row is as long as the array
            given[name] = np.full(len(arrays[modality]), arrays[modality].shape[1], "int64")
        else:  # every row has every modality
            given[name] = np.ones(len(arrays[modality]), bool)
    answers = session.run(None, given)[0]
    with open(expected, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    columns = [name for name in table[0] if name not in ("id", "prediction")]
    wanted = np.array([[float(row[name]) for name in columns] for row in table])
    worst = np.abs(answers - wanted).max()  # NaN if an answer is: that is a failure too
    print(f"{len(wanted)} rows, largest difference {worst:.1e} (allowed: {allowed:g})")
    return 0 if worst <= allowed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
