"""Hallucination at sample level: whole privileged rows from available ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.networks.encoding import encode
from sidelight.networks.tokens import pool


class TranslationNetwork(nn.Module):
    """Available rows -> a privileged row -> its features: encoders, a linear decoder, and the privileged encoder.

    Args:
        encoders: available modality -> module.
        sources: modality -> shape of its features, (T, D) or (D, h, w).
        row: shape of a privileged row as it leaves the preprocessor, (D,) or (T, C).
        reader: the privileged modality's encoder.
        out_shape: the shape of the privileged features, (T', D').
    """

    kind = "translation-network"
    reads_inputs = True

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        sources: Mapping[str, Sequence[int]],
        row: Sequence[int],
        reader: nn.Module,
        out_shape: Sequence[int],
    ):
        super().__init__()
        self.encoders, self.reader = nn.ModuleDict(dict(encoders)), reader
        self.row, self.out_shape = tuple(row), tuple(out_shape)
        self.sources = {m: tuple(shape) for m, shape in sources.items()}
        width = sum(shape[-1] if len(shape) == 2 else shape[0] for shape in self.sources.values())
        self.decoder = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, prod(self.row)))

    def translate(self, batch: Batch) -> Tensor:
        """(B, D) or (B, T, C): the privileged row predicted from the available ones."""
        features = encode(self.encoders, batch, self.sources)
        read = torch.cat([pool(features[m]) for m in self.sources], 1)
        return self.decoder(read).unflatten(1, self.row)  # type: ignore[no-any-return]

    def encode_row(self, row: Tensor) -> Tensor:
        """The features (B, T', D') of a privileged row."""
        features: Tensor = self.reader(row)
        return features.unsqueeze(1) if features.dim() == 2 else features

    def forward(self, batch: Batch) -> Tensor:
        """The features (B, T', D') of the predicted privileged rows."""
        return self.encode_row(self.translate(batch))
