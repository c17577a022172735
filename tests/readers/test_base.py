"""The contract of readers: options, what is missing, faults of rows, and the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from helpers.slow import mostly_slow
from sidelight import readers
from sidelight.cli import main
from sidelight.data.sources.prepared import DatasetInfo, read_prepared
from sidelight.errors import ConfigError, DataError, RunError
from sidelight.readers import make_reader, reader_class
from sidelight.readers.base import Contents, Reader, RowErrors, check, prepare, synthesize
from sidelight.readers.synthetic import write_image
from sidelight.recordings.registry import Image


@dataclass(frozen=True, kw_only=True)
class Shelf(Reader):
    """Two pictures of each thing.

    Args:
        side: of a row in pixels.
        part: of the set.
    """

    name = "shelf"
    summary = "pictures of things on a shelf"
    obtain = "Ask the librarian."
    citation = "Nobody 2020."
    licence = "CC0"

    side: int = 8
    part: Literal["A", "B"] = "A"

    def find_missing(self, source: Path) -> list[str]:
        return [] if (source / "rgb").is_dir() else [f"{source / 'rgb'}: folder of pictures"]

    def read(self, source: Path, errors: RowErrors) -> Contents:
        rows = []
        for path in sorted((source / "rgb").iterdir()):
            with errors.catch(path.stem):
                if path.stem == "odd":
                    raise DataError(f"{path} is odd")
                back = source / "back" / path.name
                thing = path.stem.partition("_")[0]
                rows.append({"id": thing, "target": thing[0], "rgb_file_name": path, "back_file_name": back})
        kinds = {m: Image(size=(self.side, self.side)) for m in ("rgb", "back")}
        return Contents(rows, kinds, DatasetInfo("shelf"), aligned=("rgb", "back"))

    def synthesize(self, out: Path, seed: int = 0) -> None:
        pixels = np.random.default_rng(seed).integers(0, 256, (2, 4, 8, 8, 3), dtype=np.uint8)
        for i in range(4):
            for m, x in zip(("rgb", "back"), pixels[:, i]):
                write_image(out / m / f"{'ab'[i % 2]}{i}.png", x)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "READERS", {"shelf": __name__})
    return synthesize(Shelf(), tmp_path / "shelf")


def test_a_prepared_folder_says_where_it_comes_from(shelf, tmp_path):
    out, skipped = prepare(Shelf(side=4), shelf, tmp_path / "out")
    found = read_prepared(out)
    assert skipped == []
    assert not (out / "skipped.csv").exists()
    assert found.facts.source == "shelf 1"
    assert found.facts.citation == "Nobody 2020."
    assert found.facts.licence == "CC0"
    assert found.modalities["rgb"].shape == (3, 4, 4)
    assert found.table["id"].tolist() == ["a0", "a2", "b1", "b3"]
    assert Path(found.table["rgb_file_name"][0]) == (shelf / "rgb" / "a0.png").resolve()


def damage(shelf: Path) -> None:
    """One row of four each: a truncated file, a missing one, another size, and one that the reader refuses."""
    (shelf / "rgb" / "a0.png").write_bytes((shelf / "rgb" / "a0.png").read_bytes()[:60])
    (shelf / "back" / "b1.png").unlink()
    write_image(shelf / "back" / "a2.png", np.zeros((8, 9, 3), np.uint8))
    write_image(shelf / "rgb" / "odd.png", np.zeros((8, 8, 3), np.uint8))
    write_image(shelf / "rgb" / "b3_again.png", np.zeros((8, 8, 3), np.uint8))


def test_skipping_is_not_named_where_it_would_leave_nothing(shelf, tmp_path):
    for path in (shelf / "back").iterdir():
        write_image(path, np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(DataError, match="must have one size") as caught:
        prepare(Shelf(), shelf, tmp_path / "out")
    assert "--on-error" not in str(caught.value)


def test_rows_with_errors_are_listed_or_an_error(shelf, tmp_path):
    damage(shelf)
    with pytest.raises(DataError, match=r"odd is odd|odd.png is odd .*row 'odd'; --on-error skip"):
        prepare(Shelf(), shelf, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    out, skipped = prepare(Shelf(), shelf, tmp_path / "out", skip=True)
    assert read_prepared(out).table["id"].tolist() == ["b3"]
    assert [name for name, _ in skipped] == ["odd", "b3", "a0", "a2", "b1"]
    said = dict(skipped)
    assert "occurs twice: " in said["b3"]
    assert "b3_again.png" in said["b3"]
    assert "a0.png" in said["a0"]
    assert said["b1"].startswith("'back': ")
    assert "back/b1.png does not exist" in said["b1"]
    assert "a2.png is 8 x 8, " in said["a2"]
    assert "8 x 9 pixels; rgb and back of a row must have one size" in said["a2"]
    with (out / "skipped.csv").open(newline="") as file:
        assert [tuple(line) for line in csv.reader(file)] == [("id", "error"), *skipped]


def test_nothing_is_written_where_no_row_is_left(shelf, tmp_path):
    for path in (shelf / "back").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no row of shelf is left; 4 were skipped, the first: .*does not exist"):
        prepare(Shelf(), shelf, tmp_path / "out", skip=True)
    assert [p.name for p in tmp_path.iterdir()] == ["shelf"]


def test_what_is_missing_is_said_before_any_work(tmp_path):
    with pytest.raises(DataError, match=r"is not a folder; expected the unpacked shelf data. Ask the librarian"):
        check(Shelf(), tmp_path / "no")
    assert check(Shelf(), tmp_path) == [f"{tmp_path / 'rgb'}: folder of pictures"]
    with pytest.raises(DataError, match=r"1 things are missing: .*rgb: folder of pictures \(--check lists all"):
        prepare(Shelf(), tmp_path, tmp_path / "out")


def test_options_are_checked_by_name_and_type(shelf):
    assert make_reader("shelf", {"side": "4", "part": "B"}) == Shelf(side=4, part="B")
    assert Shelf.describe_options() == [("side", 8, "of a row in pixels."), ("part", "A", "of the set.")]
    with pytest.raises(ConfigError, match=r"unknown setting of reader 'shelf' 'sid'\. Did you mean 'side'"):
        make_reader("shelf", {"sid": "4"})
    with pytest.raises(ConfigError, match=r"shelf.*part"):
        make_reader("shelf", {"part": "C"})
    with pytest.raises(ConfigError, match="Did you mean 'shelf'"):
        make_reader("shelv")


def test_the_command_line(shelf, tmp_path, capsys, monkeypatch):
    def say(*words: object) -> tuple[int, str, str]:
        code = main(["prepare", *map(str, words)])
        return code, *capsys.readouterr()

    assert "pictures of things" in say()[1]
    about = say("shelf")[1]
    assert "Ask the librarian." in about
    assert "part=A: of the set." in about
    code, printed, _ = say("shelf", shelf, "--check")
    assert (code, "nothing that shelf needs is missing" in printed) == (0, True)
    assert say("shelf", tmp_path, "--check")[:2] == (1, f"{tmp_path / 'rgb'}: folder of pictures\n")
    assert say("shelf", shelf, tmp_path / "out", "side=4")[:2] == (0, f"{tmp_path / 'out'}\n")
    assert json.loads((tmp_path / "out" / "modalities.json").read_text())["modalities"]["rgb"]["size"] == [4, 4]
    assert "overwrite it" in say("shelf", shelf, tmp_path / "out")[2]
    damage(shelf)
    code, printed, _ = say("shelf", shelf, tmp_path / "out", "--overwrite", "--on-error", "skip")
    assert (code, "5 rows skipped" in printed) == (0, True)
    assert say("shelf", "--synthetic", tmp_path / "tiny")[0] == 0
    assert "is not empty" in say("shelf", "--synthetic", tmp_path / "tiny")[2]
    monkeypatch.chdir(tmp_path)
    assert say("shelf", "--synthetic")[:2] == (0, "shelf-synthetic\n")
    assert check(make_reader("shelf"), "shelf-synthetic") == []
    assert "name the folder to write" in say("shelf", shelf)[2]
    assert "Did you mean 'shelf'" in say("shel")[2]


@contextmanager
def extras() -> Iterator[None]:
    """Skips where an extra (av, soundfile) is not installed."""
    try:
        yield
    except RunError as error:
        if "cannot be imported" in str(error):
            pytest.skip(str(error))
        raise


NEEDED = {"mmsa": {"unsafe_pickle": "yes"}}
"""Options without which a reader does not read its own copy."""


ELSEWHERE = ("biovid", "recola", "affwild2", "activitynet", "ucf51")
"""Their copies take longest, and `test_affective.py` and `test_vision.py` prepare and read them too."""


@pytest.mark.parametrize("name", mostly_slow(readers.READERS, lambda name: name not in ELSEWHERE))
def test_every_reader_makes_a_copy_that_it_reads(name, tmp_path):
    made = make_reader(name, NEEDED.get(name))
    with extras():
        source, again = synthesize(made, tmp_path / "source"), synthesize(made, tmp_path / "again")
    files = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert check(made, source) == []
    assert check(made, tmp_path / "again") == []
    (tmp_path / "empty").mkdir()
    assert check(made, tmp_path / "empty")
    with extras():
        out, skipped = prepare(made, source, tmp_path / "out")
    assert skipped == []
    found = read_prepared(out)
    assert found.modalities
    assert found.facts.available or name in ("hf", "folder")  # what a folder of anyone's is for, its reader cannot know
    assert found.facts.citation
    assert made.obtain
    assert reader_class(name).name == name
    assert all(about for _, _, about in made.describe_options())


def test_a_reader_is_one_file_and_the_example_of_the_docs_is_one(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "datasets" / "README.md").read_text("utf-8")
    block = page.partition("```diff\n")[2].partition("```")[0]
    imports = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
        "from typing import ClassVar\nimport numpy as np\nfrom sidelight.data.sources.prepared import DatasetInfo\n"
        "from sidelight.errors import DataError\nfrom sidelight.readers.base import Contents, Reader, Row, RowErrors\n"
        "from sidelight.readers.synthetic import make_noise_frames, write_image, write_text\n"
        "from sidelight.readers.tables import read_cells\nfrom sidelight.recordings.registry import Image\n"
    )
    code = "\n".join(line.removeprefix("+") for line in block.splitlines())
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "my_set.py").write_text(imports + code)
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path / "package")])
    monkeypatch.setattr(readers, "READERS", readers.find_readers())
    made = make_reader("my-set", {"size": "16"})
    out, skipped = prepare(made, synthesize(made, tmp_path / "source"), tmp_path / "out")
    assert skipped == []
    assert read_prepared(out).modalities["rgb"].shape == (3, 16, 16)


def test_a_file_whose_reader_has_another_name_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "READERS", {"shelves": __name__})
    with pytest.raises(ConfigError, match=r"holds no Reader with name = 'shelves'; the name and the file name must"):
        reader_class("shelves")
