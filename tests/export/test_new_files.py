"""New recordings are predicted as they are: files, folders and tables of files, read as in training."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sidelight.cli import main
from sidelight.config import NetworkConfig
from sidelight.data import load
from sidelight.data.preprocess import Preprocessor
from sidelight.errors import DataError, SidelightWarning
from sidelight.export import Student, load_student, predict_file
from sidelight.networks.build import build_network
from sidelight.readers import make_reader
from sidelight.readers.base import prepare
from sidelight.readers.synthetic import write_wav
from sidelight.readers.voices import write_voices
from sidelight.signals.audio import read_audio
from sidelight.tasks import make_task

NAMES = ["p00-0", "p00-1", "p01-0", "p01-1", "p02-0", "p02-1"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_voices(folder, people=3, clips=2, seconds=(0.3, 0.5))
    prepare(make_reader("folder"), folder, folder / "prepared")
    return folder


@pytest.fixture(scope="module")
def make_student(study):
    data = load(study / "prepared")

    def make(*reads, files=True):
        fitted = Preprocessor.fit(data, np.arange(len(data)), ["audio", "face"])
        torch.manual_seed(0)
        network = build_network(fitted.shapes, reads, 4, NetworkConfig(encoder="cnn", width=8))
        meta = {
            "recordings": {m: data.schema[m] for m in reads},
            "files": {m: data.recordings[m] for m in reads} if files else {},
            "privileged": [m for m in ("audio", "face") if m not in reads],
        }
        return Student(network, fitted, make_task("classification", data.class_names), meta)

    return make


@pytest.fixture(scope="module")
def listener(make_student):
    return make_student("audio")


@pytest.fixture(scope="module")
def expected(listener, study):
    return predict_file(listener, study / "prepared", ignore_privileged=True).set_index("id")


def same(found, expected):
    pd.testing.assert_frame_equal(found.set_index("id"), expected, rtol=1e-5)


def test_files_a_folder_and_a_table_of_files_are_read_alike(listener, study, expected, tmp_path):
    files = [study / "audio" / f"{name}.wav" for name in NAMES]
    same(predict_file(listener, files), expected)
    same(predict_file(listener, study / "audio"), expected)
    same(predict_file(listener, study), expected)
    same(predict_file(listener, str(files[2])), expected.loc[["p01-0"]])
    table = tmp_path / "new.csv"
    for header in ("audio_file_name", "file", "path"):
        table.write_text(f"{header}\n" + "".join(f"{file}\n" for file in files))
        same(predict_file(listener, table), expected)
    # A prepared folder needs neither a target nor the number of its rows.
    moved = shutil.copytree(study / "prepared", tmp_path / "prepared")
    rows = pd.read_csv(moved / "metadata.csv").drop(columns=["emotion", "subject", "face_file_name"])
    rows[:4].to_csv(moved / "metadata.csv", index=False)
    same(predict_file(listener, moved), expected[:4])


def test_the_command_takes_many_files(listener, study, expected, tmp_path, capsys):
    listener.save(tmp_path / "student.safetensors")
    files = [str(study / "audio" / f"{name}.wav") for name in NAMES[:3]]
    assert main(["predict", str(tmp_path), *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["id", *NAMES[:3]]
    assert [line.split(",")[1] for line in lines[1:]] == expected["prediction"].loc[NAMES[:3]].tolist()
    assert load_student(tmp_path).meta["files"]["audio"]["spectrogram"] == "speech"


def test_files_of_several_modalities_with_one_name_are_one_row(make_student, study, tmp_path):
    both = make_student("audio", "face")
    expected = predict_file(both, study / "prepared").set_index("id")
    same(predict_file(both, study), expected)
    files = [path for m in ("audio", "face") for path in sorted((study / m).iterdir())]
    same(predict_file(both, files), expected)
    with pytest.raises(DataError, match="this student reads audio, face, but 'face' is missing"):
        predict_file(both, files[:1])
    with pytest.raises(DataError, match=r"\(id 'p00-1'\) has no 'face'"):
        predict_file(both, [*files[:2], files[6]])


def test_repeated_names_keep_their_folders(listener, study, tmp_path):
    for who in ("ann", "bob"):
        (tmp_path / "new" / who).mkdir(parents=True)
        shutil.copy(study / "audio" / "p00-0.wav", tmp_path / "new" / who / "1.wav")
    assert predict_file(listener, tmp_path / "new")["id"].tolist() == ["ann/1", "bob/1"]


def test_what_cannot_be_read_is_named(listener, make_student, study, tmp_path):
    with pytest.raises(DataError, match=r"p00-0\.csv is no recording that this student reads \(audio: \.wav"):
        predict_file(listener, [study / "audio" / "p00-0.wav", study / "face" / "p00-0.csv"])
    with pytest.raises(DataError, match=r"gone\.wav does not exist"):
        predict_file(listener, [study / "audio" / "p00-0.wav", tmp_path / "gone.wav"])
    with pytest.raises(DataError, match=r"there are no files that this student reads \(audio: \.wav.*there is \.csv"):
        predict_file(listener, study / "face")
    old = make_student("audio", files=False)
    with pytest.raises(DataError, match="the student was not trained on a file for each row of 'audio'"):
        predict_file(old, study / "audio")
    (tmp_path / "bad.wav").write_bytes((study / "audio" / "p00-0.wav").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"bad\.wav is truncated"):
        predict_file(listener, tmp_path / "bad.wav")


def test_faces_and_other_privileged_files_are_refused_in_a_table(listener, study, tmp_path):
    table = tmp_path / "new.csv"
    line = ",".join(str(study / m / f"p00-0.{end}") for m, end in (("audio", "wav"), ("face", "csv")))
    table.write_text(f"audio_file_name,face_file_name\n{line}\n")
    with pytest.raises(DataError, match="'face' is a privileged modality"):
        predict_file(listener, table)
    assert len(predict_file(listener, table, ignore_privileged=True)) == 1


def test_sound_far_from_that_of_training_is_warned_of_with_the_shift(listener, study, tmp_path):
    for name in NAMES:
        values = read_audio(study / "audio" / f"{name}.wav").values[:, 0]
        write_wav(tmp_path / f"{name}.wav", values / 64, 16000)
    with pytest.warns(
        SidelightWarning, match=r"'audio' is far from the training rows: the standard deviation .*times less"
    ):
        predict_file(listener, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_graph_reads_sound(listener, study, tmp_path, suffix):
    path = listener.export(tmp_path / f"a{suffix}")  # compared with torch before it is written
    if suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        values = read_audio(study / "audio" / "p00-0.wav").values.astype(np.float32)[None]
        given = {"audio": values, "audio_length": np.array([values.shape[1]])}
        alone = session.run(["probabilities"], given)[0][0]
        found = predict_file(listener, study / "audio" / "p00-0.wav")
        np.testing.assert_allclose(alone, found.filter(like="p.").to_numpy()[0], rtol=1e-3, atol=1e-4)
        padded = np.pad(values, ((0, 0), (0, 5000), (0, 0)))
        again = session.run(["probabilities"], {**given, "audio": padded})[0][0]
        np.testing.assert_allclose(again, alone, rtol=1e-4, atol=1e-5)


def test_files_of_two_modalities_with_repeated_names_are_not_mixed(make_student, study, tmp_path):
    both = make_student("audio", "face")
    for m, suffix in (("audio", ".wav"), ("face", ".csv")):
        for name in NAMES[:2]:
            (tmp_path / m / name).mkdir(parents=True)
            shutil.copy(study / m / f"{name}{suffix}", tmp_path / m / name / f"x{suffix}")
    (tmp_path / "face" / NAMES[1] / "x.csv").unlink()
    with pytest.raises(DataError, match=r"several with one name, .*a folder with a folder for each modality"):
        predict_file(both, [p for p in sorted(tmp_path.rglob("*")) if p.is_file()])
    shutil.copy(study / "face" / f"{NAMES[1]}.csv", tmp_path / "face" / NAMES[1] / "x.csv")
    assert predict_file(both, tmp_path)["id"].tolist() == [f"{name}/x" for name in NAMES[:2]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A student of a plain table of images, and that table."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "new").mkdir()
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    files = [f"new/{name}.png" for name in NAMES]
    for file, pixels in zip(files, x):
        Image.fromarray(pixels).save(folder / file)
    table = pd.DataFrame({"id": NAMES, "rgb_file_name": files, "target": [*"ababab"]})
    table.to_csv(folder / "rows.csv", index=False)

    def make(**settings):
        data = load(folder / "rows.csv", **settings)
        fitted = Preprocessor.fit(data, np.arange(len(data)), ["rgb"])
        torch.manual_seed(0)
        network = build_network(fitted.shapes, ["rgb"], 2, NetworkConfig(encoder="mlp", width=8))
        meta = {"recordings": data.schema, "files": data.recordings, "modalities": data.recipes}
        return Student(network, fitted, make_task("classification", data.class_names), meta)

    return folder, make


@pytest.mark.parametrize("settings", [{}, {"modalities": {"rgb": {"size": [4, 4]}}}])
def test_images_of_a_plain_table_are_predicted_without_one(plain, settings):
    folder, make = plain
    student = make(**settings)
    assert not student.meta["files"]
    expected = predict_file(student, folder / "rows.csv").set_index("id")
    same(predict_file(student, [folder / "new" / f"{name}.png" for name in NAMES]), expected)
    same(predict_file(student, folder / "new"), expected)
    same(predict_file(student, folder / "new" / "p01-0.png"), expected.loc[["p01-0"]])
    (folder / "clip.wav").touch()
    with pytest.raises(DataError, match=r"clip\.wav is no recording that this student reads \(rgb: \.png, \.jpg"):
        predict_file(student, folder / "clip.wav")
