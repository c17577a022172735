"""The one writer and the one reader of safetensors files: every file carries a checksum, and no damage is loaded.

The checksum is the SHA-256 of the whole file but itself: names, types, shapes, the other metadata, and every value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from safetensors import safe_open

from sidelight.errors import RunError
from sidelight.utils.atomic import write_atomic
from sidelight.utils.files import check_file, told_by_content

if TYPE_CHECKING:  # a report is written without torch
    from torch import Tensor

CHECKSUM = "sidelight.sha256"
"""Its key in the metadata."""
OF_NUMPY = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64"}
OF_TORCH = {"BF16", "F8_E4M3", "F8_E5M2"}
"""Kinds of numbers that NumPy has, and those that only torch has."""
COPY = "Copy the file again, or make it anew."


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, finite: bool = True
) -> None:
    """Write a safetensors file with a checksum in its metadata; it appears whole or not at all.

    The same content always gives the same bytes.

    Args:
        tensors: name -> tensor, on any device.
        metadata: texts to store beside them.
        finite: refuse NaN and infinity, which no weight and no statistic may hold.

    Raises:
        RunError: a value is NaN or infinite; names the tensor. DiskError: the disk is full, or not writable.
    """
    from safetensors.torch import save

    if finite and (found := next((n for n, t in tensors.items() if not all_finite(t)), None)) is not None:
        raise RunError(
            f"{path}: {found!r} holds NaN or infinity and is not stored: training diverged. Lower "
            "training.learning_rate, and look for extreme values in the inputs with `sidelight inspect`."
        )
    content = save(_apart(tensors))
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    body = memoryview(content)[start:]
    told = dict(metadata or {})
    digest = _digest({"__metadata__": told, **header})
    digest.update(body)
    told[CHECKSUM] = digest.hexdigest()
    text = json.dumps({"__metadata__": told, **header}, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the values that follow
    write_atomic(path, (len(text).to_bytes(8, "little"), text, body))


def read_tensors(
    path: str | Path, *, finite: bool = True, mend: str = COPY
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, on the CPU, and its metadata, once the checksum is found right.

    A file without a checksum (of an earlier version, or not of sidelight) is read as it is.

    Args:
        finite: refuse NaN and infinity.
        mend: what to do about a damaged file, for the end of the sentence.

    Raises:
        RunError: the file is missing, truncated, damaged, no safetensors file, or holds NaN or infinity; names it.
    """
    with _opened(Path(path), "pt", mend) as (file, metadata):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if finite and (found := next((n for n, t in tensors.items() if not all_finite(t)), None)) is not None:
        raise RunError(
            f"{path}: {found!r} holds NaN or infinity; the file is damaged, or its training diverged. {mend}"
        )
    return tensors, metadata


def read_arrays(path: str | Path, *, mend: str = COPY) -> dict[str, NDArray]:
    """The same as arrays, NaN allowed; types that NumPy lacks (bfloat16, float8) become float32.

    Raises:
        RunError: as `read_tensors`.
    """
    with _opened(Path(path), "np", mend) as (file, _):
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        for name, kind in kinds.items():
            if kind not in OF_NUMPY | OF_TORCH:
                raise RunError(f"{path}: {name!r} holds {kind}; expected integers or floating point")
        lacking = [name for name, kind in kinds.items() if kind in OF_TORCH]
        arrays = {name: file.get_tensor(name) for name in kinds if name not in lacking}
    if lacking:
        with _opened(Path(path), "pt", mend) as (file, _):
            arrays |= {name: file.get_tensor(name).float().numpy() for name in lacking}
    return {name: arrays[name] for name in kinds}


def read_metadata(path: str | Path, *, checked: bool = True, mend: str = COPY) -> dict[str, str]:
    """The texts beside the tensors, without loading these.

    checked: compare the checksum too, for which the whole file is read once.

    Raises:
        RunError: as `read_tensors`.
    """
    with _opened(Path(path), "np", mend, checked) as (_, metadata):
        return metadata


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in a memory of its own, as the format wants them."""
    memories, found = set(), {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        found[name] = own.clone() if memory in memories else own
        memories.add(memory)
    return found


@contextmanager
def _opened(path: Path, framework: str, mend: str, checked: bool = True) -> Iterator[tuple[Any, dict[str, str]]]:
    check_file(path, RunError)
    try:
        with safe_open(path, framework=framework) as file:
            metadata = dict(file.metadata() or {})
            if checked and CHECKSUM in metadata:
                _compare(path, metadata.pop(CHECKSUM), mend)
            metadata.pop(CHECKSUM, None)
            yield file, metadata
    except RunError:
        raise
    except Exception as error:  # safetensors, torch and NumPy each raise their own for a type that they lack
        raise RunError(f"cannot read {path}: {_reason(path, error, mend)}") from error


def _compare(path: Path, stored: str, mend: str) -> None:
    """Raises RunError where the content of a file is not the one that its checksum was made of."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header["__metadata__"].pop(CHECKSUM, None)
        found = hashlib.file_digest(file, lambda: _digest(header)).hexdigest()
    if found != stored:
        raise RunError(f"{path} is damaged: its content does not match the checksum that it was written with. {mend}")


def _digest(header: Mapping[str, Any]) -> Any:
    return hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())


def all_finite(tensor: Tensor) -> bool:
    """Whether no value of a tensor of any type is NaN or infinite."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no isfinite
    return bool(wide.sum().isfinite()) or bool(wide.isfinite().all())  # the sum is one pass, and may overflow


def _reason(path: Path, error: Exception, mend: str) -> str:
    if isinstance(error, OSError):
        return str(error.strerror or error)
    with path.open("rb") as file:
        start = file.read(9)
    header = start[8:] == b"{"  # after its length, whose first byte may be any
    if (start[:1] == b"\x80" and not header) or start[:4] == b"PK\x03\x04":
        return (
            "it is a pickle or a torch.save file under another name; those can execute code and are never loaded. "
            "Expected a safetensors file"
        )
    told = "" if header else told_by_content(path)
    return f"{told}. {mend}" if told else f"truncated, or not a safetensors file ({error}). {mend}"
