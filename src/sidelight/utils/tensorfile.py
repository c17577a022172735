"""Write and read safetensors files with a checksum, so that damaged files are refused.

The checksum is the SHA-256 of everything else in the file: names, types, shapes, other metadata, and all values.
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
from sidelight.utils.files import check_file, describe_content

if TYPE_CHECKING:  # a report needs no torch
    from torch import Tensor

CHECKSUM = "sidelight.sha256"
"""Key of the checksum in the metadata."""
NUMPY_TYPES = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64"}
TORCH_TYPES = {"BF16", "F8_E4M3", "F8_E5M2"}
"""Types of safetensors that NumPy has, and those that only torch has."""
COPY = "Copy the file again, or make it anew."


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, finite: bool = True
) -> None:
    """Write a safetensors file atomically, with a checksum in its metadata.

    The same content always gives the same bytes.

    Args:
        path: the file.
        tensors: name -> tensor, on any device.
        metadata: texts to store beside them.
        finite: refuse NaN and infinity.

    Raises:
        RunError: a value is NaN or infinite; the message names the tensor.
        DiskError: the disk is full or not writable.
    """
    from safetensors.torch import save

    if finite and (found := next((n for n, t in tensors.items() if not all_finite(t)), None)) is not None:
        raise RunError(
            f"{path}: {found!r} holds NaN or infinity and is not stored: training diverged. Lower "
            "training.learning_rate, and look for extreme values in the inputs with `sidelight inspect`."
        )
    content = save(_unshare(tensors))
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    body = memoryview(content)[start:]
    texts = dict(metadata or {})
    digest = _digest({"__metadata__": texts, **header})
    digest.update(body)
    texts[CHECKSUM] = digest.hexdigest()
    text = json.dumps({"__metadata__": texts, **header}, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the values that follow
    write_atomic(path, (len(text).to_bytes(8, "little"), text, body))


def read_tensors(
    path: str | Path, *, finite: bool = True, mend: str = COPY
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file's tensors on the CPU, and its metadata, after its checksum was compared.

    A file without a checksum (from an earlier version or another program) is read without one.

    Args:
        path: the file.
        finite: refuse NaN and infinity.
        mend: what to do about a damaged file, for the end of the error.

    Raises:
        RunError: the file is missing, truncated, damaged, not a safetensors file, or contains NaN or infinity.
    """
    with _opened(Path(path), "pt", mend) as (file, metadata):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if finite and (found := next((n for n, t in tensors.items() if not all_finite(t)), None)) is not None:
        raise RunError(
            f"{path}: {found!r} holds NaN or infinity; the file is damaged, or its training diverged. {mend}"
        )
    return tensors, metadata


def read_arrays(path: str | Path, *, mend: str = COPY) -> dict[str, NDArray]:
    """Read a file's tensors as arrays, NaN included; types that NumPy lacks (bfloat16, float8) become float32.

    Args:
        path: the file.
        mend: what to do about a damaged file, for the end of the error.

    Raises:
        RunError: as `read_tensors`.
    """
    with _opened(Path(path), "np", mend) as (file, _):
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        for name, kind in kinds.items():
            if kind not in NUMPY_TYPES | TORCH_TYPES:
                raise RunError(f"{path}: {name!r} holds {kind}; expected integers or floating point")
        lacking = [name for name, kind in kinds.items() if kind in TORCH_TYPES]
        arrays = {name: file.get_tensor(name) for name in kinds if name not in lacking}
    if lacking:
        with _opened(Path(path), "pt", mend) as (file, _):
            arrays |= {name: file.get_tensor(name).float().numpy() for name in lacking}
    return {name: arrays[name] for name in kinds}


def read_metadata(path: str | Path, *, checked: bool = True, mend: str = COPY) -> dict[str, str]:
    """Read a file's metadata without its tensors.

    Args:
        path: the file.
        checked: compare the checksum, which reads the whole file once.
        mend: what to do about a damaged file, for the end of the error.

    Raises:
        RunError: as `read_tensors`.
    """
    with _opened(Path(path), "np", mend, checked) as (_, metadata):
        return metadata


def _unshare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU without shared memory, as the format requires."""
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
    except Exception as error:  # safetensors, torch and NumPy raise different errors for types that they lack
        raise RunError(f"cannot read {path}: {_reason(path, error, mend)}") from error


def _compare(path: Path, stored: str, mend: str) -> None:
    """Raise RunError if a file's content does not match its checksum."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header["__metadata__"].pop(CHECKSUM, None)
        found = hashlib.file_digest(file, lambda: _digest(header)).hexdigest()
    if found != stored:
        raise RunError(f"{path} is damaged: its content does not match its checksum. {mend}")


def _digest(header: Mapping[str, Any]) -> Any:
    return hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor of any type contains neither NaN nor infinity."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no isfinite
    return bool(wide.sum().isfinite()) or bool(wide.isfinite().all())  # the sum is faster, but may overflow


def _reason(path: Path, error: Exception, mend: str) -> str:
    if isinstance(error, OSError):
        return str(error.strerror or error)
    with path.open("rb") as file:
        start = file.read(9)
    header = start[8:] == b"{"  # the header follows its length, whose first byte may be any
    if (start[:1] == b"\x80" and not header) or start[:4] == b"PK\x03\x04":
        return (
            "it is a pickle or a torch.save file under another name; those can execute code and are never loaded. "
            "Expected a safetensors file"
        )
    content = "" if header else describe_content(path)
    return f"{content}. {mend}" if content else f"truncated, or not a safetensors file ({error}). {mend}"
