"""Trackers: TensorBoard, MLflow, W&B, or any object with a Lightning logger's methods, fed by the training loop."""

from sidelight.tracking.tracking import TRACKERS, Logger, LoggerMaker, Tracking, Watch

__all__ = ["TRACKERS", "Logger", "LoggerMaker", "Tracking", "Watch"]
