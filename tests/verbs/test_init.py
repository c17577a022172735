"""`sidelight init`: a first experiment.yaml that loads, names its guesses and overwrites nothing unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sidelight.cli import main
from sidelight.config import load_config
from sidelight.data.load import load_for
from sidelight.experiment.resolve import resolve


@pytest.fixture
def manifest(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    rows = {"participant": [f"p{i % 8}" for i in range(48)], "pain": [("no", "low", "high")[i % 3] for i in range(48)]}
    rows |= {name: rng.normal(size=48) for name in ("video.a", "video.b", "eda.0", "ecg.0")}
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def test_the_file_runs_as_it_is(manifest, capsys):
    assert main(["init", str(manifest), "--target", "pain"]) == 0
    said = capsys.readouterr().out
    file = manifest.parent / "experiment.yaml"
    assert f"sidelight run {file} --dry-run" in said
    config = load_config(file)
    assert (config.available, config.privileged) == (["video"], ["eda", "ecg"])
    assert (config.target, config.group, config.protocol) == (["pain"], "participant", "group-kfold")
    assert config.folds == 4  # two of eight groups are tested at once
    assert resolve(config, load_for(config)).methods == ["auto", "pkdot"]


def test_guesses_are_marked_and_what_was_given_is_not(manifest, capsys):
    words = ["init", str(manifest), str(manifest.parent / "sub"), "--target", "pain"]
    assert main(words) == 0
    lines = (manifest.parent / "sub" / "experiment.yaml").read_text().splitlines()
    marked = {line.partition(":")[0] for line in lines if "# GUESS" in line}
    assert marked == {"available", "privileged", "group", "task", "protocol", "folds"}
    assert "guess: rows are grouped by participant" in capsys.readouterr().out
    more = ["--available", "eda", "--privileged", "video", "--group", "participant", "--task", "classification"]
    assert main([*words, *more, "--overwrite"]) == 0
    lines = (manifest.parent / "sub" / "experiment.yaml").read_text().splitlines()
    assert {line.partition(":")[0] for line in lines if "# GUESS" in line} == {"protocol", "folds"}
    assert load_config(manifest.parent / "sub" / "experiment.yaml").available == ["eda"]


def test_an_existing_file_stays(manifest, capsys):
    file = manifest.parent / "experiment.yaml"
    file.write_text("mine")
    assert main(["init", str(manifest), "--target", "pain"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_rows_without_a_group_get_a_warning_in_place_of_a_protocol_that_flatters(manifest):
    frame = pd.read_csv(manifest).drop(columns="participant")
    frame.to_csv(manifest, index=False)
    assert main(["init", str(manifest), "--target", "pain"]) == 0
    text = (manifest.parent / "experiment.yaml").read_text()
    assert "nothing says which rows belong together" in text
    assert load_config(manifest.parent / "experiment.yaml").protocol == "random"


def test_a_folder_of_recordings_is_sent_to_windows(tmp_path, capsys):
    (tmp_path / "s01").mkdir()
    (tmp_path / "s01" / "voice.wav").write_bytes(b"RIFF")
    assert main(["init", str(tmp_path)]) == 2
    assert f"sidelight windows {tmp_path}" in capsys.readouterr().err
    assert not (tmp_path / "experiment.yaml").exists()
