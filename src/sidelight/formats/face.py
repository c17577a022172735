"""Tables of faces over the frames of a video: OpenFace and py-feat."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError
from sidelight.formats.content import Content
from sidelight.formats.tables import Table, parse_table, read_head, read_lines
from sidelight.signals.stamps import usual_rate

OPENFACE = {
    "confidence": (r"confidence", ""),
    "gaze": (r"gaze_[01]_[xyz]", ""),
    "gaze_angle": (r"gaze_angle_[xy]", "rad"),
    "eye_landmarks_2d": (r"eye_lmk_[xy]_\d+", ""),
    "eye_landmarks_3d": (r"eye_lmk_[XYZ]_\d+", "mm"),
    "position": (r"pose_T[xyz]", "mm"),
    "rotation": (r"pose_R[xyz]", "rad"),
    "landmarks_2d": (r"[xy]_\d+", ""),
    "landmarks_3d": (r"[XYZ]_\d+", "mm"),
    "shape": (r"p_.+", ""),
    "AU_r": (r"AU\d+_r", ""),
    "AU_c": (r"AU\d+_c", ""),
}
"""Recording -> (pattern of its columns, unit). Landmarks in 2D are pixels."""
PYFEAT = {
    "AU": (r"AU\d+", ""),
    "emotion": (r"anger|disgust|fear|happiness|sadness|surprise|neutral", ""),
    "rotation": (r"Pitch|Roll|Yaw", "deg"),
    "position": (r"[XYZ]", ""),
    "box": (r"FaceRect(X|Y|Width|Height)", ""),
    "confidence": (r"FaceScore", ""),
    "landmarks_2d": (r"[xy]_\d+", ""),
}


def _header(path: Path) -> list[str]:
    if path.suffix.lower() not in (".csv", ".txt"):
        return []
    return [name.strip().strip('"') for name in (read_head(path) or [""])[0].split(",")]


def matches_openface(path: Path) -> bool:
    names = _header(path)
    return "confidence" in names and any(name in names for name in ("gaze_0_x", "pose_Tx", "AU01_r", "AU01_c"))


def matches_pyfeat(path: Path) -> bool:
    names = _header(path)
    return "FaceRectX" in names and "FaceScore" in names


def read_openface(content: Content) -> None:
    table = _read(content.path)
    if "timestamp" not in table:
        raise DataError(
            f"{content.path} has no column 'timestamp': it comes from FaceLandmarkImg, which analyses single images; "
            "its rows have no time"
        )
    times = table.numbers("timestamp")
    seen = table.numbers("success") > 0 if "success" in table else np.ones(len(table), bool)
    faces = table.whole("face_id") if "face_id" in table else np.zeros(len(table), np.int64)
    for face in np.unique(faces):
        rows = faces == face
        prefix = f"face{face}." if len(np.unique(faces)) > 1 else ""
        _add_groups(content, table, OPENFACE, prefix, rows, times[rows], seen[rows])


def read_pyfeat(content: Content) -> None:
    table = _read(content.path)
    if "frame" not in table:
        raise DataError(
            f"{content.path} has no column 'frame', so its rows have no time: it was made from single images"
        )
    if content.rate is None:
        raise ConfigError(f"{content.path}: py-feat stores frame numbers and no frame rate; name it (rate=…)")
    frames = table.numbers("frame")
    who = table.text("Identity") if "Identity" in table else [""] * len(table)
    names = list(dict.fromkeys(who))
    for name in names:
        rows = np.array([w == name for w in who])
        again = np.flatnonzero(np.diff(np.sort(frames[rows])) == 0)
        if len(again):
            raise DataError(
                f"{content.path}: frame {np.sort(frames[rows])[again[0]]:g} has several faces, and nothing says which "
                "is whose; keep one face a frame, or add a column 'Identity'"
            )
        prefix = f"{name}." if len(names) > 1 else ""
        times = frames[rows] / content.rate
        _add_groups(content, table, PYFEAT, prefix, rows, times, np.ones(int(rows.sum()), bool))


def _read(path: Path) -> Table:
    lines = read_lines(path)
    names = [name.strip().strip('"') for name in lines[0].split(",")]
    return parse_table(path, lines, names, 1, ",")


def _add_groups(
    content: Content,
    table: Table,
    groups: dict[str, tuple[str, str]],
    prefix: str,
    rows: NDArray[np.bool_],
    times: NDArray,
    present: NDArray[np.bool_],
) -> None:
    order = np.argsort(times, kind="stable")
    rate = usual_rate(times[order])
    for name, (pattern, unit) in groups.items():
        columns = [c for c in table.names if re.fullmatch(pattern, c)]
        if columns:
            values = table.numbers(*columns).reshape(len(table), -1)[rows][order]
            content.add(
                prefix + name,
                values,
                rate=rate,
                unit=unit,
                times=times[order],
                channels=columns,
                # A confidence is known of frames without a face too.
                present=None if name == "confidence" else present[order],
            )
