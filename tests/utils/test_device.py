"""Which device is chosen, and what is said where there is none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sidelight.cli import main
from sidelight.config import load_config
from sidelight.errors import ConfigError
from sidelight.extract import extract
from sidelight.utils.device import CPU, choose_device, default_workers, describe_device, fits, supports_bf16, to_cpu


@pytest.fixture
def machine(monkeypatch):
    """Makes torch say that it was built for something, and sees so many GPUs."""

    def make(gpus: int = 0, cuda: str | None = "13.0", apple: bool = False) -> None:
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {torch.device(device).index}")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)

        class Made:
            """What torch.ones gives on a device that is not there."""

            def __init__(self, *size: int, device: torch.device):
                self.device = torch.device(device.type, device.index or 0)

            def __add__(self, other: object) -> SimpleNamespace:
                return SimpleNamespace(sum=lambda: 16.0)

        real = torch.ones
        monkeypatch.setattr(
            torch,
            "ones",
            lambda *s, device: real(*s) if torch.device(device).type == "cpu" else Made(*s, device=device),
        )

    return make


@pytest.mark.parametrize(
    ("gpus", "apple", "chosen"), [(0, False, "cpu"), (2, False, "cuda:0"), (0, True, "mps:0"), (1, True, "cuda:0")]
)
def test_auto_takes_a_gpu_if_there_is_one(machine, gpus, apple, chosen):
    machine(gpus, apple=apple)
    assert str(choose_device("auto")) == chosen


def test_a_device_gets_its_number_and_its_name(machine):
    machine(2)
    assert [str(choose_device(name)) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda:0", "cuda:1"]
    assert [describe_device(choose_device(name)) for name in ("cpu", "cuda:1")] == ["cpu", "cuda:1 (GPU 1)"]
    assert [default_workers(choose_device(name), 8) for name in ("cpu", "cuda")] == [8, 1]


@pytest.mark.parametrize(
    ("name", "gpus", "cuda", "said"),
    [
        ("gpu", 1, "13.0", "training.device: 'gpu' is not a device; expected auto, cpu, cuda, cuda:1 .* or mps"),
        ("cuda:x", 1, "13.0", "'cuda:x' is not a device"),
        ("", 1, "13.0", "'' is not a device"),
        ("cuda", 0, None, r"training.device=cuda: this torch \(.*\) is built for CPUs; install one .* built for CUDA"),
        ("cuda", 0, "13.0", "training.device=cuda: torch sees no CUDA device, .* driver is missing or too old"),
        ("cuda:3", 1, "13.0", "this machine has 1 CUDA device, cuda:0. Set training.device=auto"),
        ("cuda:3", 3, "13.0", "this machine has 3 CUDA devices, cuda:0 to cuda:2."),
        ("mps", 0, None, "this torch sees no Apple GPU"),
        ("meta", 0, None, "a meta device computes nothing"),
    ],
)
def test_a_device_that_is_not_there_is_an_error_with_the_mend(machine, name, gpus, cuda, said):
    machine(gpus, cuda)
    with pytest.raises(ConfigError, match=said):
        choose_device(name)


def test_a_device_that_cannot_be_used_says_why():
    with pytest.raises(ConfigError, match=r"training.device=xpu cannot be used: .*`sidelight doctor`"):
        choose_device("xpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_every_verb_that_computes_refuses_a_device_that_is_not_there(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["run", "phone-watch", "--output", str(run), "training.device=cuda"]) == 2
    assert "error: training.device=cuda: " in capsys.readouterr().err
    assert not run.exists()
    assert main(["run", "phone-watch", "--dry-run", "training.device=cuda"]) == 2
    with pytest.raises(ConfigError, match=r"device=cuda: .*Set device=auto"):
        extract("phone-watch", tmp_path / "out", {"phone": "r3d18"}, device="cuda")


def test_device_is_a_setting_that_other_words_lead_to():
    assert load_config(None, ["training.device=cuda:1"]).training.device == "cuda:1"
    for word in ("device", "gpu", "accelerator"):
        with pytest.raises(ConfigError, match=r"Did you mean 'training.device'"):
            load_config(None, [f"{word}=cuda"])


def test_caches_fit_into_a_share_of_what_is_free(monkeypatch):
    gpu = torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9999))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert fits(300, gpu)
    assert not fits(301, gpu)
    assert fits(2**60, CPU)


def test_trees_come_to_the_cpu_with_their_containers():
    x = torch.ones(2)
    moved = to_cpu({"a": [x, (1, "b")], "c": None, 3: x})
    assert moved == {"a": [x, (1, "b")], "c": None, 3: x}
    assert isinstance(moved["a"][1], tuple)


def test_this_cpu_computes_in_bfloat16():
    assert supports_bf16(CPU)
