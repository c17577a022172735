"""Names of encoders and the shapes of rows that each reads. Settings and errors use it, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

from sidelight.errors import ConfigError, unknown

SIMPLE = ("auto", "statistics", "mlp", "cnn")
"""Encoders for vectors (D,) and signals (T, C)."""

BACKBONES: dict[str, tuple[int, ...]] = {
    "resnet18": (2, 3),
    "resnet34": (2, 3),
    "resnet50": (2, 3),
    "densenet121": (3,),
    "cnn14": (2, 3),
    "r3d18": (4,),
    "r2plus1d18": (4,),
    "i3d": (4,),
}
"""Public network -> numbers of dimensions that a row may have."""

PYRAMIDS: dict[str, tuple[int, ...]] = {"resnet34-pyramid": (3,), "resnet50-pyramid": (3,)}
"""Encoder that returns all levels of its features, for segmentation -> numbers of dimensions of a row."""

PROVIDERS: dict[str, tuple[int, ...]] = {"monai": (2, 3, 4), "hf": (1, 2, 4), "torchvision": (3,), "timm": (3,)}
"""Provider in `<provider>:<name>`, a package or the user's local folders -> numbers of dimensions of a row."""

ROWS = {
    1: "vectors (D,)",
    2: "signals (time, channels)",
    3: "images or spectrograms (channels, height, width)",
    4: "clips (channels, time, height, width)",
}
"""Number of dimensions of a row -> what such rows are, for messages."""

PARTS = ("encoders", "fusion", "head", "hallucinators")
"""Parts of a network that may have their own learning rate."""


def check_encoder(name: str, setting: str = "network.encoder") -> None:
    """Raise ConfigError unless `name` is an encoder; the error names the setting and the nearest valid name."""
    provider, colon, rest = name.partition(":")
    if colon and provider in PROVIDERS and rest:
        return
    if name not in (*SIMPLE, *BACKBONES, *PYRAMIDS):
        forms = [f"{provider}:…" for provider in PROVIDERS]
        raise ConfigError(unknown(f"value of {setting}", name, [*SIMPLE, *BACKBONES, *PYRAMIDS, *forms]))


def row_dimensions(name: str) -> tuple[int, ...]:
    """Numbers of dimensions that a row may have for the encoder `name`."""
    if ":" in name:
        return PROVIDERS[name.partition(":")[0]]
    return (1, 2, 3, 4) if name == "mlp" else {**BACKBONES, **PYRAMIDS}.get(name, (1, 2))


def choose_encoder(modality: str, dims: int, encoder: str, encoders: Mapping[str, str]) -> str:
    """The name of a modality's encoder: from `network.encoders`, else `network.encoder` if it fits, else "auto".

    Args:
        modality: name of the modality.
        dims: number of dimensions of one of its rows.
        encoder: the setting `network.encoder`.
        encoders: the setting `network.encoders`, modality -> name.
    """
    if modality in encoders:
        return encoders[modality]
    return encoder if dims in row_dimensions(encoder) else "auto"


def encoders_for(dims: int) -> list[str]:
    """Names of the encoders that read rows with `dims` dimensions."""
    return [name for name in (*SIMPLE, *BACKBONES) if dims in row_dimensions(name)]
