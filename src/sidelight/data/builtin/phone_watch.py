"""phone-watch: activities from a phone's and a watch's inertial sensors (CC BY 4.0, see NOTICE)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from sidelight.data.builtin.base import Builtin
from sidelight.data.dataset import Dataset
from sidelight.utils.array_files import load_npz

MODALITIES = ("phone_acc", "phone_gyro", "watch_acc", "watch_gyro")


def load() -> Dataset:
    """Load 3022 windows (64, 3) at 50 Hz in m/s² and rad/s; group: the person; ids: person-execution-window."""
    arrays = load_npz(Path(__file__).with_name("phone_watch.npz"))
    count: Counter[tuple[int, int]] = Counter()
    ids = []
    # Windows are numbered within each execution, in the order of the file.
    for subject, execution in zip(arrays["subject"].tolist(), arrays["execution"].tolist()):
        ids.append(f"s{subject:02d}-e{execution:02d}-w{count[subject, execution]:03d}")
        count[subject, execution] += 1
    return Dataset(
        name="phone-watch",
        inputs={m: arrays[m] for m in MODALITIES},
        target=arrays["y"],
        labelled=np.ones(len(ids), bool),
        task="classification",
        class_names=tuple(arrays["class_names"].tolist()),
        group=np.array([f"s{s:02d}" for s in arrays["subject"].tolist()]),
        ids=np.array(ids),
        units={m: "m/s2" if m.endswith("_acc") else "rad/s" for m in MODALITIES},
        rates=dict.fromkeys(MODALITIES, 50.0),
        default_modalities={
            "available": ["phone_acc"],
            "privileged": ["phone_gyro", "watch_acc", "watch_gyro"],
            "label_fraction": [0.2, 1.0],
        },
        about={
            "target": "activity",
            "group": "subject",
            "description": PHONE_WATCH.description,
            "licence": PHONE_WATCH.licence,
            "citation": PHONE_WATCH.citation,
            "source": "https://github.com/GeoTecINIT/sp-sw-har-dataset",
            "changes": "resampled to 50 Hz, cut into windows of 64 samples (hop 32) of which at least 60 % carry one "
            "label on both devices, stored as float16",
        },
    )


PHONE_WATCH = Builtin(
    "3022 windows of 1.28 s (50 Hz) of 23 people doing 5 activities with a phone and a watch: accelerometer and "
    "gyroscope of both. Question: which activity, from the phone's accelerometer alone, "
    "when only 20 % of the people are labelled (and when all are)?",
    "CC BY 4.0",
    "Matey-Sanz, Casteleyn, Granell: Dataset of inertial measurements of smartphones and smartwatches for human "
    "activity recognition. Data in Brief (2023) 109809. https://github.com/GeoTecINIT/sp-sw-har-dataset",
    load,
)
