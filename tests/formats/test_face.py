"""OpenFace and py-feat: groups of columns, frames without a face, several faces, times."""

from __future__ import annotations

import numpy as np
import pytest

from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.formats import read_recordings

OPENFACE = (
    "frame, face_id, timestamp, confidence, success, gaze_0_x, gaze_angle_x, pose_Tx, pose_Rx, x_0, AU01_r, AU01_c"
)


def openface(path, rows, header=OPENFACE):
    path.write_text("\n".join([header, *(", ".join(map(str, row)) for row in rows)]) + "\n")
    return path


def row(frame, face=0, success=1, time=None):
    t = (frame - 1) / 25 if time is None else time
    return [frame, face, f"{t:.3f}", 0.98, success, 0.1, 0.2, 3, 0.4, 5, frame / 10, 1]


def test_openface_groups_have_units_and_times(tmp_path):
    found = read_recordings(openface(tmp_path / "a.csv", [row(f) for f in range(1, 51)]))
    assert {n: (r.unit, r.channels) for n, r in found.items()} == {
        "confidence": ("1", ("confidence",)),
        "gaze": ("1", ("gaze_0_x",)),
        "gaze_angle": ("rad", ("gaze_angle_x",)),
        "position": ("mm", ("pose_Tx",)),
        "rotation": ("rad", ("pose_Rx",)),
        "landmarks_2d": ("1", ("x_0",)),
        "AU_r": ("1", ("AU01_r",)),
        "AU_c": ("1", ("AU01_c",)),
    }
    assert found["AU_r"].rate == pytest.approx(25)
    np.testing.assert_allclose(found["AU_r"].times, np.arange(50) / 25)
    np.testing.assert_allclose(found["AU_r"].values[:, 0], np.arange(1, 51) / 10)


def test_frames_without_a_face_are_gaps_not_zeros(tmp_path):
    path = openface(tmp_path / "a.csv", [row(f, success=int(f not in (10, 11))) for f in range(1, 51)])
    with pytest.warns(SidelightWarning, match=r"AU_r \(2 of 50, the first at 0.36 s\)"):
        found = read_recordings(path)
    np.testing.assert_allclose(found["AU_r"].times, np.delete(np.arange(50), [9, 10]) / 25)
    assert len(found["confidence"].times) == 50
    assert found["AU_r"].rate == pytest.approx(25)


def test_several_faces_are_recordings_of_their_own(tmp_path):
    rows = [row(f, face) for f in range(1, 11) for face in (0, 1)]
    found = read_recordings(openface(tmp_path / "a.csv", rows))
    assert {"face0.AU_r", "face1.AU_r"} < set(found)
    assert len(found["face1.AU_r"].values) == 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("face, confidence, gaze_0_x, AU01_r\n0, 0.9, 1, 2\n", "no column 'timestamp': it comes from FaceLandmarkImg"),
        (OPENFACE + "\n", "has a header and no rows"),
        (OPENFACE + "\n1, 0, 0.0, 0.98", "line 2 has 4 cells, but 12 columns are named.*truncated"),
        (OPENFACE + "\n1, 0, 0.0, 0.98, 1, x, 0, 0, 0, 0, 0, 0", "line 2, column 'gaze_0_x' is 'x'"),
    ],
)
def test_bad_openface_files_are_named(tmp_path, text, says):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=f"(?s)a.csv.*{says}"):
        read_recordings(tmp_path / "a.csv")


PYFEAT = (
    ",FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore,x_0,y_0,Pitch,Roll,Yaw,AU01,AU02,anger,neutral,"
    "input,frame"
)


def pyfeat(path, frames, who=None):
    header = PYFEAT + (",Identity" if who else "")
    lines = [
        f"{i},1,2,3,4,0.99,5,6,{'' if f == 6 else 1},2,3,0.5,{i / 10},0.1,0.9,clip.mp4,{f}"
        + (f",{who[i]}" if who else "")
        for i, f in enumerate(frames)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_pyfeat_needs_the_frame_rate_and_keeps_skipped_frames(tmp_path):
    path = pyfeat(tmp_path / "a.csv", [0, 2, 4, 6, 10])
    with pytest.raises(ConfigError, match=r"frame numbers and no frame rate; name it \(rate=…\)"):
        read_recordings(path)
    with pytest.warns(SidelightWarning, match=r"rotation \(1 of 5"):
        found = read_recordings(path, rate=20)
    np.testing.assert_allclose(found["AU"].times, [0, 0.1, 0.2, 0.3, 0.5])
    assert found["AU"].channels == ("AU01", "AU02")
    assert (found["rotation"].unit, found["AU"].rate) == ("deg", pytest.approx(10))
    assert set(found) == {"AU", "emotion", "rotation", "box", "confidence", "landmarks_2d"}


def test_pyfeat_frames_with_several_faces_need_identities(tmp_path):
    with pytest.raises(DataError, match=r"frame 1 has several faces, and nothing says which is whose"):
        read_recordings(pyfeat(tmp_path / "a.csv", [0, 1, 1, 2]), rate=20)
    found = read_recordings(pyfeat(tmp_path / "b.csv", [0, 1, 0, 1], ["Ann", "Ann", "Bo", "Bo"]), rate=20)
    np.testing.assert_allclose(found["Bo.AU"].values[:, 1], [0.2, 0.3])
