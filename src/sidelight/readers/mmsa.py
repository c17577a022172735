"""MMSA's feature files of CMU-MOSI, CMU-MOSEI and CH-SIMS: text, sound and face of people who say what they think."""

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
from sidelight.readers.base import Contents, Faults, Reader
from sidelight.readers.sequences import Part, sequence_rows
from sidelight.utils.array_files import load_npz
from sidelight.utils.files import check_file

MODALITIES = ("text", "audio", "vision")
SPLIT = {"train": "train", "valid": "select", "test": "test"}
TARGET = "regression_labels"
ALLOWED = {
    *((f"numpy{core}.{module}", name) for core in (".core", "._core") for module, name in (
        ("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"),
    )),
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
}  # fmt: skip
"""All that a pickle of arrays, texts and numbers names."""


@dataclass(frozen=True, kw_only=True)
class MMSA(Reader):
    """A file of features, or a folder with one.

    A pickle {train, valid, test} of {text, audio, vision, regression_labels, id, …}, or an .npz of the same arrays,
    named `train.text`. An array of lengths `<modality>_lengths` says what is padding. A value
    of −inf becomes 0, as in MMSA's code.

    Args:
        unsafe_pickle: yes: a pickle is unpickled, once, to write its arrays as plain .npy files. Unpickling a file can
            run code that its author put into it; names beside those of arrays are refused, but say yes only to a file
            whose origin you trust. Without it no pickle is opened.
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
    takes_file: ClassVar[bool] = True

    unsafe_pickle: bool = False

    def missing(self, source: Path) -> list[str]:
        try:
            path = self._file(source)
            if path.suffix == ".npz":
                self._parts(load_npz_parts(path), path)
        except DataError as error:
            return [str(error)]
        return []

    def read(self, source: Path, faults: Faults) -> Contents:
        path = self._file(source)
        parts = self._parts(load_npz_parts(path) if path.suffix == ".npz" else unpickle(path), path)
        rows, kinds, write = sequence_rows(parts, str(path), SPLIT, ("sentiment",), faults)
        videos: dict[str, set[str]] = {}
        for row in rows:
            videos.setdefault(_video(row["id"]), set()).add(row["split"])
        for row in rows:  # parts that share a video would share a group
            video = _video(row["id"])
            row["video"] = video if len(videos[video]) == 1 else row["id"]
        facts = DatasetInfo(
            name=path.stem, target=("sentiment",), group="video", split="split", task="regression",
            available=("audio", "vision"), privileged=("text",),
        )  # fmt: skip
        return Contents(rows, kinds, facts, files=write)

    def _file(self, source: Path) -> Path:
        """The .npz, or the pickle where it may be opened."""
        found = [source] if source.is_file() else sorted([*source.glob("*.npz"), *source.glob("*.pkl")])
        if len(found) != 1 or found[0].suffix not in (".npz", ".pkl"):
            names = ", ".join(p.name for p in found) or "none"
            raise DataError(f"{source}: expected one .npz or .pkl file; there are: {names}. Name the file itself")
        if found[0].suffix == ".pkl" and not self.unsafe_pickle:
            raise DataError(
                f"{found[0]} is a pickle, which can run code when it is opened; nothing was. If you trust where it "
                f"comes from: sidelight prepare mmsa {found[0].name} OUT unsafe_pickle=yes"
            )
        return found[0]

    def _parts(self, tree: Any, path: Path) -> list[Part]:
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
            ids = [_text(x) for x in arrays["id"]] if "id" in arrays else [f"{part}-{i:06d}" for i in range(n)]
            lengths = {m: np.asarray(arrays[f"{m}_lengths"]) for m in MODALITIES if f"{m}_lengths" in arrays}
            inputs = {m: _numbers(arrays[m], f"{path}: {part}: {m}") for m in MODALITIES}
            target = _numbers(arrays[TARGET], f"{path}: {part}: {TARGET}").reshape(n)
            parts.append(Part(part, inputs, target, ids, lengths))
        return parts

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        tree = {}
        for part, n in (("train", 16), ("valid", 6), ("test", 6)):
            y = generator.uniform(-3, 3, n).astype(np.float32)
            made: dict[str, Any] = {
                m: (generator.normal(size=(n, 8, d)) + y[:, None, None]).astype(np.float32)
                for m, d in zip(MODALITIES, (12, 5, 7))
            }
            made |= {f"{m}_lengths": generator.integers(4, 9, n).tolist() for m in ("audio", "vision")}
            ids = np.array([f"{part}{i // 2}$_${i % 2}" for i in range(n)], object)
            tree[part] = {**made, "id": ids, TARGET: y, "raw_text": np.array(["so so"] * n, object)}
        (out / "unaligned_8.pkl").write_bytes(pickle.dumps(tree, protocol=4))


class _Arrays(pickle.Unpickler):
    """Refuses every name that arrays do not need."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array, text or number")
        return super().find_class(module, name)


def unpickle(path: Path) -> Any:
    """What a trusted pickle of arrays holds; raises DataError for a damaged one, or one that names anything else."""
    check_file(path)
    try:
        return _Arrays(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # damaged pickles raise anything
        raise DataError(f"cannot read {path}: {type(error).__name__}: {error}") from error


def load_npz_parts(path: Path) -> dict[str, dict[str, NDArray]]:
    """{part: {array}} of an .npz whose arrays are called part.array; nothing is executed."""
    tree: dict[str, dict[str, NDArray]] = {}
    for key, x in load_npz(path).items():
        part, _, name = key.partition(".")
        tree.setdefault(part, {})[name] = x
    return tree


def _numbers(x: Any, where: str) -> NDArray:
    """With MMSA's zeros for −inf, which its sound features have."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub" or not array.ndim:
        raise DataError(f"{where} holds {array.dtype} of shape {array.shape}; expected numbers")
    return np.where(np.isneginf(array), 0, array) if array.dtype.kind == "f" else array


def _text(x: Any) -> str:
    return x.decode() if isinstance(x, bytes) else str(x)


def _video(name: str) -> str:
    """MMSA's ids are video$_$clip."""
    return name.partition("$_$")[0]
