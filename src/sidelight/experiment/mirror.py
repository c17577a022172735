"""A run folder at a URL: each process works in a copy on its own disk, and exchanges what is finished.

Objects are written whole, so that a file is there or not. A job counts once its record (`job.json`) is there, which is
sent last. Leases lie at the URL alone.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from sidelight.errors import ConfigError, DiskError, RunError
from sidelight.experiment.object_leases import check_exclusive
from sidelight.results.job import RECORD
from sidelight.utils.atomic import write_atomic, write_folder_atomic
from sidelight.utils.extras import optional

FILE = ".mirror.json"
"""In a copy: the URL that it belongs to."""
WORK = ".work"
OF_FOLDS = ("jobs", "shared", "failed", "inner", "checkpoints", "tracking")
"""The folders whose files belong to a fold and seed, which their names hold."""
TPE = "draws/tpe"
"""The sequences of draws by TPE."""
DELETED = ("failed/", "checkpoints/")
"""Files that are deleted there when they are deleted here."""
STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")


class Mirror:
    """The copy of a run folder on this disk, and the URL with which it exchanges what is finished.

    Args:
        folder: the copy.
        url: the run folder, as fsspec reads it: `s3://bucket/runs/a`.
    """

    def __init__(self, folder: Path, url: str):
        self.folder, self.url = folder, url
        self.fs, root = _open(url)
        self.root = root.rstrip("/")
        self.here: dict[str, tuple[int, int]] = {}
        self.there: dict[str, tuple[Any, ...]] = {}

    @property
    def leases(self) -> str:
        """The folder of the leases there."""
        return f"{self.root}/{WORK}/leases"

    def pull(self, folds: Collection[str] = ()) -> None:
        """Fetch what has finished there.

        Args:
            folds: the names of folds and seeds ("f0-s1"), or none for the whole run.
        """
        with self._explained():
            found = dict(self._list_there(folds))
            jobs: dict[str, list[str]] = {}
            for path in found:
                if job := _job(path):
                    jobs.setdefault(job, []).append(path)
                elif self.there.get(path) != found[path]:
                    self._replace(path)
                    self.there[path] = found[path]
                    self.here[path] = _stamp_here(self.folder / path)
            for job, paths in jobs.items():
                if f"{job}/{RECORD}" in found and not (self.folder / job).exists():
                    with write_folder_atomic(self.folder / job, keep=True) as place:
                        for path in paths:
                            self._fetch(path, place / path.removeprefix(f"{job}/"))
                    self.here |= {path: _stamp_here(self.folder / path) for path in paths}

    def push(self, folds: Collection[str] = ()) -> None:
        """Send what has finished here, the record of a job after its other files.

        Args:
            folds: the names of folds and seeds, or none for the whole run.
        """
        with self._explained():
            found = dict(self._list_here(folds))
            if not folds:  # somebody may have deleted what was sent before
                there = dict(self._list_there(()))
                self.here = {path: stamp for path, stamp in self.here.items() if path in there}
            changed = [path for path in found if self.here.get(path) != found[path]]
            stored = self._stored_there({job for path in changed if (job := _job(path))})
            for path in sorted(changed, key=lambda path: (path.endswith(f"/{RECORD}"), path)):
                job = _job(path)
                if job not in stored:
                    self._send(path)
                self.here[path] = found[path]
                if not job:
                    self.there[path] = _stamp_there(self.fs.info(f"{self.root}/{path}"))
            for path in [path for path in self.here if path.startswith(DELETED) and path not in found]:
                if not folds or _is_of(path.rpartition("/")[2], folds):
                    with suppress(FileNotFoundError):
                        self.fs.rm_file(f"{self.root}/{path}")
                    self.here.pop(path), self.there.pop(path, None)

    def push_work(self) -> None:
        """Send what workers need to open the study: settings and rows."""
        with self._explained():
            work = self.folder / WORK
            for path in sorted(p for p in work.rglob("*") if p.is_file() and "leases" not in p.parts):
                self._send(path.relative_to(self.folder).as_posix())

    def pull_work(self) -> None:
        """Fetch what this worker needs to open the study."""
        with self._explained():
            for path in _find(self.fs, f"{self.root}/{WORK}"):
                name = path.removeprefix(f"{self.root}/")
                if "/leases/" not in path and not (self.folder / name).exists():
                    self._replace(name)

    def forget_work(self) -> None:
        """Delete there what only running processes need."""
        with self._explained():
            for path in _find(self.fs, f"{self.root}/{WORK}"):
                if "/leases/" not in path:
                    self.fs.rm_file(path)

    def _list_there(self, folds: Collection[str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The files there and their stamps, by their paths in the run folder."""
        self.fs.invalidate_cache()
        for top in _tops(self._names_there, folds) if folds else [""]:
            for path, info in _find(self.fs, f"{self.root}/{top}".rstrip("/")).items():
                name = path.removeprefix(f"{self.root}/")
                if not _is_hidden(name):
                    yield name, _stamp_there(info)

    def _names_there(self, place: str) -> list[str]:
        try:
            return [path.rstrip("/").rpartition("/")[2] for path in self.fs.ls(f"{self.root}/{place}", detail=False)]
        except FileNotFoundError:
            return []

    def _stored_there(self, jobs: Collection[str]) -> set[str]:
        """Those of these jobs that are complete there."""
        self.fs.invalidate_cache()
        return {job for job in jobs if self.fs.exists(f"{self.root}/{job}/{RECORD}")}

    def _list_here(self, folds: Collection[str]) -> Iterator[tuple[str, tuple[int, int]]]:
        for top in _tops(self._names_here, folds) if folds else [""]:
            start = self.folder / top
            for path in [start] if start.is_file() else sorted(start.rglob("*")):
                name = path.relative_to(self.folder).as_posix()
                if not _is_hidden(name) and path.is_file():
                    yield name, _stamp_here(path)

    def _names_here(self, place: str) -> list[str]:
        with suppress(OSError):
            return os.listdir(self.folder / place)
        return []

    def _send(self, path: str) -> None:
        there = f"{self.root}/{path}"
        try:
            self.fs.put_file(str(self.folder / path), there)
        except FileNotFoundError:  # of stores that have folders
            self.fs.makedirs(there.rpartition("/")[0], exist_ok=True)
            self.fs.put_file(str(self.folder / path), there)

    def _replace(self, path: str) -> None:
        write_atomic(self.folder / path, self.fs.cat_file(f"{self.root}/{path}"))

    def _fetch(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self.fs.get_file(f"{self.root}/{path}", str(target))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (RunError, ConfigError, DiskError):
            raise
        except Exception as error:  # every package of fsspec has its own
            raise DiskError(
                f"cannot exchange files with {self.url}: {type(error).__name__}: {error}. What has finished is in "
                f"{self.folder}; continue with --resume (resume=True) when it can be reached."
            ) from error


def mirror_of(folder: Path) -> Mirror | None:
    """The mirror that a folder is the copy of; None for a folder of its own."""
    try:
        text = (folder / FILE).read_text("utf-8", errors="replace")
    except OSError:
        return None
    try:
        url = str(json.loads(text)["url"])
    except (ValueError, KeyError, TypeError):
        raise RunError(
            f"{folder / FILE} is damaged: expected the URL that the folder is the copy of. If it is no copy, delete "
            f"that file; else move {folder} away: what has finished is at the URL."
        ) from None
    return _mirror(Path(os.path.abspath(folder)), url)


@lru_cache(maxsize=64)
def _mirror(folder: Path, url: str) -> Mirror:
    return Mirror(folder, url)


def open_mirror(url: str, folder: Path | None = None) -> Mirror:
    """Begin or continue the copy of a run folder.

    Args:
        url: the run folder.
        folder: the copy; by default `runs/NAME` with the last name of the URL.

    Raises:
        ConfigError: fsspec cannot open the URL, or the store cannot create exclusively.
        RunError: the copy's place is taken by something else.
    """
    url = url.rstrip("/")
    name = url.rpartition("/")[2]
    if not re.fullmatch(r"[\w.-]+", name) or not name.strip("."):
        raise ConfigError(f"output={url!r} must end in a name for the run, such as s3://bucket/runs/first.")
    folder = folder or Path("runs") / name
    own = mirror_of(folder)
    if own is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is no copy of {url}. Move it away, or let the URL end in another name.")
    if own is not None and own.url.rstrip("/") != url:
        raise RunError(f"{folder} is the copy of {own.url}, not of {url}. Let the URL end in another name.")
    if own is None:
        mirror = Mirror(folder, url)
        with mirror._explained():
            check_exclusive(mirror.fs, mirror.leases, url)
        write_atomic(folder / FILE, json.dumps({"url": url}))
    found = mirror_of(folder)
    assert found is not None
    return found


def open_in_worker(url: str) -> Mirror:
    """The copy of a worker, which is deleted when the worker ends."""
    folder = Path(tempfile.mkdtemp(prefix="sidelight-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_atomic(folder / FILE, json.dumps({"url": url}))
    mirror = mirror_of(folder)
    assert mirror is not None
    return mirror


def _open(url: str) -> tuple[Any, str]:
    fsspec = optional("fsspec", "scale", "a run folder at a URL")
    try:
        fs, root = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"output={url!r} cannot be opened: {error}. Install the package of fsspec for this kind of URL (s3fs, "
            "gcsfs, adlfs, …), or choose a folder."
        ) from error
    return fs, str(root)


def _tops(names: Any, folds: Collection[str]) -> Iterator[str]:
    """The files and folders of some folds, in a run folder and in the draws of a sweep.

    Args:
        names: folder of the run -> what is in it.
        folds: the names of folds and seeds.
    """
    for base in ["", *(f"draws/{draw}/" for draw in names("draws"))]:
        for place in OF_FOLDS:
            yield from (f"{base}{place}/{name}" for name in names(f"{base}{place}") if _is_of(name, folds))
    yield from (f"{TPE}/{name}" for name in names(TPE) if _is_of(name, folds))


def _is_of(name: str, folds: Collection[str]) -> bool:
    """Whether a file is of one of the folds, or a checkpoint of models of several."""
    if _is_hidden(name):
        return False
    return name.startswith("stack-") or bool(re.search(rf"-({'|'.join(map(re.escape, folds))})(?!\d)", name))


def _is_hidden(path: str) -> bool:
    """Whether a file is temporary, or of running processes."""
    return any(part.startswith(".") for part in path.split("/"))


def _job(path: str) -> str:
    """The folder of the job that a file belongs to; "" for other files."""
    found = re.match(r"(?:.*/)?jobs/[^/]+(?=/)", path)
    return found[0] if found else ""


def _find(fs: Any, path: str) -> dict[str, dict[str, Any]]:
    try:
        return dict(fs.find(path, detail=True))
    except FileNotFoundError:
        return {}


def _stamp_here(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _stamp_there(info: dict[str, Any]) -> tuple[Any, ...]:
    return info.get("size"), next((str(info[key]) for key in STAMPS if info.get(key)), "")
