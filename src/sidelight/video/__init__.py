"""Video before it is rows: decoding, frame folders, depth, faces, and views that keep modalities aligned."""

from __future__ import annotations

from sidelight.video.augment import STATISTICS, View, Views, apply_view, draw_view, normalise
from sidelight.video.container import VideoFile, probe
from sidelight.video.crop import row_generator
from sidelight.video.decode import clip_frames, read_frames
from sidelight.video.faces import Faces, align_faces, crop_faces, read_faces
from sidelight.video.frames import FrameFolder, check_pair, frame_folder, read_depth, read_folder
from sidelight.video.sound import read_sound

__all__ = [
    "STATISTICS",
    "Faces",
    "FrameFolder",
    "VideoFile",
    "View",
    "Views",
    "align_faces",
    "apply_view",
    "check_pair",
    "clip_frames",
    "crop_faces",
    "draw_view",
    "frame_folder",
    "normalise",
    "probe",
    "read_depth",
    "read_faces",
    "read_folder",
    "read_frames",
    "read_sound",
    "row_generator",
]
