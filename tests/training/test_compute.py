"""Errors of a device in words, and repeatable operations where they are asked for."""

from __future__ import annotations

import pytest
import torch

from helpers.small import fold_models, make_data, plan
from sidelight.config import TrainingConfig
from sidelight.errors import RunError
from sidelight.experiment.assemble import run_job
from sidelight.methods import Supervised
from sidelight.training.compute import compute_on
from sidelight.utils.device import CPU


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_names_the_batch_size_and_what_helps(error):
    helps = r"training.batch_size is 77: lower it, .* training.accumulate=4 .* training.precision=bf16"
    with (
        pytest.raises(RunError, match=f"cpu ran out of memory. {helps}"),
        compute_on(CPU, TrainingConfig(batch_size=77, least_steps=1)),
    ):
        raise error


def test_a_real_allocation_that_fails_is_out_of_memory():
    with pytest.raises(RunError, match="ran out of memory"), compute_on(CPU, TrainingConfig(least_steps=1)):
        torch.empty(2**58)


def test_other_errors_stay_as_they_are():
    for error in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RunError("told: out of memory"),
        KeyError(),
    ):
        with pytest.raises(type(error)) as caught, compute_on(CPU, TrainingConfig(least_steps=1)):
            raise error
        assert caught.value is error


def test_a_job_that_runs_out_of_memory_ends_the_run_with_that_sentence(tmp_path, monkeypatch):
    from sidelight.experiment.cells import Cell, run_cell

    def terms(self, batch, state):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    data = make_data(n=96, groups=8)
    monkeypatch.setattr(Supervised, "terms", terms)
    with pytest.raises(RunError, match=r"ran out of memory\. training.batch_size is 32"):
        run_cell(
            lambda fold, seed: fold_models(tmp_path, data, fold, seed, max_failures=0),
            tmp_path,
            Cell(tuple(plan(data)[:1])),
        )


def test_only_repeatable_operations_are_allowed_where_that_is_asked_for(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with compute_on(CPU, TrainingConfig(deterministic=True, least_steps=1)):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    with compute_on(CPU, TrainingConfig(least_steps=1)):
        assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_a_repeatable_version_is_named():
    with (
        pytest.raises(RunError, match=r"training.deterministic=true: .*median.* on cpu. Set training.deterministic="),
        compute_on(CPU, TrainingConfig(deterministic=True, least_steps=1)),
    ):
        raise RuntimeError(
            "median CUDA with indices output does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'."
        )


def test_the_same_job_repeats_with_and_without(tmp_path):
    data = make_data(n=96, groups=8)
    job = plan(data)[0]
    made = {}
    for name, deterministic in (("plain", False), ("repeatable", True)):
        models = fold_models(tmp_path / name, data, training={"deterministic": deterministic})
        with compute_on(models.device, models.config.training):
            run_job(models, job)
        made[name] = models.control_network(job).state_dict()
    assert all(torch.equal(value, made["repeatable"][name]) for name, value in made["plain"].items())
