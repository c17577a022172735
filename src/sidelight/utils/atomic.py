"""Write files and folders atomically: they appear complete or not at all, even if the process is killed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sidelight.errors import DiskError
from sidelight.utils.files import check_place


def write_atomic(path: str | Path, content: bytes | str | Iterable[bytes | memoryview]) -> None:
    """Write a file under a temporary name beside `path`, then rename it, so readers see the old or the new file."""
    path = check_place(path, DiskError)
    content = content.encode() if isinstance(content, str) else content
    temporary = _temporary(path)
    with _guard_write(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


@contextmanager
def write_folder_atomic(path: str | Path, keep: bool = False) -> Iterator[Path]:
    """Build a folder under a temporary name; it is renamed to `path` when the block ends without an exception.

    Args:
        path: the folder.
        keep: whether an existing folder of that name stays, and what was built is thrown away. Otherwise it is
            replaced, and leftovers of killed processes are removed, so that only one process at a time may write it.
    """
    path = check_place(path, DiskError)
    temporary = _temporary(path)
    with _guard_write(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in () if keep else path.parent.glob(f".{_escaped(path.name)}.*.tmp"):
            _remove(leftover)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if keep:
            _rename_unless_there(temporary, path)
        elif path.exists():
            old = _temporary(path)
            os.replace(path, old)
            os.replace(temporary, path)
            _remove(old)
        else:
            os.replace(temporary, path)


def _rename_unless_there(temporary: Path, path: Path) -> None:
    """Rename a folder; if one of that name (which is not empty) is there, the system refuses, and the new one goes."""
    try:
        os.rename(temporary, path)
    except OSError:
        if not path.is_dir():
            raise
        _remove(temporary)


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files and folders (`.*.tmp`) of killed processes directly inside `folder`."""
    for leftover in Path(folder).glob(".*.tmp"):
        _remove(leftover)


@contextmanager
def _guard_write(path: Path, temporary: Path) -> Iterator[None]:
    """Remove `temporary` if the block fails; errors of the disk become a DiskError that names `path`."""
    try:
        yield
    except BaseException as error:
        _remove(temporary)
        reason = _disk_error(error, temporary)
        if reason is None:
            raise
        raise DiskError(f"cannot write {path}: {reason}") from error


def _disk_error(error: BaseException, temporary: Path) -> str | None:
    """The reason for a failure to write, with advice; None for other errors (e.g. an unreadable input)."""
    full = "Free some space or choose another folder."
    other = "Check the folder's permissions, or choose another folder."
    if isinstance(error, OSError):
        if error.filename is not None and not _beside(Path(os.fsdecode(error.filename)), temporary):
            return None
        mend = full if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else other
        if error.errno == errno.ENAMETOOLONG:
            mend = "Choose a shorter one."
        if error.errno in (errno.EISDIR, errno.ENOTEMPTY):
            mend = "A folder has this name: move it away."
        return f"{error.strerror or error}. {mend}"
    if isinstance(error, Exception) and "os error" in str(error):  # safetensors wraps the system's error
        return f"{error}. {full if 'os error 28' in str(error) else other}"
    return None


def _beside(named: Path, temporary: Path) -> bool:
    """Whether `named` is in the folder that is written, or is a folder above it."""
    named, temporary = Path(os.path.abspath(named)), Path(os.path.abspath(temporary))
    return temporary.parent in named.parents or named in temporary.parents


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}.tmp")


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with open(path, "r+b") as file:  # Windows flushes only writable files
        os.fsync(file.fileno())
