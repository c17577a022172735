"""wav2vec2, BERT and VideoMAE by the extra `hf`, from a local folder or a configuration; nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sidelight.errors import ConfigError, DataError, SidelightError
from sidelight.networks.backbones.base import BackboneNet, Returns
from sidelight.networks.tokens import compute_stretch_weights, countable
from sidelight.utils.extras import install
from sidelight.utils.files import check_file, read_json

FAMILIES = {
    "wav2vec2": "waveforms (time,) or (time, 1)",
    "bert": "token numbers (time,) or (time, 1)",
    "videomae": "clips (channels, time, height, width)",
}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
PRIVATE = ("auto_map", "quantization_config", "transformers_version", "architectures", "model_type")
"""Keys that are left out of a configuration: its own code, and settings that need other packages.

`_strip_private` also leaves out names that begin with "_", such as the folder's path, and names of implementations of
attention or experts: transformers would take them as names of repositories whose code it fetches and runs.
"""


class HFNet(BackboneNet, nn.Module):
    """A transformer's last hidden states as a map: (B, D, T'); (B, D, T', H', W') for VideoMAE.

    SpecAugment and layer dropout are off: SpecAugment draws its masks outside torch's random state. BERT has no
    pooling layer; its vector is the mean over the tokens that are not padding.
    """

    kind = "hf"

    def __init__(self, model: nn.Module, config: Any):
        super().__init__()
        self.model = model
        self.family: str = config.model_type
        self.out_channels: int = config.hidden_size
        self.description = {"model_type": self.family, **_to_json(config)}
        self.config = config
        self.reads_length = self.family == "bert" or getattr(config, "feat_extract_norm", "") == "layer"

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        out: Tensor
        if self.family == "videomae":
            size, patch = self.config.image_size, self.config.patch_size
            hidden = self.model(pixel_values=x.transpose(1, 2)).last_hidden_state
            grid = (self.config.num_frames // self.config.tubelet_size, size // patch, size // patch)
            out = hidden.transpose(1, 2).unflatten(2, grid)
            return out
        if self.family == "bert":
            ids = self._token_numbers(x.flatten(1))
            mask = ids != self.config.pad_token_id
            if length is not None:
                mask &= torch.arange(ids.shape[1], device=x.device) < length.unsqueeze(1)
            mask[:, 0] = True  # a row without any token would otherwise attend to nothing
            hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            out = (hidden * mask.unsqueeze(2)).transpose(1, 2)
            return out
        x = x.flatten(1)
        valid = None
        if length is not None:
            valid = torch.arange(x.shape[1], device=x.device) < length.unsqueeze(1)
            x = x.masked_fill(~valid, 0.0)
        hidden = self.model(input_values=x, attention_mask=None if valid is None else valid.long()).last_hidden_state
        out = hidden.transpose(1, 2)
        return out

    def _token_numbers(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            wrong = (x < 0) | (x >= self.config.vocab_size) | (x != x.round())
            if wrong.any():
                raise DataError(
                    f"encoder 'hf:…' reads token numbers, whole and from 0 to {self.config.vocab_size - 1}, "
                    f"not {x[wrong][0].item():g}; they must reach it as they are, not standardised"
                )
        return x.long()

    def pool(self, maps: Tensor, tokens: int, length: Tensor | None = None) -> Tensor:
        if self.family == "bert":  # what is padding is zero in the map
            steps = torch.arange(1, maps.shape[2] + 1, device=maps.device)
            length = ((maps != 0).any(1) * steps).amax(1)
        elif length is not None:
            length = self.model._get_feat_extract_output_lengths(length)  # type: ignore[operator]
        if length is None:
            return super().pool(maps, tokens)
        weights = compute_stretch_weights(maps.shape[2], tokens, length.to(countable(maps)))
        return torch.matmul(weights.to(maps.dtype), maps.transpose(1, 2))

    def unused_parameters(self, returns: Returns) -> list[nn.Parameter]:
        return [p for name, p in self.model.named_parameters() if name == "masked_spec_embed"]


def _to_json(config: Any) -> dict[str, Any]:
    """The configuration as JSON, without the settings that belong to the machine where it was written."""
    stored: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    return _strip_private(stored)


def make_hf(name: str, shape: tuple[int, ...], config: Mapping[str, Any] | None = None) -> HFNet:
    """The network of a local folder (`config.json`, perhaps weights), of a configuration file, or of `config`.

    Weights come from the folder's safetensors or weights-only torch file; without one they are fresh.

    Args:
        name: a local folder, or a configuration file.
        shape: of one row: (T,) or (T, 1), of VideoMAE (C, T, H, W).
        config: the configuration as JSON, in place of the folder's.

    Returns:
        The network.

    Raises:
        ConfigError: transformers is absent, the folder does not exist or holds another kind of network, or the rows do
            not fit it.
    """
    transformers = _transformers()
    folder = Path(name).expanduser()
    stored = dict(config) if config is not None else _read_config(folder)
    family = stored.pop("model_type", None)
    if family not in FAMILIES:
        raise ConfigError(f"encoder 'hf:{name}' has the type {family!r}; expected one of {', '.join(FAMILIES)}")
    quiet = {"apply_spec_augment": False, "layerdrop": 0.0} if family == "wav2vec2" else {}
    given = _strip_private(stored)
    try:
        settings = transformers.AutoConfig.for_model(family, **given | quiet)
    except Exception as error:  # transformers' own checks of the values
        raise ConfigError(f"encoder 'hf:{name}': its config.json is not one of {family}: {error}") from error
    _check_rows(name, settings, shape)
    parts = {"add_pooling_layer": False} if family == "bert" else {}
    try:
        if config is None and any((folder / file).is_file() for file in WEIGHTS):
            return HFNet(_load_pretrained(transformers, folder, settings, parts), settings)
        return HFNet(transformers.AutoModel.from_config(settings, **parts), settings)
    except SidelightError:
        raise
    except Exception as error:
        raise ConfigError(f"encoder 'hf:{name}': transformers cannot build it: {error}") from error


def _strip_private(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the keys in `PRIVATE`."""
    return {
        key: value
        for key, value in stored.items()
        if key not in PRIVATE and not key.startswith("_") and not key.endswith("_implementation")  # see PRIVATE
    }


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"encoders 'hf:…' need transformers ({error}): {install('hf')}. `sidelight doctor` says more"
        ) from None
    return transformers


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder if folder.suffix == ".json" else folder / "config.json"
    mend = ". Name a local folder with a config.json; nothing is downloaded: `hf download NAME --local-dir FOLDER` does"
    try:
        stored = read_json(check_file(file, ConfigError, mend), ConfigError)
    except ConfigError as error:
        raise ConfigError(f"encoder 'hf:{folder}': {error}") from None
    if not isinstance(stored, dict):
        raise ConfigError(f"encoder 'hf:{folder}': {file} holds no settings")
    return stored


def _load_pretrained(transformers: Any, folder: Path, settings: Any, parts: Mapping[str, Any]) -> nn.Module:
    model, report = transformers.AutoModel.from_pretrained(
        folder, config=settings, local_files_only=True, trust_remote_code=False, weights_only=True,
        output_loading_info=True, **parts,
    )  # fmt: skip
    if missing := sorted(report["missing_keys"]):
        raise ConfigError(
            f"encoder 'hf:{folder}': its weights lack {len(missing)} tensors, e.g. {', '.join(missing[:3])}; "
            "the file belongs to another network than its config.json"
        )
    whole: nn.Module = model.float()
    return whole


def _check_rows(name: str, settings: Any, shape: tuple[int, ...]) -> None:
    """Refuse rows of a shape that the network does not read."""
    family = settings.model_type
    wanted = FAMILIES[family]
    if family == "videomae":
        size = settings.image_size
        fits = shape == (settings.num_channels, settings.num_frames, size, size)
        wanted = f"clips of shape {(settings.num_channels, settings.num_frames, size, size)}"
    elif family == "bert":
        fits = shape[1:] in ((), (1,)) and shape[0] <= settings.max_position_embeddings
        wanted += f" with at most {settings.max_position_embeddings} of them"
    else:
        least = 1
        for kernel, stride in zip(reversed(settings.conv_kernel), reversed(settings.conv_stride)):
            least = (least - 1) * stride + kernel
        fits = len(shape) <= 2 and shape[0] >= least and shape[1:] in ((), (1,))
        wanted += f" with at least {least} steps"
    if not fits:
        raise ConfigError(f"encoder 'hf:{name}' ({family}) reads {wanted}, not rows of shape {shape}")
