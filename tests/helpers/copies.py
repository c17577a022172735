"""Copies of folders that tests damage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any


def copy_to_change(folder: Path, to: Path, *changed: str, **more: Any) -> Path:
    """Copies a folder of which a test changes a few files; the others are links, which cost nothing.

    Args:
        folder: what is copied.
        to: the copy, beside it on one disk.
        changed: the files that are written to; all files may be removed and renamed.
        more: as for `shutil.copytree`.
    """
    shutil.copytree(folder, to, copy_function=os.link, **more)
    for name in changed:
        if (to / name).is_file():
            (to / name).unlink()
            shutil.copy(folder / name, to / name)
    return to
