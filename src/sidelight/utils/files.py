"""Check files that users name before they are opened, and describe unreadable ones by their first bytes."""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sidelight.errors import DataError, SidelightError, shown

SPECIAL: dict[str, Callable[[int], bool]] = {
    "a folder": stat.S_ISDIR,
    "a named pipe (FIFO), which might never end": stat.S_ISFIFO,
    "a device, which might never end": stat.S_ISCHR,
    "a disk device": stat.S_ISBLK,
    "a socket": stat.S_ISSOCK,
}
MADE_UP = ("/proc/", "/sys/")
"""Folders of virtual files, which the system generates while they are read and whose sizes are wrong."""
HEAD = 1024
"""Number of first bytes by which a file is recognised."""
POINTERS = {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer, not the file itself: fetch it with `git annex get`",
}
FORMATS = {
    b"\x93NUMPY": "an array file (.npy)",
    b"PK\x03\x04": "a zip archive (.zip, .npz, .pt, .pth, .xlsx)",
    b"PAR1": "a table (.parquet)",
    b"\x89PNG": "an image (.png)",
    b"\xff\xd8\xff": "an image (.jpg, .jpeg)",
    b"GIF8": "an image (.gif)",
    b"BM": "an image (.bmp)",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "an image (.tif, .tiff)"),
    b"\x89HDF\r\n": "an HDF5 file (.h5, .hdf5, or MATLAB's .mat)",
    b"MATLAB 5.0": "a MATLAB file (.mat)",
    b"\x1f\x8b": "compressed (.gz)",
    b"BZh": "compressed (.bz2)",
    b"\xfd7zXZ": "compressed (.xz)",
    b"\x28\xb5\x2f\xfd": "compressed (.zst)",
    b"7z\xbc\xaf": "an archive (.7z)",
    b"Rar!": "an archive (.rar)",
    b"%PDF": "a document (.pdf)",
    b"SQLite format 3": "a database (.sqlite)",
    b"RIFF": "a sound or video file (.wav, .avi)",
    b"fLaC": "a sound file (.flac)",
    b"OggS": "a sound file (.ogg, .oga, .opus)",
    b"ID3": "a sound file (.mp3)",
    b"\x1aE\xdf\xa3": "a video (.mkv, .webm)",
    b"\x80\x02": "a Python pickle, which can execute code and is never loaded",
    b"\x80\x04": "a Python pickle, which can execute code and is never loaded",
    b"\x80\x05": "a Python pickle, which can execute code and is never loaded",
}
"""First bytes -> what such a file is, with its suffixes."""


def check_file(path: str | os.PathLike[str], error: type[SidelightError] = DataError, missing: str = "") -> Path:
    """Check that a path leads to a regular, readable file, without opening it.

    Args:
        path: as the user gave it.
        error: class of the error.
        missing: end of the error for a file that does not exist.

    Raises:
        DataError (or `error`): the path is invalid, does not exist, is a broken link, or leads to a folder, a named
            pipe, a device, a socket or a file without read permission.
    """
    text = os.fspath(path)
    if fault := path_fault(text):
        raise error(f"{shown(text)} {fault}")
    try:
        mode = os.stat(text).st_mode
    except OSError as why:
        raise error(f"{text} {_absent(text, why)}{missing}") from None
    for kind, holds in SPECIAL.items():
        if holds(mode):
            raise error(f"{text} is {kind}; expected a file")
    if os.path.realpath(text).startswith(MADE_UP):
        raise error(f"{text} is a virtual file of the system; copy its content into an ordinary file")
    if not os.access(text, os.R_OK):
        raise error(f"{text} may not be read: permission denied")
    return Path(text)


def check_place(path: str | os.PathLike[str], error: type[SidelightError] = DataError) -> Path:
    """Check that a text can be a path, of a file to write or a folder to read."""
    if fault := path_fault(os.fspath(path)):
        raise error(f"{shown(os.fspath(path))} {fault}")
    return Path(path)


def path_fault(text: str) -> str:
    """Why a text cannot be a path, to follow it in an error; "" if it can."""
    if not text:
        return "is empty; expected a path"
    if "\0" in text:
        return "contains a NUL character, which no path can"
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return "contains half a character (a surrogate), which no path can"
    return ""


def _absent(text: str, why: OSError) -> str:
    """What is wrong with a path that cannot be read, to follow it in an error."""
    if os.path.islink(text) and isinstance(why, FileNotFoundError):
        target = os.readlink(text)
        annexed = "; `git annex get` fetches it" if ".git/annex/objects" in target else ""
        return f"is a link to {target}, which does not exist{annexed}"
    if isinstance(why, FileNotFoundError | NotADirectoryError):
        posix = text.replace("\\", "/")
        if sys.platform != "win32" and posix != text:
            there = f"; {posix} does" if os.path.exists(posix) else ""
            return f"does not exist: backslashes do not separate folders on this system, slashes do{there}"
        return "does not exist"
    return f"cannot be read: {(why.strerror or str(why)).lower()}"


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether a path exists; False also for texts that cannot be a path."""
    return not path_fault(os.fspath(path)) and os.path.exists(path)


def describe_content(path: Path, expected: str = "", of_text: bool = False) -> str:
    """Describe a file by its first bytes, if that explains why it cannot be read.

    Args:
        path: the file.
        expected: suffix of the expected format, which is no explanation.
        of_text: whether a text was expected, so that being a text is no explanation.

    Returns:
        E.g. "it is empty" or "by its first bytes it is a zip archive (…)"; "" if the bytes explain nothing.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    if not head:
        return "it is empty"
    for start, what in POINTERS.items():
        if head.startswith(start):
            return f"it is {what}"
    is_text = _is_text(head)
    for start, what in FORMATS.items():
        if head.startswith(start) and not is_text and not (expected and expected.lower() in what):
            return f"by its first bytes it is {what}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if re.match(rb"<!doctype html|<html|<head|<[^>]*>\s*<html", text):
        return "it is a web page (HTML): a download that ended in a login or an error page? Download it again"
    if text.startswith(b"<?xml"):
        return "it is XML, perhaps a server's error message: download it again"
    if not head.strip(b"\0"):
        return "it begins with zeros only: was a download or a copy interrupted?"
    if is_text and not of_text:
        first = " ".join(head.decode("utf-8", "ignore").split())[:40]
        return f"it is text, beginning with {first!r}"
    return ""


def unreadable(path: Path, error: BaseException, part: str = "") -> str:
    """Word the error for a file that exists but cannot be read.

    Args:
        path: the file.
        error: the exception that reading it raised.
        part: the part of the file, e.g. "array 'x'".
    """
    if "allow_pickle" in str(error) or "Object arrays" in str(error):
        why = "it holds Python objects, which can execute code and are never loaded; store plain numbers"
    elif content := describe_content(path, expected=path.suffix):
        why = content
    else:
        first_line = str(error).splitlines()[0][:200] if str(error) else ""
        why = f"truncated or not such a file ({type(error).__name__}: {first_line})"
    return f"cannot read {path}{', ' + part if part else ''}: {why}"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\r\n" for c in text)


def read_text(path: Path, error: type[SidelightError] = DataError) -> str:
    """Read a small text file; raises `error` if it cannot be opened or is not UTF-8."""
    try:
        return check_file(path, error).read_text("utf-8-sig")
    except OSError as why:
        raise error(f"cannot read {path}: {why.strerror}") from None
    except UnicodeDecodeError as why:
        content = describe_content(path) or f"it is not UTF-8 text (byte {why.start})"
        raise error(f"cannot read {path}: {content}") from None


def read_json(path: Path, error: type[SidelightError] = DataError, once: Callable[..., Any] | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        error: class of the error if it cannot be opened or is not JSON.
        once: `object_pairs_hook` of json.loads.
    """
    text = read_text(path, error)
    try:
        return parse_json(text, once)
    except SidelightError:
        raise
    except ValueError as why:
        raise error(
            f"cannot read {path}: {describe_content(path, of_text=True) or f'it is not JSON ({why})'}"
        ) from None


def parse_json(text: str | bytes, once: Callable[..., Any] | None = None) -> Any:
    """`json.loads` that raises ValueError for every error, also for brackets nested thousands deep."""
    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise ValueError("brackets are nested too deep") from None
