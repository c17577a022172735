"""MMSA's feature files of CMU-MOSI, CMU-MOSEI and CH-SIMS: text, sound and face of people who state an opinion."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import DataError, unknown
from sidelight.readers.base import Contents, Reader, RowErrors
from sidelight.readers.sequences import SplitArrays, build_sequence_rows
from sidelight.utils.array_files import load_npz
from sidelight.utils.files import check_file

MODALITIES = ("text", "audio", "vision")
SPLIT = {"train": "train", "valid": "select", "test": "test"}
TARGET = "regression_labels"
# What a pickle of arrays, texts and numbers refers to. numpy.core is the name up to numpy 1, numpy._core from 2 on.
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


@dataclass(frozen=True, kw_only=True)
class MMSA(Reader):
    """Reads a file of features, or a folder that holds one.

    The file is a pickle {train, valid, test} of {text, audio, vision, regression_labels, id, …}, or an .npz of the same
    arrays under names such as `train.text`. `<modality>_lengths` gives the valid time steps of padded rows. −inf
    becomes 0, as in MMSA's code.

    Args:
        unsafe_pickle: "yes" unpickles a pickle once, to write its arrays as plain .npy files. Unpickling can run code
            that the author of the file put into it. sidelight refuses every name that arrays do not need, but say yes
            only to a file whose origin you trust. Without this option no pickle is opened.
    """

    name: ClassVar[str] = "mmsa"
    summary: ClassVar[str] = "MMSA feature files (CMU-MOSI, CMU-MOSEI, CH-SIMS): text, sound, face; sentiment, −3 to 3"
    obtain: ClassVar[str] = (
        "Feature files are linked from https://github.com/thuiar/MMSA (Processed/aligned_50.pkl, …)."
    )
    citation: ClassVar[str] = (
        "Mao et al.: M-SENA: an integrated platform for multimodal sentiment analysis. ACL 2022. And the set's own."
    )
    licence: ClassVar[str] = "that of the set: research"
    accepts_file: ClassVar[bool] = True

    unsafe_pickle: bool = False

    def find_missing(self, source: Path) -> list[str]:
        try:
            path = self._find_file(source)
            if path.suffix == ".npz":
                self._split_arrays(load_npz_parts(path), path)
        except DataError as error:
            return [str(error)]
        return []

    def read(self, source: Path, errors: RowErrors) -> Contents:
        path = self._find_file(source)
        parts = self._split_arrays(load_npz_parts(path) if path.suffix == ".npz" else unpickle(path), path)
        rows, kinds, write = build_sequence_rows(parts, str(path), SPLIT, ("sentiment",), errors)

        splits: dict[str, set[str]] = {}
        for row in rows:
            splits.setdefault(_video_of(row["id"]), set()).add(row["split"])
        # The group is the video. A group must not lie in two parts of the split, so the clips of a video that the
        # official split divides become groups of their own.
        for row in rows:
            video = _video_of(row["id"])
            row["video"] = video if len(splits[video]) == 1 else row["id"]
        facts = DatasetInfo(
            name=path.stem, target=("sentiment",), group="video", split="split", task="regression",
            available=("audio", "vision"), privileged=("text",),
        )  # fmt: skip
        return Contents(rows, kinds, facts, files=write)

    def _find_file(self, source: Path) -> Path:
        """The .npz, or the pickle if unsafe_pickle allows to open it."""
        found = [source] if source.is_file() else sorted([*source.glob("*.npz"), *source.glob("*.pkl")])
        if len(found) != 1 or found[0].suffix not in (".npz", ".pkl"):
            names = ", ".join(p.name for p in found) or "none"
            raise DataError(f"{source}: expected one .npz or .pkl file; there are: {names}. Name the file itself")
        if found[0].suffix == ".pkl" and not self.unsafe_pickle:
            raise DataError(
                f"{found[0]} is a pickle, which can run code when it is opened; it was not opened. If you trust where "
                f"it comes from: sidelight prepare mmsa {found[0].name} OUT unsafe_pickle=yes"
            )
        return found[0]

    def _split_arrays(self, tree: Any, path: Path) -> list[SplitArrays]:
        """The arrays of each part, checked for completeness."""
        if not isinstance(tree, dict) or not all(isinstance(part, dict) for part in tree.values()):
            raise DataError(f"{path} holds no parts by name; expected {', '.join(SPLIT)}")
        parts = []
        for part in SPLIT:
            if part not in tree:
                raise DataError(f"{path}: {unknown('part', part, tree)}")
            arrays = tree[part]
            for name in (*MODALITIES, TARGET):
                if name not in arrays:
                    raise DataError(f"{path}: {part}: {unknown('array', name, arrays)}")

            n = len(arrays[TARGET])
            ids = [_to_text(x) for x in arrays["id"]] if "id" in arrays else [f"{part}-{i:06d}" for i in range(n)]
            # Only the "unaligned" files have lengths, and only for sound and face.
            lengths = {m: np.asarray(arrays[f"{m}_lengths"]) for m in MODALITIES if f"{m}_lengths" in arrays}
            inputs = {m: _to_numbers(arrays[m], f"{path}: {part}: {m}") for m in MODALITIES}
            target = _to_numbers(arrays[TARGET], f"{path}: {part}: {TARGET}").reshape(n)
            parts.append(SplitArrays(part, inputs, target, ids, lengths))
        return parts

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        tree = {}
        for part, n in (("train", 16), ("valid", 6), ("test", 6)):
            y = generator.uniform(-3, 3, n).astype(np.float32)
            arrays: dict[str, Any] = {}
            for m, d in zip(MODALITIES, (12, 5, 7)):
                arrays[m] = (generator.normal(size=(n, 8, d)) + y[:, None, None]).astype(np.float32)
            for m in ("audio", "vision"):
                arrays[f"{m}_lengths"] = generator.integers(4, 9, n).tolist()
            ids = np.array([f"{part}{i // 2}$_${i % 2}" for i in range(n)], object)
            tree[part] = {**arrays, "id": ids, TARGET: y, "raw_text": np.array(["so so"] * n, object)}
        # A pickle, since that is what MMSA distributes; reading it needs unsafe_pickle=yes like the real files.
        (out / "unaligned_8.pkl").write_bytes(pickle.dumps(tree, protocol=4))


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays, texts and numbers; refuses every name that they do not need."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not an array, a text or a number")
        return super().find_class(module, name)


def unpickle(path: Path) -> Any:
    """Unpickle a trusted file of arrays; raises DataError if it is damaged, or if it names anything but arrays."""
    check_file(path)
    try:
        return _ArrayUnpickler(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # damaged pickles raise anything
        raise DataError(f"cannot read {path}: {type(error).__name__}: {error}") from error


def load_npz_parts(path: Path) -> dict[str, dict[str, NDArray]]:
    """Load an .npz whose arrays are called <part>.<array> as {part: {array}}; nothing is executed."""
    tree: dict[str, dict[str, NDArray]] = {}
    for key, x in load_npz(path).items():
        part, _, name = key.partition(".")
        tree.setdefault(part, {})[name] = x
    return tree


def _to_numbers(x: Any, where: str) -> NDArray:
    """x as an array of numbers; −inf becomes 0."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub" or not array.ndim:
        raise DataError(f"{where} holds {array.dtype} of shape {array.shape}; expected numbers")
    # The sound features hold −inf; MMSA's data loader sets it to 0.
    return np.where(np.isneginf(array), 0, array) if array.dtype.kind == "f" else array


def _to_text(x: Any) -> str:
    return x.decode() if isinstance(x, bytes) else str(x)


def _video_of(name: str) -> str:
    """The video of a clip: MMSA's ids are <video>$_$<clip>."""
    return name.partition("$_$")[0]
