"""Names in the alphabets that trackers allow, and back: a method may be called `pkdot+kl@crossfit`."""

from __future__ import annotations

import re


def to_file_name(name: str) -> str:
    """A name as a folder: a slash would be a folder in it."""
    return name.replace("/", "_")


def to_plain(name: str) -> str:
    """A name in letters, digits, `_`, `-`, `.`, `/` and spaces, as MLflow wants it; `from_plain` gives it back.

    Each other character becomes `-x2b-` with its code in hexadecimal digits, and so does a `-x` that is in the name.
    """
    escaped = re.sub(r"-(?=x[0-9a-f]+-)", "-x2d-", name)
    return re.sub(r"[^\w\-. /]", lambda found: f"-x{ord(found[0]):x}-", escaped, flags=re.ASCII)


def from_plain(name: str) -> str:
    """The name that `to_plain` was given."""
    return re.sub(r"-x([0-9a-f]+)-", lambda found: chr(int(found[1], 16)), name)
