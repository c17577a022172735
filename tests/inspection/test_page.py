"""The page of `inspect`: whole in itself, readable without eyes, and its pictures are those of the data."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sidelight.cli import main
from sidelight.data import Dataset
from sidelight.inspection import inspect
from sidelight.inspection.page import render_page

N = 12
LABELS = ("<low>", "high & dry")


class Page(HTMLParser):
    """Elements with their attributes, and the text of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def make() -> Dataset:
    """A row of each kind; row 0 lacks the voice, row 1 has everything."""
    rng = np.random.default_rng(0)
    lengths = np.full(N, 20)
    lengths[3] = 90
    present = np.arange(N) > 0
    face = rng.normal(size=(N, 3))
    face[1, 2] = np.nan
    return Dataset(
        name="every kind",
        inputs={
            "face": face,
            "voice": rng.normal(size=(N, 90, 2)),
            "mel": rng.normal(size=(N, 1, 5, 7)),
            "rgb": rng.integers(0, 256, size=(N, 3, 4, 6)).astype(np.uint8),
            "depth": rng.uniform(0.5, 2, size=(N, 1, 4, 6)),
            "clip": rng.integers(0, 256, size=(N, 3, 8, 4, 4)).astype(np.uint8),
            "words": rng.integers(0, 99, size=(N, 6, 1)).astype(float),
        },
        target=np.arange(N) % 2,
        labelled=np.ones(N, bool),
        task="classification",
        class_names=LABELS,
        present={"voice": present},
        lengths={"voice": np.where(present, lengths, 0)},
        group=np.repeat(list("pqrstu"), 2),
        split=np.repeat(["train", "train", "test"], 4),
        columns={"face": ("au1", "au2", "au3")},
        rates={"voice": 10.0},
        units={"depth": "m"},
        impute="mean",
        schema={"mel": {"spectrogram": "audio"}, "words": {"longest": 6}},
    )


@pytest.fixture(scope="module")
def page() -> Page:
    data = make()
    return Page(render_page(data, inspect(data, folds=2)))


def test_the_page_loads_and_runs_nothing(page: Page) -> None:
    assert not page.find("script")
    assert not page.find("link")
    policy = page.find("meta")[2]["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
        assert not any(name.startswith("on") for name in attributes)


def test_every_picture_has_a_text(page: Page) -> None:
    pictures = [svg["aria-label"] for svg in page.find("svg")] + [image["alt"] for image in page.find("img")]
    # Six modalities (words are text), coverage, lengths, classes and strengths.
    assert len(pictures) == len(set(pictures)) == 10
    assert any("rows with it, %" in text and "voice 92%" in text for text in pictures)
    assert "rgb: 6 × 4 pixels, 3 channels" in pictures
    assert any(text.startswith("rows of each class: <low> 6, high & dry 6") for text in pictures)


def test_pictures_are_those_of_a_row_that_has_everything(page: Page) -> None:
    assert "row 1, group p, class 'high & dry'" in page.text
    shown = {image["alt"].partition(":")[0]: _decode(image["src"]) for image in page.find("img")}
    data = make()
    rgb = np.moveaxis(data.inputs["rgb"][1], 0, -1)
    times = shown["rgb"].shape[0] // 4
    np.testing.assert_array_equal(shown["rgb"][::times, ::times, :3], rgb)
    # Frames 1, 3, …, 8 of the clip, side by side.
    first = np.moveaxis(data.inputs["clip"][1][:, 0], 0, -1)
    times = shown["clip"].shape[0] // 4
    np.testing.assert_array_equal(shown["clip"][::times, : 4 * times : times, :3], first)
    # Near is light and far is dark.
    depth, times = data.inputs["depth"][1, 0], shown["depth"].shape[0] // 4
    light = shown["depth"][::times, ::times, :3].sum(-1)
    assert light.flat[depth.argmin()] > 600 > 200 > light.flat[depth.argmax()]
    words = data.inputs["words"][1, :, 0]
    assert " ".join(f"{v:.0f}" for v in words) in page.text


def _decode(source: str) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))), int)


def test_figures_say_what_inspect_found(page: Page) -> None:
    for words in (
        "au1",
        "missing",
        "2 s at 10 Hz",
        "2 to 9 s, median 2; unusually long or short: 1",
        "audio: 5 bands × 7",
    ):
        assert words in page.text
    assert "2 folds of disjoint groups; official test rows left out" in page.text
    assert "12 rows of 6 groups with 7 modalities; some lack voice." in page.text
    assert "sidelight.compare(data" in page.text


def test_maps_and_values_have_pages_too() -> None:
    rng = np.random.default_rng(0)
    maps = np.repeat(np.arange(16).reshape(1, 4, 4) % 2, N, 0)
    common: dict[str, Any] = {"labelled": np.ones(N, bool), "group": np.arange(N).astype(str)}
    rooms = Dataset("rooms", {"rgb": rng.random((N, 3, 4, 4))}, maps, task="segmentation", class_names=LABELS, **common)
    drawn = Page(render_page(rooms, inspect(rooms, strength=False)))
    shown = {image["alt"]: _decode(image["src"]) for image in drawn.find("img")}
    target = shown["target: classes <low>, high & dry"]
    times = target.shape[0] // 4
    apart = (target[::times, ::times, :3] != target[0, 0, :3]).any(-1)
    np.testing.assert_array_equal(apart, maps[0] == 1)
    assert "pixels of each class" in " ".join(svg["aria-label"] for svg in drawn.find("svg"))
    values = Dataset(
        "pain", {"many": rng.random((N, 70))}, rng.random((N, 1)), task="regression", class_names=("pain",), **common
    )
    drawn = Page(render_page(values, inspect(values, strength=False)))
    assert [svg["aria-label"].partition(":")[0] for svg in drawn.find("svg")] == [
        "many",
        "Histograms of the target values",
    ]
    assert "Every row has every modality." in drawn.text


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("target,group,x.0,x.1\n" + "".join(f"{'ab'[i % 2]},g{i % 4},{i},{i * i}\n" for i in range(12)))
    out = tmp_path / "pages" / "rows.html"
    assert main(["inspect", str(table), "--html", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"page: {out}\n")
    assert "12 rows of 4 groups" in Page(out.read_text()).text
    assert main(["inspect", str(table), "--html", str(tmp_path)]) == 2
    assert f"--html {tmp_path}: a folder; name a file in it: {tmp_path / 'inspect.html'}" in capsys.readouterr().err
