"""Fusions: from the tokens of all slots to one vector per sample, {slot: (B, T, D)} -> (B, F)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.errors import ConfigError, SidelightWarning, unknown
from sidelight.networks.attention import Attention, TransformerLayer, positional_encoding
from sidelight.networks.cross_translation import TransformBlocks
from sidelight.networks.dense import num_groups
from sidelight.networks.dropout import ChannelDropout
from sidelight.networks.tokens import mean_token, num_channels, resample_tokens, to_map

Shapes = Mapping[str, Sequence[int]]


class Fusion(nn.Module):
    """Base of all fusions: the slots in a fixed order, and the dropout before the head.

    Dropout acts between the fused vector and the head (`head_dropout`, which `Network.forward_head` applies), and
    nowhere
    before: losses compare fused vectors and features, and T-Nets read features, so training uses the values that are
    deployed.

    Args:
        shapes: slot -> (T, D), or (D, h, w) of a map; the order is that of the weights.
        width: F.
        dropout: rate of the dropout before the head.
    """

    name = ""
    attends = False

    def __init__(self, shapes: Shapes, width: int = 64, dropout: float = 0.2):
        super().__init__()
        if not shapes:
            raise ConfigError("a fusion needs at least one slot")
        self.shapes = {m: tuple(int(n) for n in shape) for m, shape in shapes.items()}
        self.slots = tuple(self.shapes)
        self.dims = [num_channels(shape) for shape in self.shapes.values()]
        self.out_dim = width
        self.settings: dict[str, Any] = {
            "slots": [[m, *shape] for m, shape in self.shapes.items()],
            "width": width,
            "dropout": dropout,
        }
        self.head_dropout = ChannelDropout(dropout)


def make_joint_layer(size: int, width: int) -> nn.Sequential:
    """Linear and ReLU from concatenated slots (B, size) to the fused vector (B, width)."""
    return nn.Sequential(nn.Linear(size, width), nn.ReLU())


def make_joint_map_layer(size: int, width: int) -> nn.Sequential:
    """1 × 1 convolution, group normalisation and ReLU from concatenated maps to the fused map."""
    return nn.Sequential(nn.Conv2d(size, width, 1), nn.GroupNorm(num_groups(width), width), nn.ReLU())


class Concat(Fusion):
    """Feature concatenation: z = ReLU(W [mean_t x₁; …; mean_t xₙ] + b), {slot: (B, T, D)} -> (B, F).

    PKDOT (arXiv 2401.15489), Fig. 4a. It averages over tokens.
    """

    name = "concat"

    def __init__(self, shapes: Shapes, width: int = 64, dropout: float = 0.2):
        super().__init__(shapes, width, dropout)
        self.out = make_joint_layer(sum(self.dims), width)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        fused: Tensor = self.out(torch.cat([mean_token(features[m]) for m in self.slots], dim=1))
        return fused


class MapConcat(Fusion):
    """Concatenation of maps: z = ReLU(norm(W [x₁; …; xₙ] + b)) at every position, {slot: (B, D, h, w)} -> (B, F, h, w).

    W is a 1 × 1 convolution. Maps are interpolated to the size of the largest; the mean of a slot of tokens is
    repeated at every position.
    """

    name = "concat"

    def __init__(self, shapes: Shapes, width: int = 64, dropout: float = 0.2):
        super().__init__(shapes, width, dropout)
        self.size = max(shape[1:] for shape in self.shapes.values() if len(shape) == 3)
        self.out = make_joint_map_layer(sum(self.dims), width)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        fused: Tensor = self.out(torch.cat([to_map(features[m], self.size) for m in self.slots], dim=1))
        return fused


class SqueezeExcitationFusion(Fusion):
    """A weighted sum of maps: z = Σ_m g_m ⊙ x_m, {slot: (B, D, h, w)} -> (B, D, h, w).

    g_m = sigmoid(W₂ ReLU(W₁ mean x_m)) weighs every channel of a slot by its mean over all positions (Hu et al.,
    Squeeze-and-excitation networks, 2018), as ESANet fuses depth into colours (Seichter et al., ICRA 2021). Slots have
    one shape. In a pyramid's map, each level is weighed and added by its own channels.
    """

    name = "squeeze-excitation"

    def __init__(self, shapes: Shapes, width: int = 64, dropout: float = 0.2):
        super().__init__(shapes, width, dropout)
        if len(set(self.shapes.values())) > 1 or any(len(shape) != 3 for shape in self.shapes.values()):
            raise ConfigError(f"network.fusion={self.name} adds maps of one shape, but the slots are {self.shapes}")
        self.out_dim = size = self.dims[0]
        inner = max(size // 16, 4)
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Linear(size, inner), nn.ReLU(), nn.Linear(inner, size), nn.Sigmoid()) for _ in self.slots
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        weighed = [
            features[m] * gate(features[m].mean((2, 3)))[:, :, None, None] for m, gate in zip(self.slots, self.gates)
        ]
        return torch.stack(weighed).sum(0)


class JointCrossAttention(Fusion):
    """Each slot attends to the joint representation of all slots, over time: {slot: (B, T, D)} -> (B, F).

    With J (B, L, d) the slots side by side on channels, L the largest T and d = ΣD, and for slot m with X (B, T, D)

        C = tanh(X W_j Jᵀ / √d)                    (B, T, L)   correlation with the joint representation
        H = ReLU(X W_x + C J W_c / L)              (B, T, F)   attention weights
        X̂ = X + H W_h                              (B, T, D)   attended features

    and the fused vector is ReLU(W [mean_t X̂₁; …; mean_t X̂ₙ] + b).

    Source: Praveen et al., A joint cross-attention model for audio-visual fusion, CVPRW 2022 (PKDOT Fig. 4b). There the
    weights act along time, of one fixed length, and C correlates channels; here they act on channels and C correlates
    time steps, so slots may have any number of tokens. In the released code a branch of attended features is computed
    and left unused; here every weight reaches the output.
    """

    name = "joint-cross-attention"
    attends = True

    def __init__(self, shapes: Shapes, width: int = 64, dropout: float = 0.2):
        super().__init__(shapes, width, dropout)
        self.steps = max(shape[0] for shape in self.shapes.values())
        joint = sum(self.dims)
        self.correlate = nn.ModuleList(nn.Linear(d, joint, bias=False) for d in self.dims)
        self.own = nn.ModuleList(nn.Linear(d, width, bias=False) for d in self.dims)
        self.across = nn.ModuleList(nn.Linear(joint, width, bias=False) for _ in self.dims)
        self.attended = nn.ModuleList(nn.Linear(width, d, bias=False) for d in self.dims)
        self.out = make_joint_layer(joint, width)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        # J: all slots side by side, with the same number of time steps
        joint = torch.cat([resample_tokens(features[m], self.steps) for m in self.slots], dim=2)
        scale = joint.shape[2] ** -0.5
        pooled = []
        for i, m in enumerate(self.slots):
            x = features[m]
            correlation = torch.tanh(torch.matmul(self.correlate[i](x), joint.transpose(1, 2)) * scale)
            across = self.across[i](torch.matmul(correlation, joint) / self.steps)
            weights = F.relu(self.own[i](x) + across)
            pooled.append((x + self.attended[i](weights)).mean(1))
        fused: Tensor = self.out(torch.cat(pooled, dim=1))
        return fused


class MultimodalTransformer(Fusion):
    """A self-attention encoder per slot, cross-attention between slots, a learnable gate: {slot: (B, T, D)} -> (B, F).

    For slot m, with projected tokens P and sinusoidal positions,

        E_m = TransformerLayer(P_m + positions)             (B, T_m, F)
        A_m = Attention(queries E_m, tokens of all other E) (B, T_m, F)
        G_m = sigmoid(W [E_m; A_m] + b)                     (B, T_m, F)   the gate
        Y_m = E_m + G_m ⊙ A_m

    and the fused vector is ReLU(W [mean_t Y₁; …; mean_t Yₙ] + b). With two slots this is cross-attention both ways;
    with more, a slot reads all others at once, so weights grow with n and not with n². A single slot attends to itself.

    Source: Waligora et al., Joint multimodal transformer for emotion recognition in the wild, 2024 (PKDOT Fig. 4c).
    The released code attends over the batch; here attention is over the tokens of one sample.
    """

    name = "multimodal-transformer"
    attends = True

    def __init__(self, shapes: Shapes, width: int = 64, dropout: float = 0.2):
        super().__init__(shapes, width, dropout)
        n = len(self.slots)
        self.project = nn.ModuleList(nn.Linear(d, width) for d in self.dims)
        self.encode = nn.ModuleList(TransformerLayer(width) for _ in range(n))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(n))
        self.cross = nn.ModuleList(Attention(width) for _ in range(n))
        self.gate = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(n))
        self.out = make_joint_layer(n * width, width)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        tokens = [project(features[m]) for m, project in zip(self.slots, self.project)]
        encoded = [encode(x + positional_encoding(x)) for x, encode in zip(tokens, self.encode)]
        normed = [norm(x) for x, norm in zip(encoded, self.norm)]
        pooled = []
        for i, x in enumerate(encoded):
            others = normed[:i] + normed[i + 1 :] or normed  # a single slot attends to itself
            attended = self.cross[i](normed[i], torch.cat(others, dim=1))
            gate = torch.sigmoid(self.gate[i](torch.cat([x, attended], dim=2)))
            pooled.append((x + gate * attended).mean(1))
        fused: Tensor = self.out(torch.cat(pooled, dim=1))
        return fused


class CrossTranslation(Fusion):
    """Transform blocks shared by all slots, whose outputs are concatenated: {slot: (B, T, D)} -> (B, F).

    z = ReLU(W [mean_t T₁(x₁); mean_t T₂(x₁); …; mean_t T₂(xₙ)] + b), T_b those of `TransformBlocks`. OS-MD
    (arXiv 2309.08204), sec. 3.3, for any number of slots; its method (`osmd`) compares the outputs of `transform`.
    """

    name = "cross-translation"

    def __init__(self, shapes: Shapes, width: int = 64, dropout: float = 0.2):
        super().__init__(shapes, width, dropout)
        self.blocks = TransformBlocks(self.shapes, width)
        self.out = self._make_out(len(self.slots) * self.blocks.BLOCKS * self.blocks.out_dim, width)

    def _make_out(self, size: int, width: int) -> nn.Sequential:
        return make_joint_layer(size, width)

    def transform(self, features: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Slot -> the output of each block, (B, F / 2, L) for tokens, (B, F / 2, h, w) for maps."""
        made: dict[str, list[Tensor]] = self.blocks(features)
        return made

    def join(self, made: Mapping[str, Sequence[Tensor]]) -> Tensor:
        """The fused vector, or map, from the outputs of `transform`."""
        stacked = torch.cat([x for m in self.slots for x in made[m]], dim=1)
        fused: Tensor = self.out(stacked.mean(2) if stacked.dim() == 3 else stacked)
        return fused

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.join(self.transform(features))


class MapCrossTranslation(CrossTranslation):
    """The same for maps: z = ReLU(norm(W [T₁(x₁); …; T₂(xₙ)] + b)) at every position, as in `MapConcat`."""

    def _make_out(self, size: int, width: int) -> nn.Sequential:
        return make_joint_map_layer(size, width)


FUSIONS: dict[str, type[Fusion]] = {
    "concat": Concat,
    "joint-cross-attention": JointCrossAttention,
    "multimodal-transformer": MultimodalTransformer,
    "cross-translation": CrossTranslation,
}
MAP_FUSIONS: dict[str, type[Fusion]] = {
    "concat": MapConcat,
    "squeeze-excitation": SqueezeExcitationFusion,
    "cross-translation": MapCrossTranslation,
}


def make_fusion(name: str, shapes: Shapes, width: int = 64, dropout: float = 0.2) -> Fusion:
    """The fusion that `network.fusion` names; warns where attention over time has only one token.

    Args:
        name: a value of `network.fusion`.
        shapes: slot -> (T, D), or (D, h, w) of a map. Where a slot is a map, the fused result is a map too.
        width: F, the channels of the fused vector or map.
        dropout: rate of the dropout before the head.

    Returns:
        The fusion.

    Raises:
        ConfigError: The name is unknown, or the fusion does not fit the slots.
    """
    if name not in FUSIONS and name not in MAP_FUSIONS:
        raise ConfigError(f"network.fusion: {unknown('fusion', name, FUSIONS | MAP_FUSIONS)}")
    if any(len(shape) == 3 for shape in shapes.values()):
        if name not in MAP_FUSIONS:
            raise ConfigError(f"network.fusion={name} attends over time and does not fuse maps; use concat")
        return MAP_FUSIONS[name](shapes, width, dropout)
    if name not in FUSIONS:
        raise ConfigError(f"network.fusion={name} adds maps, but no modality is a map; use concat")
    fusion = FUSIONS[name](shapes, width, dropout)
    if fusion.attends and all(shape[0] == 1 for shape in fusion.shapes.values()):
        warn_trivial_attention(name)
    return fusion


@functools.cache
def warn_trivial_attention(name: str) -> None:
    """Warn, once per process, that attention over one token per slot cannot choose between time steps."""
    warnings.warn(
        f"network.fusion={name} attends over time, but every modality has one token per sample, so attention has no "
        "effect. For signals set network.encoder=cnn and network.tokens=8; for vectors network.fusion=concat",
        SidelightWarning,
        stacklevel=4,
    )
