"""Deployed students: their file, predictions on new rows, and export as ONNX or torch.export."""

from __future__ import annotations

from sidelight.export.file import FORMAT_VERSION
from sidelight.export.hub import write_hub_folder
from sidelight.export.load import load_student
from sidelight.export.rows import predict_file
from sidelight.export.student import Student

__all__ = ["FORMAT_VERSION", "Student", "load_student", "predict_file", "write_hub_folder"]
