"""Load local weights into a network and report which tensors matched; nothing that is loaded executes."""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sidelight.config.paths import looked_for
from sidelight.errors import RunError, SidelightWarning
from sidelight.networks.backbones.backbone import Backbone
from sidelight.networks.rgbd import PyramidEncoder
from sidelight.utils.files import check_file, describe_content
from sidelight.utils.tensorfile import all_finite
from sidelight.utils.tensorfile import read_tensors as read_safetensors

PREFIXES = ("module.", "backbone.", "encoder.", "model.", "net.", "wav2vec2.", "bert.", "videomae.")
SECTIONS = ("state_dict", "model_state_dict", "model", "weights", "net")
"""Keys under which training scripts save the weights."""


@dataclass(frozen=True)
class WeightsReport:
    """The tensors that a weights file gave to a network.

    matched: the network's tensors that were loaded. missing: those that keep their fresh values. unexpected: tensors of
    the file that the network has no place for, such as a classifier. summed: those whose input channels were summed.
    """

    path: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    summed: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.path}: {len(self.matched)} of {len(self.matched) + len(self.missing)} tensors loaded"]
        for what, names in (
            ("summed over input channels", self.summed),
            ("missing from the file, left as they were", self.missing),
            ("in the file only, not loaded", self.unexpected),
        ):
            if names:
                more = f" and {len(names) - 6} more" if len(names) > 6 else ""
                lines.append(f"  {what}: {', '.join(names[:6])}{more}")
        return "\n".join(lines)


def load_weights(module: nn.Module, path: str | Path, *, sum_channels: bool = False) -> WeightsReport:
    """Copy a local file's tensors into a network as far as their names agree.

    Names are tried as they are, and then without the prefixes in `PREFIXES`, one after the other; in a `Backbone` its
    public network is filled. Counters of batch normalisation that old files lack are not reported as missing.

    Args:
        module: the network, changed in place.
        path: .safetensors, or a file of torch.save (read with weights_only=True): a state dict, or a mapping that
            holds one as "state_dict", "model" or the like.
        sum_channels: sum a first convolution over its input channels where the network reads one channel (a grey image
            then gives the same as an RGB image of three equal channels).

    Returns:
        The names of tensors that were loaded, missing and unexpected.

    Raises:
        RunError: The file is missing, damaged, no weights file, or would execute code; no name agrees; a tensor has
            another shape, or holds NaN or infinity. The network is then unchanged.
    """
    hint = looked_for(path)
    path = Path(path)
    net = module.net if isinstance(module, Backbone | PyramidEncoder) else module
    own = net.state_dict()  # shares memory with the network: copying into it loads the weights
    stored = read_tensors(path, hint)
    found, unexpected = _match(stored, own, getattr(net, "local_name", str))
    if not found:
        raise RunError(
            f"{path}: none of its {len(stored)} tensors belongs to this network. It has {_list_some(stored)}; "
            f"expected {_list_some(own)}. Does it belong to another network?"
        )
    summed = _fit_shapes(path, net, own, found, sum_channels)
    for name, tensor in found.items():
        if not all_finite(tensor):
            raise RunError(f"{path}: {name} holds NaN or infinity; the file is damaged, or its training diverged")
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)
    missing = [n for n in own if n not in found and not n.endswith("num_batches_tracked")]
    return WeightsReport(str(path), tuple(found), tuple(missing), tuple(unexpected), tuple(summed))


def warn_missing(modality: str, report: WeightsReport) -> None:
    """Warn, once per process, that the file lacks some of the network's tensors."""
    if report.missing:
        _warn_once(f"network.weights.{modality}: {report}")


@functools.cache
def _warn_once(text: str) -> None:
    warnings.warn(text, SidelightWarning, stacklevel=4)


def read_tensors(path: Path, hint: str = "") -> dict[str, Tensor]:
    """The named tensors of a file, on the CPU; `hint` states where a relative path was looked for."""
    check_file(path, RunError, f"{hint}; give a local .safetensors, .pt or .pth file of weights")
    if path.suffix == ".safetensors":
        return read_safetensors(path, finite=False)[0]  # only the tensors that the network uses are checked, later
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        told = describe_content(path)
        if told and not told.endswith((".pth, .xlsx)", "never loaded")):
            raise RunError(f"{path} is no weights file: {told}") from None
        raise RunError(
            f"{path} holds more than tensors and is not loaded, since it could execute code. If you trust it, save "
            f"its state_dict again with safetensors ({str(error).splitlines()[0][:120]})"
        ) from None
    except Exception as error:
        told = describe_content(path, path.suffix) or (str(error).splitlines() or [""])[0][:160]
        raise RunError(f"{path} is no weights file, or it is damaged: {told}") from None
    return _tensors(path, found)


def _tensors(path: Path, found: Any) -> dict[str, Tensor]:
    """The mapping of names to tensors, perhaps nested in what was saved."""
    if isinstance(found, Mapping):
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        for section in SECTIONS:
            if isinstance(found.get(section), Mapping):
                return _tensors(path, found[section])
        raise RunError(f"{path} holds no tensors by name; it has {', '.join(map(str, list(found)[:8])) or 'nothing'}")
    raise RunError(f"{path} holds a {type(found).__name__}, not tensors by name")


def _match(stored: Mapping[str, Tensor], own: Mapping[str, Tensor], local: Any) -> tuple[dict[str, Tensor], list[str]]:
    """{own name: stored tensor}, and the stored names without a place; unchanged names come before stripped ones."""
    names = {name: [local(v) for v in _variants(name)] for name in stored}
    found: dict[str, Tensor] = {}
    used: set[str] = set()
    for depth in range(max((len(v) for v in names.values()), default=0)):
        for name, variants in names.items():
            if name not in used and depth < len(variants) and variants[depth] in own and variants[depth] not in found:
                found[variants[depth]] = stored[name]
                used.add(name)
    return {name: found[name] for name in own if name in found}, [name for name in stored if name not in used]


def _variants(name: str) -> list[str]:
    """The name, then without its first prefix, then without two, …"""
    variants = [name]
    while prefix := next((p for p in PREFIXES if variants[-1].startswith(p)), None):
        variants.append(variants[-1].removeprefix(prefix))
    return variants


def _fit_shapes(
    path: Path, net: nn.Module, own: Mapping[str, Tensor], found: dict[str, Tensor], sum_channels: bool
) -> list[str]:
    """Names whose input channels were summed; raises RunError for every other difference of shapes."""
    first = next((f"{name}.weight" for name, m in net.named_modules() if isinstance(m, _ConvNd)), "")
    summed = []
    for name, tensor in found.items():
        wanted = own[name].shape
        if tensor.shape == wanted:
            continue
        grey = name == first and tensor.dim() == len(wanted) > 2 and tensor.sum(1, keepdim=True).shape == wanted
        if grey and sum_channels:
            found[name] = tensor.sum(1, keepdim=True)
            summed.append(name)
            continue
        mend = (
            "; network.sum_channels=true sums them (load_weights: sum_channels=True)"
            if grey
            else ". Does it belong to another network?"
        )
        raise RunError(f"{path}: {name} has shape {tuple(tensor.shape)}; expected {tuple(wanted)}{mend}")
    return summed


def _list_some(names: Mapping[str, Tensor]) -> str:
    return ", ".join(list(names)[:3]) + (", …" if len(names) > 3 else "")
