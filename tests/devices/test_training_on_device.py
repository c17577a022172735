"""A training on an accelerator: killed and resumed, with its random state, its checkpoints and its cached outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from helpers.pretend_device import PRETEND
from helpers.small import make_data
from helpers.support import AVAILABLE, make_network, make_rows, task_of
from sidelight.config import TrainingConfig
from sidelight.data.batch import Batch
from sidelight.data.prefetch import materialized_batches
from sidelight.data.preprocess import Preprocessor
from sidelight.errors import SidelightWarning
from sidelight.methods import Supervised, teacher_outputs
from sidelight.methods.teacher_outputs import CachedTensors
from sidelight.networks.network import compute_outputs, predict_in_chunks
from sidelight.training import fit
from sidelight.training.checkpoint import load_checkpoint
from sidelight.utils.device import choose_device, to_cpu

ROWS = make_rows("classification", "both")


class Stop(Exception):
    pass


class StopAt:
    def __init__(self, epoch: int | None = None):
        self.epoch = epoch

    def __call__(self, method, epoch):
        if epoch == self.epoch:
            raise Stop

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def fresh() -> Supervised:
    task = task_of("classification")
    network = make_network(AVAILABLE, task)
    network.fusion = nn.Sequential(network.fusion, nn.Dropout(0.5))  # draws from the device's stream
    return Supervised(network, task)


def run(method, device="pretend", **more):
    return fit(
        method, ROWS, ROWS, TrainingConfig(6, 6, 8, device=device, least_steps=1), seed=2, checkpoint_seconds=0, **more
    )


def told(history):
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history.epochs], history.best_epoch


def test_a_registered_device_is_chosen_by_its_name():
    assert choose_device("pretend") == PRETEND


def test_a_training_moves_its_method_and_learns(tmp_path):
    method = fresh()
    history = run(method)
    assert {p.device for p in method.parameters()} == {PRETEND}
    assert history.epochs[-1]["task"] < history.epochs[0]["task"]


@pytest.mark.parametrize("stop", [2, 5])
def test_a_stopped_run_ends_like_an_uninterrupted_one(tmp_path, stop):
    path = tmp_path / "state.pt"
    whole, resumed = fresh(), fresh()
    expected = told(run(whole))
    with pytest.raises(Stop):
        run(fresh(), checkpoint=path, callback=StopAt(stop))
    torch.manual_seed(12345)  # whatever happened in between, on every device
    assert told(run(resumed, checkpoint=path, callback=StopAt())) == expected
    for name, value in to_cpu(whole.state_dict()).items():
        assert torch.equal(value, resumed.state_dict()[name].cpu())


def test_a_checkpoint_is_on_the_cpu_and_goes_on_elsewhere(tmp_path):
    path = tmp_path / "state.pt"
    with pytest.raises(Stop):
        run(fresh(), checkpoint=path, callback=StopAt(3))
    state = load_checkpoint(path, "")
    assert state["device"] == "pretend:0"
    assert set(state["device_random"]) == {"pretend"}
    method = fresh()
    with pytest.warns(SidelightWarning, match="begun on pretend:0 and goes on on cpu"):
        assert len(run(method, "cpu", checkpoint=path, callback=StopAt()).epochs) == 6
    assert {p.device.type for p in method.parameters()} == {"cpu"}


def test_batches_come_to_the_device_one_ahead_and_equal_those_of_the_cpu():
    parts = list(torch.split(torch.arange(len(ROWS)), 7))
    made = {d: list(materialized_batches(ROWS, parts, device=torch.device(d))) for d in ("cpu", "pretend")}
    assert len(made["cpu"]) == len(made["pretend"]) == len(parts)
    for here, there in zip(made["cpu"], made["pretend"]):
        assert there.index.device == PRETEND
        for m, x in here.inputs.items():
            assert there.inputs[m].device == PRETEND
            assert torch.equal(there.inputs[m].cpu(), x)


def test_images_travel_in_their_stored_type_and_are_standardized_on_the_device(monkeypatch):
    data = make_data("segmentation", n=24, groups=8)
    rows = data.batch(Preprocessor.fit(data, np.arange(24), ["phone", "watch"]), ["phone", "watch"])
    assert rows.inputs["phone"].dtype == torch.uint8
    copied = []
    move = Batch.to
    monkeypatch.setattr(Batch, "to", lambda self, *where: copied.append(self) or move(self, *where))
    parts = list(torch.split(torch.arange(24), 10))
    made = {d: list(materialized_batches(rows, parts, device=torch.device(d))) for d in ("cpu", "pretend")}
    assert [batch.inputs["phone"].dtype for batch in copied] == [torch.uint8] * 3
    for here, there in zip(made["cpu"], made["pretend"]):
        assert there.target.device == there.inputs["phone"].device == PRETEND
        for m, x in here.inputs.items():
            torch.testing.assert_close(there.inputs[m].cpu(), x, rtol=0, atol=0)


def test_outputs_are_computed_on_the_device_and_kept_on_the_cpu():
    network, rows = fresh().network.eval(), torch.arange(len(ROWS))
    here = compute_outputs(network, ROWS, rows)
    there = compute_outputs(network.to(PRETEND), ROWS, rows)
    assert there.prediction.device.type == there.fused.device.type == "cpu"
    torch.testing.assert_close(there.prediction, here.prediction)
    assert predict_in_chunks(network, ROWS, rows, lambda output: output.prediction).device.type == "cpu"


@pytest.mark.parametrize("fits", [True, False])
def test_cached_outputs_lie_on_the_device_if_they_fit_and_give_the_same_rows(monkeypatch, fits):
    monkeypatch.setattr(teacher_outputs, "fits", lambda nbytes, device: fits)
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 3)))
    cached = CachedTensors({"a": values}).to(PRETEND)
    assert cached.all_rows["a"].device.type == ("pretend" if fits else "cpu")
    index = torch.tensor([3, 3, 19])
    made = cached(index.to(PRETEND))["a"]
    assert made.device == PRETEND
    assert torch.equal(made.cpu(), values[index])
    assert cached.to("cpu")(index)["a"].device.type == "cpu"
