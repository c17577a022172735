#!/usr/bin/env bash
# onnxruntime's ReduceMax and ReduceMin lose NaN unless it stands first.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6 (CPU execution provider, opset 18).
# What one would guess: the maximum of numbers and NaN is NaN, as in numpy, torch and IEEE 754-2019 `maximum`; or it
#   ignores NaN wherever it stands, as `maximumNumber` does.
# What happens: the answer depends on the position. [nan, 1, 2] gives nan, [1, nan, 2] gives 2.
# Why it matters: a model that takes minimum and maximum of a sensor's window answers as if nothing were wrong where one
#   sample in the window is NaN, although torch, from which it was exported, answers NaN.
# Output seen:
#   ReduceMax of [nan, 1, 2], [1, nan, 2], [1, 2, nan]: nan, 2.0, 2.0; ReduceMin: nan, 1.0, 1.0; numpy: nan throughout
# Exits non-zero when this changes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper

found = {}
for op in ("ReduceMax", "ReduceMin"):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph([helper.make_node(op, ["x", "axes"], ["y"], keepdims=0)], "g", [x], [y], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = np.array([[np.nan, 1, 2], [1, np.nan, 2], [1, 2, np.nan]], np.float32)
    found[op] = session.run(None, {"x": rows})[0]
    expected = rows.max(1) if op == "ReduceMax" else rows.min(1)
    print(op, found[op].tolist(), "numpy:", expected.tolist())
    assert np.isnan(expected).all()
    assert np.isnan(found[op][0]), "NaN in front used to be kept"
    assert not np.isnan(found[op][1]), "NaN in the middle used to be lost"
PY
