"""Video before it becomes rows: decoding, frame folders, depth, faces, and crops that keep modalities aligned."""

from __future__ import annotations

from sidelight.video.augment import STATISTICS, ClipCrop, ClipCropSettings, crop_clips, normalize, sample_clip_crop
from sidelight.video.container import VideoFile, probe
from sidelight.video.crop import row_generator
from sidelight.video.decode import clip_frames, read_frames
from sidelight.video.faces import Faces, align_faces, crop_faces, read_faces
from sidelight.video.frames import FrameFolder, check_aligned, find_frames, read_depth, read_folder
from sidelight.video.sound import read_sound

__all__ = [
    "STATISTICS",
    "ClipCrop",
    "ClipCropSettings",
    "Faces",
    "FrameFolder",
    "VideoFile",
    "align_faces",
    "check_aligned",
    "clip_frames",
    "crop_clips",
    "crop_faces",
    "find_frames",
    "normalize",
    "probe",
    "read_depth",
    "read_faces",
    "read_folder",
    "read_frames",
    "read_sound",
    "row_generator",
    "sample_clip_crop",
]
