"""Build networks from settings, and describe networks as settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sidelight.config import NetworkConfig
from sidelight.config.encoder_names import BACKBONES, PROVIDERS, PYRAMIDS, choose_encoder
from sidelight.errors import ConfigError, unknown
from sidelight.networks.backbones.backbone import Backbone
from sidelight.networks.backbones.weights import load_weights, warn_missing
from sidelight.networks.dense import DenseEncoder, DenseHead
from sidelight.networks.encoders import ENCODERS, MLPEncoder, SignalEncoder, make_encoder
from sidelight.networks.fusions import FUSIONS, MAP_FUSIONS, Fusion, make_fusion
from sidelight.networks.hallucination import HallucinationNetwork, TNet
from sidelight.networks.modality_imputer import ModalityImputer
from sidelight.networks.network import Network
from sidelight.networks.rgbd import LEVELS, PyramidEncoder, PyramidHead
from sidelight.networks.translation import TranslationNetwork

Shape = tuple[int, ...]
"""(T, D) of tokens, (D, h, w) of a map."""
BUILT_IN = (*ENCODERS.values(), DenseEncoder, PyramidEncoder, Backbone, TNet)
"""The classes that `describe_module` describes; a subclass of one is the user's own."""


def build_network(
    shapes: Mapping[str, Sequence[int]],
    reads: Sequence[str],
    task_outputs: int,
    config: NetworkConfig,
    slots: Sequence[str] | None = None,
    hallucinators: Mapping[str, nn.Module] | None = None,
    encoders: Mapping[str, nn.Module] | None = None,
    size: Sequence[int] = (),
    drop: float = 0,
) -> Network:
    """A teacher, baseline or student with fresh encoders, fusion and head.

    Args:
        shapes: modality -> shape of one row as it leaves the preprocessor, (D,), (T, C) or (C, H, W).
        reads: the modalities to encode.
        task_outputs: number of classes, or of targets of a regression.
        config: the `network` settings.
        slots: order of the fusion's slots; a student that loads a teacher's fusion needs the teacher's (default:
            `reads`, then the hallucinated ones).
        hallucinators: privileged modality -> module in place of its encoder.
        encoders: modality -> the user's own module; two rows of zeros show the shape of its features.
        size: (H, W) of a target with a class per pixel: images become maps, and the network is dense.
        drop: above 0, the network reads any subset of `reads`, and training leaves each out with this probability.

    Returns:
        The network, with fresh weights except those that `config.weights` loads.

    Raises:
        ConfigError: A setting is out of range, a modality is unknown, or the parts do not fit together.
        RunError: A file of weights is missing, damaged or belongs to another network.
    """
    for setting in ("width", "tokens"):
        if getattr(config, setting) < 1:
            raise ConfigError(f"network.{setting} must be at least 1, not {getattr(config, setting)}")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"network.dropout must be at least 0 and below 1, not {config.dropout}")
    encoders, hallucinators = dict(encoders or {}), dict(hallucinators or {})
    for m in reads:
        if m not in shapes:
            raise ConfigError(f"the network reads {m!r}, which the data do not have; they have {list(shapes)}")
        if m not in encoders:
            name = choose_encoder(m, len(shapes[m]), config.encoder, config.encoders)
            try:
                if size and len(shapes[m]) == 3:
                    encoders[m] = make_map_encoder(name, shapes[m], config.width)
                else:
                    encoders[m] = make_encoder(name, shapes[m], config.width, config.tokens)
            except ConfigError as error:
                fell_back = name not in (config.encoder, config.encoders.get(m))
                why = f"network.encoder={config.encoder} does not read such rows, and " if fell_back else ""
                raise ConfigError(f"{m!r}: {why}{error}") from None
        if m in config.weights:
            warn_missing(m, load_weights(encoders[m], config.weights[m], sum_channels=config.sum_channels))
    # The fusion needs every slot's shape; a hallucinator's depends on the features that it reads.
    sizes = {m: infer_encoder_shape(m, encoders[m], shapes[m]) for m in reads}
    sizes |= {m: infer_hallucinator_shape(m, module, sizes) for m, module in hallucinators.items()}
    order = tuple(slots or sizes)
    if sorted(order) != sorted(sizes):
        raise ConfigError(f"the fusion's slots are {list(order)}, but {list(sizes)} are read or hallucinated")
    fusion = make_fusion(config.fusion, {m: sizes[m] for m in order}, config.width, config.dropout)
    if size and type(fusion) not in MAP_FUSIONS.values():
        raise ConfigError(f"a class per pixel needs at least one image modality, but none of {list(order)} is a map")
    head = make_head(fusion, task_outputs, size)
    completion = ModalityImputer({m: sizes[m] for m in reads}, drop) if drop else None
    return Network({m: encoders[m] for m in reads}, fusion, head, hallucinators, completion)


def make_map_encoder(kind: str, shape: Sequence[int], width: int) -> nn.Module:
    """An image's encoder in a dense network.

    Args:
        kind: "auto" for a `DenseEncoder`, or the name of a public network, whose last map (or pyramid) is returned.
        shape: (C, H, W) of an image.
        width: channels of the map, or of each level of a pyramid.

    Returns:
        A module from images to maps.

    Raises:
        ConfigError: The encoder makes no map.
    """
    if kind == "auto":
        return DenseEncoder(shape, width)
    if kind in PYRAMIDS:
        return PyramidEncoder(kind, shape, width)
    if ":" not in kind and kind not in BACKBONES:
        raise ConfigError(f"encoder {kind!r} makes no map of an image; use auto, or a public network such as resnet18")
    encoder = Backbone(kind, shape, width, 1, "map")
    encoder.out_shape = infer_encoder_shape("image", encoder, shape)
    return encoder


def make_head(fusion: Fusion, outputs: int, size: Sequence[int] = ()) -> nn.Module:
    """The head: from the fused vector to the outputs, or from the fused map to the outputs of every pixel.

    A fused map of 4·width channels holds the levels of a pyramid: no other encoder returns more than `width`.

    Args:
        fusion: the fusion that the head reads.
        outputs: number of classes, or of targets.
        size: (H, W) of a target with a class per pixel, else ().

    Returns:
        The head, with fresh weights.

    Raises:
        ConfigError: The fusion returns maps, and the target has no class per pixel.
    """
    if size:
        if fusion.out_dim == LEVELS * (width := fusion.settings["width"]):
            return PyramidHead(width, outputs, size)
        return DenseHead(fusion.out_dim, outputs, size)
    if type(fusion) in MAP_FUSIONS.values():
        raise ConfigError("the encoders return maps, which only a target with a class per pixel (segmentation) reads")
    return nn.Linear(fusion.out_dim, outputs)


def feature_shape(network: Network) -> dict[str, Shape]:
    """(T, D) of every slot's features, or (D, h, w) of a map, in the fusion's order."""
    if not isinstance(network.fusion, Fusion):
        raise ConfigError(f"the shapes of the slots are not known to a fusion of type {type(network.fusion).__name__}")
    return dict(network.fusion.shapes)


@torch.no_grad()
def infer_encoder_shape(modality: str, encoder: nn.Module, shape: Sequence[int]) -> Shape:
    """The shape (T, D) or (D, h, w) of an encoder's features: its `out_shape`, or found with two rows of zeros.

    Args:
        modality: the modality's name, for messages.
        encoder: a built-in or the user's own module.
        shape: shape of one row as it leaves the preprocessor.

    Returns:
        The shape of one row's features.

    Raises:
        ConfigError: The module fails, or returns no features.
    """
    maps = isinstance(encoder, Backbone) and encoder.returns == "map"
    if maps and len(shape) != 3:
        raise ConfigError(f"the encoder of {modality!r} returns maps, which networks read of images only")
    if isinstance(encoder, MLPEncoder | SignalEncoder | DenseEncoder | PyramidEncoder | Backbone) and not maps:
        return encoder.out_shape
    return dry_run(modality, encoder, torch.zeros(2, *shape), maps=len(shape) == 3)


@torch.no_grad()
def infer_hallucinator_shape(modality: str, module: nn.Module, sizes: Mapping[str, Shape]) -> Shape:
    """The shape (T, D) or (D, h, w) of a hallucinator's features: its `out_shape`, or found with two rows of zeros.

    Args:
        modality: the privileged modality's name, for messages.
        module: a built-in or the user's own module.
        sizes: slot -> shape of the features that it reads.

    Returns:
        The shape of one row's features.

    Raises:
        ConfigError: The module fails, or returns no features.
    """
    if isinstance(module, TNet | HallucinationNetwork | TranslationNetwork):
        return module.out_shape
    maps = any(len(size) == 3 for size in sizes.values())
    return dry_run(modality, module, {m: torch.zeros(2, *size) for m, size in sizes.items()}, maps)


def dry_run(modality: str, module: nn.Module, x: Any, maps: bool = False) -> Shape:
    """The shape of a module's features, found with two rows of zeros; the module's mode is restored.

    Args:
        modality: the modality's name, for messages.
        module: the module.
        x: its input, of two rows.
        maps: whether the features may be maps (B, D, h, w).

    Returns:
        The shape of one row's features.

    Raises:
        ConfigError: The module fails, or returns no features.
    """
    training = module.training
    module.eval()
    try:
        out = module(x)
    except Exception as error:
        raise ConfigError(f"the module given for {modality!r} fails on two rows of zeros: {error}") from error
    finally:
        module.train(training)
    if not isinstance(out, torch.Tensor) or out.dim() not in ((2, 3, 4) if maps else (2, 3)) or out.shape[0] != 2:
        got = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        wanted = "(2, D), (2, T, D) or a map (2, D, h, w)" if maps else "(2, D) or (2, T, D)"
        raise ConfigError(f"the module given for {modality!r} must return {wanted} for 2 rows, not {got}")
    return (1, out.shape[1]) if out.dim() == 2 else tuple(out.shape[1:])


def describe(network: Network) -> dict[str, Any]:
    """The network's structure as JSON; modules that are not sidelight's own are marked "custom".

    Orders matter and are stored in lists. Weights are not included: they are in the state dict.
    """
    fusion, head = network.fusion, network.head
    built_in = type(fusion) in (*FUSIONS.values(), *MAP_FUSIONS.values())
    if not isinstance(fusion, Fusion) or not built_in or not isinstance(head, nn.Linear | DenseHead | PyramidHead):
        raise ConfigError("only networks with a built-in fusion and head can be described")
    return {
        "encoders": [{"modality": m, **describe_module(e)} for m, e in network.encoders.items()],
        "hallucinators": [{"modality": m, **describe_module(h)} for m, h in network.hallucinators.items()],
        "fusion": {"kind": fusion.name, **fusion.settings},
        "outputs": head.out_features,
        "size": list(head.size) if not isinstance(head, nn.Linear) else [],
        **({"drop": network.completion.drop} if network.completion is not None else {}),
    }


def describe_module(module: nn.Module) -> dict[str, Any]:
    """The kind and settings of a built-in encoder or T-Net; "custom" for another module, or a subclass."""
    if isinstance(module, HallucinationNetwork):
        return {"kind": module.kind, "encoders": _describe_each(module.encoders), "tnet": module.tnet.settings}
    if isinstance(module, TranslationNetwork):
        sources = [[m, *shape] for m, shape in module.sources.items()]
        shapes = {"sources": sources, "row": list(module.row), "out_shape": list(module.out_shape)}
        parts = {"encoders": _describe_each(module.encoders), "reader": describe_module(module.reader)}
        return {"kind": module.kind, **parts, **shapes}
    if type(module) in BUILT_IN:
        own: Any = module
        return {"kind": own.kind, **own.settings}
    return {"kind": "custom"}


def _describe_each(modules: nn.ModuleDict) -> list[dict[str, Any]]:
    return [{"modality": m, **describe_module(module)} for m, module in modules.items()]


def rebuild(
    description: Mapping[str, Any],
    encoders: Mapping[str, nn.Module] | None = None,
    hallucinators: Mapping[str, nn.Module] | None = None,
) -> Network:
    """The network with the structure that `describe` returned, with fresh weights.

    Args:
        description: the result of `describe`.
        encoders: modality -> the user's own module, for each one marked "custom".
        hallucinators: privileged modality -> the user's own module, likewise.

    Returns:
        The network, ready for `load_state_dict`.

    Raises:
        ConfigError: A custom module is not given, or this version lacks a module.
    """
    given = {"encoders": dict(encoders or {}), "hallucinators": dict(hallucinators or {})}
    parts: dict[str, dict[str, nn.Module]] = {"encoders": {}, "hallucinators": {}}
    for part, modules in parts.items():
        for entry in description[part]:
            settings = dict(entry)
            m, kind = settings.pop("modality"), settings.pop("kind")
            if kind == "custom" and m not in given[part]:
                raise ConfigError(f"the network has its own module for {m!r}; pass it as {part}={{{m!r}: module}}")
            modules[m] = given[part][m] if kind == "custom" else make_module(kind, settings)
    settings = dict(description["fusion"])
    shapes = parse_shapes(settings["slots"])
    fusion = make_fusion(settings["kind"], shapes, settings["width"], settings["dropout"])
    head = make_head(fusion, description["outputs"], description.get("size", ()))
    drop = description.get("drop", 0)
    completion = ModalityImputer({m: shapes[m] for m in parts["encoders"]}, drop) if drop else None
    return Network(parts["encoders"], fusion, head, parts["hallucinators"], completion)


def parse_shapes(entries: Sequence[Sequence[Any]]) -> dict[str, Shape]:
    """[[slot, T, D], ...] as a mapping; a map is [slot, D, h, w]."""
    return {m: tuple(shape) for m, *shape in entries}


def _make_from_entry(entry: Mapping[str, Any]) -> nn.Module:
    settings = dict(entry)
    settings.pop("modality", None)
    return make_module(settings.pop("kind"), settings)


def make_module(kind: str, settings: Mapping[str, Any]) -> nn.Module:
    """A built-in encoder or hallucinator from its kind and settings in a description."""
    if kind in (HallucinationNetwork.kind, TranslationNetwork.kind):
        encoders = {entry["modality"]: _make_from_entry(entry) for entry in settings["encoders"]}
        if kind == TranslationNetwork.kind:
            reader, sources = _make_from_entry(settings["reader"]), parse_shapes(settings["sources"])
            return TranslationNetwork(encoders, sources, settings["row"], reader, settings["out_shape"])
        tnet = settings["tnet"]
        return HallucinationNetwork(encoders, parse_shapes(tnet["sources"]), tnet["target"], tnet["slot"])
    if kind == TNet.kind:
        return TNet(parse_shapes(settings["sources"]), settings["target"], settings["hidden"], settings["slot"])
    # Files from earlier versions state a dropout rate for encoders, which have none any more.
    settings = dict(settings)
    settings.pop("dropout", None)
    if kind in PYRAMIDS:
        return PyramidEncoder(kind, **settings)
    if kind == DenseEncoder.kind:
        return DenseEncoder(**settings)
    if kind in BACKBONES or kind.partition(":")[0] in PROVIDERS:
        return Backbone(kind, **settings)
    if kind not in ENCODERS:
        raise ConfigError(f"the description names a module that this version lacks: {unknown('kind', kind, ENCODERS)}")
    return ENCODERS[kind](**settings)
