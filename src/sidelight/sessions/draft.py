"""A first `recordings.yaml` for a folder: what its files hold, to be edited."""

from __future__ import annotations

import re
from pathlib import Path

from sidelight.errors import DataError, SidelightError
from sidelight.formats import read_events, read_recordings
from sidelight.formats.registry import find_format
from sidelight.recordings.by_id import SOUNDS, VIDEOS
from sidelight.sessions.labels import ENDS, LABELS, ONSETS
from sidelight.utils.delimited import read_delimited

TIME_WITH_UNIT = re.compile(r"(?:time|timestamp|t)_?[(\[]?(ms|us|ns)[)\]]?")
PICTURES = (".png", ".jpg", ".jpeg")
HEAD = """\
# Made by `sidelight windows {source}`. Edit it, then: sidelight windows {name} OUT
sessions: "{sessions}"     # a folder or file for each session, or a table with the columns session, subject, split
{subject}seconds: 30          # length of a window
hop: 15              # from window to window
sensors:
"""


def draft_plan(source: str | Path) -> str:
    """Write a first `recordings.yaml` for a folder of sessions.

    Args:
        source: a folder of session folders, one session folder, or one recording.

    Returns:
        YAML with a sensor for each recording of the first session, their rates and units as comments, and the sources
        of labels that were found.

    Raises:
        DataError: nothing there can be read.
    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"there is no {source}")
    first, sessions = _first_session(source)
    sensors: list[str] = []
    labels: list[str] = []
    unread: list[str] = []
    for path in [first] if first.is_file() or _is_recording(first) else sorted(first.iterdir()):
        if path.name.startswith("."):
            continue
        inside = "" if path == first else path.name
        try:
            _describe(path, _generalize(inside, first.name), sensors, labels)
        except SidelightError as error:
            unread.append(f"#   {inside or path.name}: {str(error).splitlines()[0][:140]}")
    if not sensors and not labels:
        raise DataError(f"{first}: no file in it holds a recording that is known:\n" + "\n".join(unread))
    where = source.parent if source.is_file() else source
    subject = (
        "" if sessions == "." else 'subject: ""          # pattern for the person in a session\'s name: "^(s[0-9]+)"\n'
    )
    text = HEAD.format(source=source, name=where / "recordings.yaml", sessions=sessions, subject=subject)
    text += "".join(sensors)
    if labels:
        text += "labels:\n" + labels[0] + "".join(f"#{line}" for block in labels[1:] for line in block.splitlines(True))
    else:
        text += "# labels: {file: events.csv, onset: onset, duration: duration, label: label}\n"
    if unread:
        text += "# not read:\n" + "\n".join(unread) + "\n"
    return text


def _first_session(source: Path) -> tuple[Path, str]:
    """The first session and the pattern that finds all."""
    if source.is_file():
        return source, source.name
    if _is_recording(source):
        return source, "."
    inside = _shown(source)
    folders = [p for p in inside if p.is_dir()]
    files = [p for p in inside if p.is_file() and p.suffix.lower() not in (".yaml", ".yml", ".md")]
    if not inside:
        raise DataError(f"{source} is empty")
    # Files of sensors beside a folder or two make one session.
    if folders and (len(folders) > 1 or not files) and len(folders) >= len(files):
        first, pattern = folders[0], "*"
        # A folder of each person that holds a folder of each recording, and nothing else.
        while not _is_recording(first) and (inside := _shown(first)) and all(p.is_dir() for p in inside):
            if any(_is_recording(p) for p in inside):
                break
            first, pattern = inside[0], f"{pattern}/*"
        return first, pattern
    return source, "."


def _shown(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _is_recording(path: Path) -> bool:
    """Whether a folder is one recording, as of an Empatica E4."""
    try:
        return path.is_dir() and find_format(path).folder
    except DataError:
        return False


def _generalize(name: str, session: str) -> str:
    """s01_face.csv in the session s01 -> *_face.csv, so that the name fits every session."""
    return name.replace(session, "*") if session and session in name else name


def _describe(path: Path, pattern: str, sensors: list[str], labels: list[str]) -> None:
    """Add the lines of a file's sensors and labels."""
    file = f'file: "{pattern}"' if pattern else ""
    suffix = path.suffix.lower()
    if suffix in VIDEOS:
        sensors.append(
            f"  {_key(path.stem, sensors)}: {{{file}, kind: video, settings: {{size: [112, 112], frames: 16}}}}\n"
        )
        return
    if suffix in SOUNDS:
        sensors.append(f"  {_key(path.stem, sensors)}: {{{file}, kind: audio, settings: {{rate: 16000}}}}\n")
        return
    if path.is_dir() and not _is_recording(path):
        raise DataError("a folder; its files need their paths (file: folder/name.csv)")
    try:
        find_format(path)
    except DataError:
        _describe_table(path, file, sensors, labels)
        return
    events = read_events(path)
    if len(events):
        names = sorted(set(events.label.tolist()))
        tiers = sorted(set((events.tier if events.tier is not None else events.label).tolist()) - {""})
        tier = f", tier: {tiers[0]}" if len(tiers) > 1 else ""
        labels.append(f"  {{{file}{tier}}}   # {len(events)} events: {', '.join(names[:8])}\n".replace("{,", "{"))
    recordings = read_recordings(path) if not _only_events(path) else {}
    for name, r in recordings.items():
        rate = f"{r.rate:g} Hz" if r.rate else "no fixed rate: resample_to and largest_gap are needed"
        more = "" if r.rate else ", resample_to: 4, largest_gap: 3"
        parts = ", ".join(filter(None, (file, f'name: "{name}"' if len(recordings) > 1 or not file else "")))
        about = f"{rate}, {r.values.shape[1]} channels, {r.unit}, {r.seconds:.0f} s"
        sensors.append(f"  {_key(name, sensors)}: {{{parts}{more}}}   # {about}\n")


def _only_events(path: Path) -> bool:
    return find_format(path).name in ("elan", "praat") or path.name.endswith(("_events.tsv", "_events.tsv.gz"))


def _describe_table(path: Path, file: str, sensors: list[str], labels: list[str]) -> None:
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise DataError("no format of recordings looks like this")
    table = read_delimited(path)
    low = [name.lower() for name in table.names]
    time = next((table.names[low.index(n)] for n in ("time", "timestamp", "t", "time_s", "seconds") if n in low), "")
    unit = ""
    if not time:
        measured = (TIME_WITH_UNIT.fullmatch(n) for n in low)
        time, unit = next(((table.names[low.index(m[0])], m[1]) for m in measured if m), ("", ""))
    if any(n in low for n in ("onset", "label", "trial_type", "event")):
        said = [n for n in table.names if n and n.lower() not in (*ONSETS, *ENDS, "duration", "tier")]
        label = f", label: {said[0]}" if len(said) == 1 and said[0] not in LABELS else ""
        labels.append(f"  {{{file}{label}}}   # columns: {', '.join(table.names[:8])}\n")
        return
    others = ", ".join(name for name in table.names if name and name != time)
    how = f"time: {time}" + (f", time_unit: {unit}" if unit else "") if time else "rate: 0"
    note = "" if time else "   # set its rate in Hz"
    sensors.append(f"  {_key(path.stem, sensors)}: {{{file}, columns: [{others}], {how}}}{note}\n")


def _key(name: str, sensors: list[str]) -> str:
    """A modality's name that no other sensor has."""
    key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "signal"
    taken = {line.split(":")[0].strip() for line in sensors}
    free, n = key, 1
    while free in taken:
        n += 1
        free = f"{key}_{n}"
    return free
