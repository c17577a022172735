"""`extract`: run frozen encoders once over all rows."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.data.load import load
from sidelight.data.pixels import compute_chunk_size
from sidelight.data.prefetch import materialized_batches
from sidelight.data.preprocess import Preprocessor
from sidelight.data.raw import TABLE_FILE
from sidelight.data.rows import is_lazy
from sidelight.errors import ConfigError, DataError, RunError, SidelightWarning, unknown
from sidelight.extract.shards import Shards
from sidelight.networks.backbones.backbone import make_net
from sidelight.networks.backbones.hf import WEIGHTS
from sidelight.networks.backbones.weights import load_weights
from sidelight.utils.atomic import write_atomic
from sidelight.utils.device import choose_device, explain_out_of_memory
from sidelight.utils.files import check_place
from sidelight.utils.names import check_modality
from sidelight.utils.tensorfile import write_tensors
from sidelight.video.augment import STATISTICS

FORMAT = 1
MOST_TOKENS = 4096
METADATA_FILE = "extract.json"
"""What was extracted, and with which encoders; also marks a folder as written by `extract`."""


def extract(
    source: Any,
    out: str | Path,
    encoders: Mapping[str, str],
    weights: Mapping[str, str] | None = None,
    *,
    tokens: int = 1,
    sum_channels: bool = False,
    shard: int = 64,
    device: str = "auto",
    quiet: bool = True,
    **options: Any,
) -> Path:
    """Store features of frozen encoders in a folder that `load` reads: `<modality>.safetensors` beside `metadata.csv`.

    The encoders read the centre view of each row. Values are standardised as the recording type requires ("imagenet",
    …) or not at all, never by statistics of the rows, so features do not depend on a split. Modalities without an
    encoder are stored unchanged; if their rows are files, they are left out with a warning.

    A killed extraction continues where it stopped, several processes can share one, and a finished one with the same
    encoder, weights and rows is not repeated. Files are compared by name, position in time, size and modification time;
    arrays and weights by content.

    Args:
        source, options: data and options of `load`.
        out: the folder: new, empty, or written by `extract`.
        encoders: modality -> name of a public network (docs/networks.md).
        weights: modality -> local weight file. An `hf:` folder contains its own weights.
        tokens: number of features of a row over time, (N, tokens, D); 1: vectors (N, D).
        sum_channels: as `network.sum_channels`.
        shard: number of rows stored together; a killed process repeats at most these.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".
        quiet: show no progress.

    Returns:
        The path of the folder.

    Raises:
        ConfigError: an encoder has no weights or does not fit, or the target is a class per pixel.
        DataError: a recording cannot be read, or `out` contains something else.
    """
    where = choose_device(device, "device")
    out, data = check_place(out), load(source, **options)
    _check(data, out, encoders, dict(weights or {}), tokens)
    out.mkdir(parents=True, exist_ok=True)
    nets = {
        m: _load_frozen(m, name, data.shape(m), (weights or {}).get(m), sum_channels) for m, name in encoders.items()
    }
    metadata: dict[str, Any] = {"format": FORMAT, "source": {"name": data.name, **data.about}, "modalities": {}}
    todo: dict[str, tuple[Shards, Callable[[slice], Tensor]]] = {}
    for m in data.modalities:
        if m in nets:
            config = _config(data, m, encoders[m], nets[m], tokens)
            key = _key(config, data, m)
            metadata["modalities"][m] = {**config, "key": key}
            stored = Shards(out / f"{m}.safetensors", m, key, len(data), shard)
            todo[m] = (stored, _make_compute(data, m, nets[m], tokens, where))
    write_atomic(out / METADATA_FILE, json.dumps(metadata, indent=1, default=str))
    if not all(shards.is_complete() for shards, _ in todo.values()):
        (out / TABLE_FILE).unlink(missing_ok=True)  # it describes features that are about to be replaced
    for m, (shards, compute) in todo.items():
        shards.make(compute, lambda done, m=m: None if quiet else _show_progress(m, done, len(data)))  # type: ignore[misc]
        shards.clear()
    _store_others(data, out, [m for m in data.modalities if m not in nets])
    write_atomic(out / TABLE_FILE, _table(data).to_csv(index=False))
    return out


def _check(data: Dataset, out: Path, encoders: Mapping[str, str], weights: Mapping[str, str], tokens: int) -> None:
    if not encoders:
        raise ConfigError("extract needs an encoder: --encoder modality=r3d18 (encoders={'modality': 'r3d18'})")
    if not 1 <= tokens <= MOST_TOKENS:
        raise ConfigError(f"tokens is {tokens}; expected 1 to {MOST_TOKENS}")
    for m in data.modalities:
        check_modality(m, data.name)
    for kind, given, known in (("encoder", encoders, data.inputs), ("weights", weights, encoders)):
        for m in given:
            if m not in known:
                raise ConfigError(f"{kind}: {unknown('modality', m, known)}")
    if data.size:
        raise ConfigError(f"{data.name} has a class per pixel; features are vectors, which such a target cannot use")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / METADATA_FILE).is_file():
        raise DataError(f"{out} contains something other than extracted features; choose another folder")


def _load_frozen(m: str, name: str, shape: tuple[int, ...], weights: str | None, sum_channels: bool) -> Any:
    """Load a network in evaluation mode with all tensors from a file, so that no untrained tensor is frozen."""
    net = make_net(name, shape)
    own = name.startswith("hf:") and any((Path(name[3:]).expanduser() / file).is_file() for file in WEIGHTS)
    if weights is None and not own:
        raise ConfigError(f"encoder of {m!r}: {name!r} has no weights; name their local file (--weights {m}=FILE)")
    if weights is not None:
        report = load_weights(net, weights, sum_channels=sum_channels)
        if report.missing:
            raise RunError(
                f"--weights {m}: {report}. A frozen encoder must be trained; give a file with all of its weights"
            )
    return net.eval().requires_grad_(False)


def _config(data: Dataset, m: str, name: str, net: nn.Module, tokens: int) -> dict[str, Any]:
    """Everything but the rows on which the features of a modality depend, as JSON."""
    digest = hashlib.sha256()
    for key, value in net.state_dict().items():
        digest.update(f"{key} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    called = "hf" if name.startswith("hf:") else name  # by kind alone, since a folder may be moved
    config = {"encoder": called, "tokens": tokens, "shape": list(data.shape(m)), "weights": digest.hexdigest()}
    return {**config, "standard": _standard(data, m), "config": getattr(net, "description", {})}


def _key(config: Mapping[str, Any], data: Dataset, m: str) -> str:
    """A digest of everything on which the features of a modality depend."""
    digest = hashlib.sha256(json.dumps([FORMAT, config], sort_keys=True, default=str).encode())
    x = data.inputs[m]
    digest.update(x.fingerprint(times=True) if is_lazy(x) else np.ascontiguousarray(x).tobytes())
    for more in (data.present[m], data.lengths.get(m, np.zeros(0))):
        digest.update(more.tobytes())
    return digest.hexdigest()


def _standard(data: Dataset, m: str) -> str:
    """The fixed statistics that standardise a modality, or "none"."""
    standard = data.standard.get(m, "")
    return standard if standard in STATISTICS else "none"


def _make_compute(data: Dataset, m: str, net: Any, tokens: int, device: torch.device) -> Callable[[slice], Tensor]:
    """Make a function from a slice of rows to their features; rows without the modality get NaN."""
    view = data.select([m])
    if _standard(data, m) == "none":
        batch = view.batch()
    else:
        batch = view.batch(Preprocessor.fit(view, np.arange(len(view)), [m]))
    present = batch.present[m]
    at_once = compute_chunk_size([data.shape(m)], 64)

    def compute(rows: slice) -> Tensor:
        net.to(device)
        whole = torch.arange(rows.start, rows.stop)
        found = whole[present[whole]]
        with explain_out_of_memory(device, "Extract on the CPU (device=cpu), or from smaller or shorter rows."):
            parts = [
                _features(net, part, m, tokens)
                for part in materialized_batches(batch, torch.split(found, at_once), device=device)
            ]
        if not parts:  # only the network knows the width
            parts = [net.pool(net.forward_maps(torch.zeros(1, *data.shape(m), device=device)), tokens).cpu()[:0]]
        known = torch.cat(parts)
        out = known.new_full((len(whole), *known.shape[1:]), torch.nan)
        out[present[whole]] = known
        return out[:, 0] if tokens == 1 else out

    return torch.no_grad()(compute)


def _features(net: Any, batch: Batch, m: str, tokens: int) -> Tensor:
    x, length = batch.inputs[m], batch.lengths.get(m)
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    if length is not None and not net.reads_length:
        raise ConfigError(f"the encoder of {m!r} cannot read rows of varying length; give them one (seconds, longest)")
    if length is None:
        return net.pool(net.forward_maps(x), tokens).float().cpu()  # type: ignore[no-any-return]
    return net.pool(net.forward_maps(x, length), tokens, length).float().cpu()  # type: ignore[no-any-return]


def _store_others(data: Dataset, out: Path, modalities: list[str]) -> None:
    for m in modalities:
        x, present = data.inputs[m], data.present[m]
        if is_lazy(x):
            warnings.warn(
                f"{m!r} has no encoder and its rows are files; it is left out of {out}", SidelightWarning, stacklevel=3
            )
            continue
        if not present.all():
            x = np.where(present.reshape(-1, *[1] * (x.ndim - 1)), x.astype(np.float32), np.float32(np.nan))
        arrays = {m: np.ascontiguousarray(x)}
        if m in data.lengths:
            arrays["lengths"] = data.lengths[m]
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        write_tensors(out / f"{m}.safetensors", tensors, finite=False)


def _table(data: Dataset) -> pd.DataFrame:
    """The rows: id, target (several under their own names), group, split, time."""
    columns: dict[str, NDArray] = {"id": data.ids}
    if data.task == "classification":
        names = np.array([*data.class_names, ""], dtype=object)
        columns["target"] = names[np.where(data.labelled, data.target, len(data.class_names))]
    else:
        one = len(data.class_names) == 1
        columns |= {"target" if one else name: data.target[:, k] for k, name in enumerate(data.class_names)}
    if data.group is not None:
        columns["group"] = data.group
    if data.split is not None:
        columns["split"] = data.split
    if data.time is not None:
        columns["time"] = data.time
    return pd.DataFrame(columns)


def _show_progress(m: str, done: int, rows: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{m}: {done} of {rows} rows", end="\n" if done == rows else "", file=sys.stderr, flush=True)
