"""Reads `teacher.sets`: one teacher on every modality, or several, each on a set of privileged modalities."""

from __future__ import annotations

from collections import Counter

from sidelight.config import Config
from sidelight.errors import ConfigError, unknown


def parse_teacher_sets(config: Config) -> dict[str, tuple[str, ...]]:
    """Parse `teacher.sets`: `all`, `each` (one teacher per privileged modality), or sets such as `eda, ecg+emg`.

    The teacher of a set teaches the rows that have at least one modality of the set. The single teacher of `all`
    teaches every row.

    Returns:
        Name -> the privileged modalities that the teacher reads beside the available ones; {} for a single teacher
        that reads every modality.

    Raises:
        ConfigError: a set names a modality that is not privileged, or names it twice; two sets are the same; or "all"
            or "each" is combined with sets.
    """
    names, known = config.teacher.sets, list(config.privileged)
    for word in ("all", "each"):
        # A modality may itself be called "all" or "each".
        if word in names and word not in known and len(names) > 1:
            raise ConfigError(f"teacher.sets: {word!r} cannot be combined with other sets.")
    if names == ["all"]:
        return {}
    if names == ["each"]:
        return {m: (m,) for m in known}

    sets = {name: tuple(name.split("+")) for name in names}
    for name, members in sets.items():
        for m in members:
            if m not in known:
                raise ConfigError(f"teacher.sets: {unknown('privileged modality', m, known)}")
        if len(set(members)) < len(members):
            raise ConfigError(f"teacher.sets: {name!r} names a modality twice.")
    unordered = {name: frozenset(members) for name, members in sets.items()}
    counts = Counter(unordered.values())
    same = [name for name, members in unordered.items() if counts[members] > 1]
    if same:
        raise ConfigError(f"teacher.sets: {' and '.join(same)} are the same set.")
    return sets
