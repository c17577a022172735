"""The random state that a training depends on: torch's on the CPU and on the device, and numpy's global one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed torch on every device, and numpy's global generator, from which some encoders draw (SpecAugment)."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def get_random_states(device: torch.device) -> dict[str, Any]:
    """The random states as tensors and numbers on the CPU, which a checkpoint can hold.

    Args:
        device: the device of the training.
    """
    numpy: dict[str, Any] = np.random.get_state(legacy=False)  # type: ignore[assignment]  # noqa: NPY002
    states: dict[str, Any] = {
        "random": torch.get_rng_state(),
        # Loading a checkpoint refuses numpy's own types.
        "numpy_random": {
            "key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            "pos": int(numpy["state"]["pos"]),
            "has_gauss": int(numpy["has_gauss"]),
            "gauss": float(numpy["gauss"]),
        },
    }
    if device.type != "cpu":
        module: Any = torch.get_device_module(device)
        state = module.get_rng_state() if device.type == "mps" else module.get_rng_state(device)
        states["device_random"] = {device.type: state.cpu()}
    return states


def set_random_states(device: torch.device, states: Mapping[str, Any]) -> None:
    """Continue from `get_random_states`; the state of another kind of device, and what is not stored, stay as they are.

    Args:
        device: the device of the training.
        states: the states.
    """
    torch.set_rng_state(states["random"])
    if "numpy_random" in states:  # earlier versions stored none
        numpy = states["numpy_random"]
        key = numpy["key"].numpy().astype(np.uint32)
        np.random.set_state(("MT19937", key, numpy["pos"], numpy["has_gauss"], numpy["gauss"]))  # noqa: NPY002
    state = states.get("device_random", {}).get(device.type)
    if state is not None:
        module: Any = torch.get_device_module(device)
        if device.type == "mps":
            module.set_rng_state(state)
        else:
            module.set_rng_state(state, device)
