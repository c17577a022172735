"""Which teachers there are: one on every modality, or several, each on a set of the privileged ones."""

from __future__ import annotations

from sidelight.config import Config
from sidelight.errors import ConfigError, unknown


def teacher_sets(config: Config) -> dict[str, tuple[str, ...]]:
    """Name -> the privileged modalities that a teacher reads beside the available ones; {} for one that reads them all.

    `teacher.sets`: all, each (a teacher for each privileged modality), or sets such as `eda, ecg+emg`. Teachers of sets
    are silent about rows that have nothing of their set; the one of `all` speaks of every row.

    Raises:
        ConfigError: a modality that is not privileged or twice in a set, or "all" or "each" beside others.
    """
    asked, known = config.teacher.sets, list(config.privileged)
    for word in ("all", "each"):
        if word in asked and word not in known and len(asked) > 1:
            raise ConfigError(f"teacher.sets: {word!r} stands alone; it cannot be combined with sets.")
    if asked == ["all"]:
        return {}
    if asked == ["each"]:
        return {m: (m,) for m in known}
    sets = {name: tuple(name.split("+")) for name in asked}
    for name, members in sets.items():
        for m in members:
            if m not in known:
                raise ConfigError(f"teacher.sets: {unknown('privileged modality', m, known)}")
        if len(set(members)) < len(members):
            raise ConfigError(f"teacher.sets: {name!r} names a modality twice.")
    same = [name for name in sets if [set(s) for s in sets.values()].count(set(sets[name])) > 1]
    if same:
        raise ConfigError(f"teacher.sets: {' and '.join(same)} are the same set.")
    return sets
