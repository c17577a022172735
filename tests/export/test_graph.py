"""What other runtimes ask of a graph: no operation that they lack, no float64, a bound on the rows of a call."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

from export.test_student import make_student, rows
from sidelight.cli import main
from sidelight.data.statistics import PARTS, window_statistics
from sidelight.errors import ConfigError, RunError
from sidelight.export import Student
from sidelight.export import graph as graph_module
from sidelight.networks.fusions import FUSIONS

pytestmark = pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")


def trace(student: Student) -> torch.export.ExportedProgram:
    deployed = graph_module._self_contained(student.deployed, None)
    rows = tuple(graph_module.typical_rows(deployed, 3))
    return torch.export.export(deployed, rows, dynamic_shapes=graph_module._dynamic(deployed))


def check_operations(program: torch.export.ExportedProgram) -> None:
    """Neither the operations nor the types of all that the nodes make and hold are such as other runtimes lack."""
    nodes = list(program.graph.nodes)
    operations = {str(n.target) for n in nodes if n.op == "call_function"}
    made = [v for n in nodes for v in (n.meta.get("val"),) if isinstance(v, torch.Tensor)]
    kept = [*program.state_dict.values(), *program.constants.values()]
    types = {z.dtype for z in [*made, *kept] if isinstance(z, torch.Tensor)}
    assert any("linear" in name for name in operations)
    assert not [name for name in operations if "sort" in name]
    assert torch.float64 not in types
    assert torch.float32 in types


@pytest.mark.slow  # test_a_bound_of_the_rows looks into the graph of statistics
@pytest.mark.parametrize(("encoder", "fusion"), [("auto", "concat"), *(("cnn", fusion) for fusion in FUSIONS)])
def test_graphs_hold_neither_sort_nor_float64(encoder, fusion):
    check_operations(trace(make_student(encoder=encoder, fusion=fusion, variable=True)))


def before(x: torch.Tensor, window: int) -> torch.Tensor:
    """Quartiles and spectrum as they were: by sort, and with the waves made in float64 by torch."""
    ordered = x.sort(dim=1).values
    quartiles = [ordered[:, math.floor(q * (x.shape[1] - 1))] for q in (0.25, 0.5, 0.75)]
    time, k = torch.arange(x.shape[1], dtype=torch.float64), torch.arange(1, 9, dtype=torch.float64)[:, None]
    angle = 2 * math.pi * k * time / window
    parts = torch.einsum("kt,btc->bck", torch.cat([angle.cos(), angle.sin()]).to(x), x - x.mean(1, keepdim=True))
    parts = parts * (2 / x.shape[1])
    amplitude = (parts[..., :8].square() + parts[..., 8:].square()).sqrt()
    return torch.cat([torch.stack(quartiles, -1), amplitude.log1p()], -1).flatten(1)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 50, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_window_statistics_are_what_they_were(steps, dtype):
    x = torch.randn(5, steps, 3, generator=torch.Generator().manual_seed(steps), dtype=dtype)
    now = window_statistics(x, None, ["quartiles", "spectrum"], window=steps)
    torch.testing.assert_close(now, before(x, steps), rtol=1e-6, atol=1e-6)
    assert now.dtype == dtype
    quartiles = window_statistics(x, None, ["quartiles"])
    assert torch.equal(quartiles.view(5, 3, 3), before(x, steps).view(5, 3, -1)[..., :3])  # to the bit
    varying = torch.tensor([1, steps, max(1, steps // 2), max(1, steps - 1), steps])
    for row, length in enumerate(varying.tolist()):
        alone = window_statistics(x[row : row + 1, :length], None, PARTS, window=steps)
        torch.testing.assert_close(
            window_statistics(x, varying, PARTS, window=steps)[row], alone[0], rtol=1e-4, atol=1e-5
        )


def test_waves_made_while_tracing_are_real(tmp_path):
    """What tracing leaves in a cache would be a tensor without values."""

    class Statistics(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return window_statistics(x, None, ["spectrum"], window=77)

    x = torch.randn(2, 61, 2)
    program = torch.export.export(Statistics(), (x,))
    torch.testing.assert_close(program.module()(x), window_statistics(x, None, ["spectrum"], window=77))


@pytest.mark.parametrize("max_batch", [pytest.param(1, marks=pytest.mark.slow), 16])
def test_a_bound_of_the_rows(max_batch, tmp_path):
    student = make_student(variable=True)
    path = student.export(tmp_path / "student.pt2", max_batch=max_batch)
    program = torch.export.load(path)
    sizes = [
        n.meta["val"].shape[0] for n in program.graph.nodes if n.op == "placeholder" and n.name.startswith("tensors")
    ]
    if max_batch == 1:
        assert set(sizes) == {1}
    else:
        assert {r.upper for r in program.range_constraints.values()} == {max_batch}
        check_operations(program)
    given = rows(student, max_batch)
    lengths = torch.full((max_batch,), 20)
    given = [torch.from_numpy(given["phone_acc"]).float(), lengths, torch.from_numpy(given["context"]).float()]
    out = program.module()(*given)[1]
    assert out.shape[0] == max_batch
    expected = student.respond(rows(student, max_batch), lengths={"phone_acc": lengths.numpy()})
    np.testing.assert_allclose(out, expected, atol=1e-5)
    with pytest.raises((RuntimeError, AssertionError)):
        program.module()(*[torch.cat([z, z[:1]]) for z in given])


def test_without_a_bound_any_number_of_rows(tmp_path):
    student = make_student(reads=("context",))
    program = torch.export.load(student.export(tmp_path / "student.pt2"))
    assert program.module()(torch.zeros(1000, 4))[0].shape == (1000, 3)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "8", 10**12])
def test_a_bound_that_is_none_is_named(wrong, tmp_path):
    with pytest.raises(ConfigError, match="max_batch must be a whole number from 1 to 16,777,216, not "):
        make_student(reads=("context",)).export(tmp_path / "student.pt2", max_batch=wrong)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_a_bound_is_for_pt2(suffix, tmp_path):
    with pytest.raises(ConfigError, match=rf"max_batch is for .pt2 and .pte files; {suffix} takes any number of rows"):
        make_student(reads=("context",)).export(tmp_path / f"student{suffix}", max_batch=8)


def test_the_command_line_takes_the_bound(tmp_path):
    file = make_student(reads=("context",)).save(tmp_path / "student.safetensors")
    main(["export", str(file), "--output", str(tmp_path / "student.pt2"), "--max-batch", "8"])
    program = torch.export.load(tmp_path / "student.pt2")
    assert {r.upper for r in program.range_constraints.values()} == {8}


def test_executorch_needs_the_bound_and_its_package(tmp_path, monkeypatch):
    student = make_student(reads=("context",))
    with pytest.raises(ConfigError, match="ExecuTorch plans its memory ahead; give max_batch"):
        student.export(tmp_path / "student.pte")
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    with pytest.raises(RunError, match="pip install executorch"):
        student.export(tmp_path / "student.pte", max_batch=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_executorch_says_what_torch_says(tmp_path):
    """Compared at 1 and at 7 rows, one of them with a dead sensor, before the file gets its name."""
    runtime = pytest.importorskip("executorch.runtime")
    student = make_student(variable=True)
    path = student.export(tmp_path / "student.pte", max_batch=16)
    told = json.loads((tmp_path / "student.pte.json").read_text())
    assert told["graph_inputs"] == ["phone_acc", "phone_acc_length", "context"]
    given = rows(student, 5)
    tensors = {m: torch.from_numpy(x).float() for m, x in given.items()} | {"phone_acc_length": torch.full((5,), 20)}
    method = runtime.Runtime.get().load_program(path.read_bytes()).load_method("forward")
    out = method.execute([tensors[name] for name in told["graph_inputs"]])[told["graph_outputs"].index("logits")]
    np.testing.assert_allclose(out, student.respond(given, lengths={"phone_acc": np.full(5, 20)}), atol=1e-5)


class Recurrent(nn.Module):
    """An encoder of one's own, of a kind whose time axis exporters may fix to the example's length."""

    def __init__(self, kind: type[nn.RNNBase]):
        super().__init__()
        self.rnn = kind(3, 16, batch_first=True)

    def forward(self, x: torch.Tensor, length: torch.Tensor | None = None) -> torch.Tensor:
        return self.rnn(x)[0].mean(1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_encoders_take_any_length_or_are_refused(kind, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    student = make_student(variable=True, encoder="cnn", encoders={"phone_acc": Recurrent(kind)})
    if kind is nn.RNN:
        with pytest.raises(RunError, match="cannot be written as ONNX"):
            student.export(tmp_path / "student.onnx")
        assert list(tmp_path.iterdir()) == []
        return
    session = runtime.InferenceSession(student.export(tmp_path / "student.onnx"))
    context = rows(student, 5)["context"].astype(np.float32)
    for steps in (20, 31):
        x = np.random.default_rng(0).normal(9.8, 3, (5, steps, 3)).astype(np.float32)
        length = np.full(5, steps)
        said = session.run(["logits"], {"phone_acc": x, "phone_acc_length": length, "context": context})[0]
        expected = student.respond({"phone_acc": x, "context": context}, lengths={"phone_acc": length})
        np.testing.assert_allclose(said, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
def test_recurrent_encoders_need_a_bound_in_torch_export(kind, tmp_path):
    student = make_student(variable=True, encoder="cnn", encoders={"phone_acc": Recurrent(kind)})
    with pytest.raises(RunError, match=r"cannot be exported by torch\.export"):
        student.export(tmp_path / "student.pt2")
    assert student.export(tmp_path / "bounded.pt2", max_batch=4).is_file()  # with the longest training length
