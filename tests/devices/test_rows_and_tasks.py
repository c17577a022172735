"""Spectrograms, statistics, preprocessing, augmentation, tasks and metrics on the pretend device, as on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.both_devices import assert_same_on_both
from helpers.pretend_device import PRETEND
from helpers.small import make_data
from helpers.support import make_rows, task_of
from sidelight.data import Preprocessor
from sidelight.data.pixels import standardize_images
from sidelight.data.statistics import PARTS, STANDARD, window_statistics
from sidelight.signals import PRESETS, Spectrogram, get_preset
from sidelight.tasks import TASKS, make_task
from sidelight.video.augment import ClipCropSettings, crop_clips, normalize, sample_clip_crop
from sidelight.video.faces import align_faces, crop_faces


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SPECTROGRAMS = {name: get_preset(name) for name in PRESETS} | {
    "density": Spectrogram(50, 20, 7, 24, "tukey", detrend=True, scale="density"),
}


@pytest.mark.parametrize("settings", SPECTROGRAMS.values(), ids=SPECTROGRAMS)
def test_spectrograms(settings):
    assert_same_on_both(settings, draw(2, 2, settings.samples or 4 * settings.length).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_window_statistics(part):
    lengths = torch.tensor([9, 4, 1, 7])
    for length in (None, lengths):
        assert_same_on_both(lambda x, length: window_statistics(x, length, (*STANDARD, part)), draw(4, 9, 3), length)


@pytest.mark.parametrize("standardize", ["train", "group"])
@pytest.mark.parametrize("statistics", [(), ("pulse",)])
def test_a_preprocessor(standardize, statistics):
    """It is fitted on the host, where the data set is, and reads rows where its buffers are."""
    data = make_data()
    fitted = Preprocessor.fit(data, np.arange(60), data.modalities, statistics, standardize)
    rows = np.arange(60, 100)  # of groups that it knows, and of others

    def read(inputs: dict[str, Tensor], lengths: dict[str, Tensor], present: dict[str, Tensor], module: Preprocessor):
        return module(inputs, lengths, present, data.group[rows])

    inputs = {m: torch.from_numpy(x[rows]) for m, x in data.inputs.items()}
    lengths = {m: torch.from_numpy(x[rows]) for m, x in data.lengths.items()}
    present = {m: torch.from_numpy(x[rows]) for m, x in data.present.items()}
    assert_same_on_both(read, inputs, lengths, present, fitted, rtol=1e-6, atol=1e-6)

    def calibrate(inputs: dict[str, Tensor], lengths: dict[str, Tensor], present: dict[str, Tensor], p: Preprocessor):
        names = np.array(["new", "newer"])[np.arange(40) % 2]
        p.calibrate(inputs, lengths, present, names)
        return p(inputs, lengths, present, names), p.state_dict()

    if standardize == "group":
        assert_same_on_both(calibrate, inputs, lengths, present, fitted, rtol=1e-6, atol=1e-6)


def test_images():
    images = make_data("segmentation", n=12)
    fitted = Preprocessor.fit(images, np.arange(12), ["phone", "watch"])
    for m in ("phone", "watch"):
        x, present = torch.from_numpy(images.inputs[m]), torch.from_numpy(images.present[m])
        mean, scale = fitted.pixels(m, x, present)
        assert_same_on_both(standardize_images, x, mean, scale, present, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_augmentation(flip):
    clip = (draw(9, 3, 12, 16) * 40 + 128).clamp(0, 255).to(torch.uint8)
    settings = ClipCropSettings((8, 8), frames=5, area=(0.4, 0.6), flip=flip)

    def augment(clips: dict[str, Tensor]) -> list[Tensor]:
        crop = sample_clip_crop(settings, (9, 3, 12, 16), torch.Generator().manual_seed(1))
        cropped = crop_clips(crop, clips, (8, 8))
        return [*cropped.values(), normalize(cropped["video"])]

    assert_same_on_both(augment, {"video": clip, "depth": clip[:, :1]}, rtol=1e-5, atol=1e-5)


def test_faces():
    frames = (draw(4, 3, 40, 50) * 40 + 128).clamp(0, 255).to(torch.uint8)
    boxes = np.array([[5.0, 6.0, 30.0, 36.0]] * 4)
    points = np.array([[[15.0, 15.0], [30.0, 15.0], [22.0, 22.0], [17.0, 30.0], [28.0, 30.0]]] * 4)
    assert_same_on_both(lambda x: [crop_faces(x, boxes, 16), align_faces(x, points, 16)], frames)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("kind", ["complete", "both"])
def test_losses_of_tasks_and_metrics(name, kind):
    task, rows = task_of(name), make_rows(name, kind)
    shape = (len(rows), task.outputs, *rows.target.shape[1:]) if task.kind == "segmentation" else (24, task.outputs)
    if task.kind == "regression":
        task = task.fit(rows.target, rows.labelled)

    def losses(student: Tensor, teacher: Tensor, target: Tensor, labelled: Tensor):
        confidence = task.teacher_confidence(teacher, target, labelled)
        return task.loss(student, target, labelled), task.match(student, teacher), confidence, task.class_codes(target)

    student, teacher = draw(*shape).requires_grad_(), draw(*shape, seed=1)
    assert_same_on_both(losses, student, teacher, rows.target, rows.labelled, rtol=1e-6, atol=1e-8)

    def measures(answer: Tensor, target: Tensor, labelled: Tensor):
        answer = torch.nn.functional.normalize(answer) if task.answers == "embedding" else answer
        decided = task.decide(answer) if task.answers != "embedding" else np.zeros(1)
        scored = torch.from_numpy(decided).to(target.device) if task.answers == "pixels" else answer
        return {m: task.score(scored, target, labelled, m) for m in task.metrics()}, decided

    assert_same_on_both(measures, student.detach(), rows.target, rows.labelled, rtol=1e-6)


def test_tasks_learn_and_calibrate_from_rows_on_the_device():
    values, classes = make_rows("regression", "both"), make_rows("anti-spoofing", "both")
    there = replace(values).to(PRETEND)
    fitted = [task_of("regression").fit(rows.target, rows.labelled) for rows in (values, there)]
    assert fitted[1].mean == pytest.approx(fitted[0].mean)
    assert fitted[1].scale == pytest.approx(fitted[0].scale)
    task, answer = make_task("anti-spoofing", ("attack", "real"), live="real"), draw(24, 2)
    moved = task.calibrate(answer.to(PRETEND), classes.target.to(PRETEND), classes.labelled.to(PRETEND))
    assert moved.get_params() == task.calibrate(answer, classes.target, classes.labelled).get_params()
