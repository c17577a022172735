"""Pictures of one row of each modality: bars, lines, spectrograms, images, frames."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.rows import read_into_memory
from sidelight.inspection.inspection import SAMPLE_ROWS, Inspection
from sidelight.inspection.modalities import ModalityInfo
from sidelight.report.style import COLOUR, HEAT, WIDTH, hide_frame, new_figure, to_svg

NAMED_COLUMNS, MOST_COLUMNS = 24, 400
"""Columns of a vector that are named, and drawn."""
LINES, POINTS = 8, 800
"""Channels of a signal that are drawn as lines, and points of a line; longer ones are drawn as their range."""
PIXELS, FRAMES = 360, 5
"""The longer side of an image, and the frames of a clip."""
TOKENS = 40


@dataclass
class Example:
    """A picture of one row of a modality, with its caption."""

    modality: str
    caption: str
    picture: Markup


def draw_examples(dataset: Dataset, found: Inspection) -> tuple[str, list[Example]]:
    """Draw a row that has as many modalities as possible, and a row of each modality that this one lacks.

    Returns:
        The name of the row, and the pictures.
    """
    there = np.stack(list(dataset.present.values()))
    row = int((there.sum(0) + dataset.labelled / 2).argmax())
    pictures = []
    for info in found.modalities:
        of = row if dataset.present[info.name][row] else int(dataset.present[info.name].argmax())
        x = read_into_memory(dataset.inputs[info.name][np.array([of])])[0]
        if info.name in dataset.lengths:
            x = x[: dataset.lengths[info.name][of]]
        picture = _draw(dataset, info, x)
        if of != row:
            picture.caption += f" (of {_name_row(dataset, of)})"
        pictures.append(picture)
    if dataset.size:
        codes = read_into_memory(dataset.target[np.array([row])])
        pictures.append(Example("target", "a class per pixel; white pixels have none", _draw_map(dataset, codes[0])))
    return _name_row(dataset, row), pictures


def _name_row(dataset: Dataset, row: int) -> str:
    name = dataset.row(row)
    if dataset.group is not None:
        name += f", group {dataset.group[row]}"
    if not dataset.labelled[row]:
        return f"{name}, unlabelled"
    if dataset.task == "classification":
        return f"{name}, class {dataset.class_names[dataset.target[row]]!r}"
    if dataset.task == "regression":
        values = (f"{n} {v:.4g}" for n, v in zip(dataset.class_names, dataset.target[row]) if np.isfinite(v))
        return f"{name}, {', '.join(values)}"
    return name


def _draw(dataset: Dataset, info: ModalityInfo, x: NDArray) -> Example:
    draw = {
        "vector": _draw_vector,
        "signal": _draw_signal,
        "spectrogram": _draw_spectrogram,
        "tokens": _draw_tokens,
        "image": _draw_image,
        "clip": _draw_clip,
    }[info.kind]
    caption, picture = draw(dataset, info, x)
    return Example(info.name, caption, picture)


def _draw_vector(dataset: Dataset, info: ModalityInfo, x: NDArray) -> tuple[str, Markup]:
    """Bars of a vector in standard deviations from the mean of some rows, whatever the units of its columns."""
    rows = np.flatnonzero(dataset.present[info.name])
    rows = np.random.default_rng(0).choice(rows, min(len(rows), SAMPLE_ROWS), replace=False)
    others = read_into_memory(dataset.inputs[info.name][np.sort(rows)]).astype(np.float64)
    known = np.isfinite(others)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, others, 0).sum(0) / count
    spread = np.sqrt(np.where(known, (others - mean) ** 2, 0).sum(0) / count)
    z = np.divide(x - mean, spread, out=np.zeros(len(x)), where=spread > 0)[:MOST_COLUMNS]
    names = dataset.columns.get(info.name) or [str(k) for k in range(len(x))]
    colours = np.where(z < 0, COLOUR["method"], COLOUR["student"])
    few = len(z) <= NAMED_COLUMNS
    with new_figure(WIDTH, 0.7 + 0.19 * len(z) if few else 2.2) as fig:
        axes = fig.add_subplot()
        if few:
            axes.barh(range(len(z)), np.nan_to_num(z), color=colours, height=0.7, zorder=3)
            axes.axvline(0, color=COLOUR["baseline"], linewidth=0.8)
            axes.set_yticks(range(len(z)), [name if len(name) <= 22 else f"{name[:21]}…" for name in names])
            axes.set_ylim(len(z) - 0.4, -0.6)
            widest = max(2.5, 1.05 * float(np.nan_to_num(np.abs(z)).max()))
            axes.set_xlim(-widest, widest)
            for k, value in enumerate(x):
                text = f"{value:.4g}" if np.isfinite(value) else "missing"
                axes.text(1.01, k, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5)
            axes.set_xlabel("standard deviations from the mean; right: values")
            hide_frame(axes, "x")
        else:
            axes.bar(range(len(z)), np.nan_to_num(z), color=colours, width=0.9, zorder=3)
            axes.set_xlabel("column")
            axes.set_ylabel("std. deviations")
            hide_frame(axes)
        picture = to_svg(fig, f"example-{info.name}", f"{info.name}: {len(x)} values of one row as bars")
    more = f", the first {MOST_COLUMNS} drawn" if len(x) > MOST_COLUMNS else ""
    return f"{len(x)} column{'s' * (len(x) > 1)}{more}, each against the mean of the rows", picture


def _draw_signal(dataset: Dataset, info: ModalityInfo, x: NDArray) -> tuple[str, Markup]:
    """A line for each channel over time; many channels as a heat map; long lines as the range of their values."""
    steps, channels = x.shape
    t = np.arange(steps) / (info.rate or 1.0)
    names = dataset.columns.get(info.name) or dataset.schema.get(info.name, {}).get("columns") or ()
    names = list(names) if len(names) == channels else [str(c) for c in range(channels)]
    caption = f"{steps} steps × {channels} channel{'s' * (channels > 1)}"
    caption += f", {steps / info.rate:.4g} s at {info.rate:g} Hz" if info.rate else ""
    caption += f", in {info.unit}" if info.unit else ""
    what = "s" if info.rate else "time step"
    if channels > LINES:
        return caption, _draw_heat(info.name, x.T, what, "channel", (float(t[0]), float(t[-1])))
    with new_figure(WIDTH, 0.6 + max(1.3, 0.62 * channels)) as fig:
        for axes, name, values in zip(fig.subplots(channels, 1, sharex=True, squeeze=False)[:, 0], names, x.T):
            if steps > 2 * POINTS:
                at = np.array_split(np.arange(steps), POINTS)
                low, high = (np.array([f(values[part]) for part in at]) for f in (np.min, np.max))
                axes.fill_between(t[[part[0] for part in at]], low, high, color=COLOUR["student"], linewidth=0.4)
            else:
                axes.plot(t, values, color=COLOUR["student"], linewidth=1.2)
            axes.locator_params(axis="y", nbins=3)
            if channels > 1:
                axes.set_ylabel(
                    name if len(name) <= 10 else f"{name[:9]}…", rotation=0, ha="right", va="center", labelpad=16
                )
            hide_frame(axes)
        axes.set_xlabel(what)
        return caption, to_svg(fig, f"example-{info.name}", f"{info.name}: one row as lines, {caption}")


def _draw_spectrogram(dataset: Dataset, info: ModalityInfo, x: NDArray) -> tuple[str, Markup]:
    _, bands, frames = x.shape
    rate = f" from {info.rate:g} Hz" if info.rate else ""
    preset = dataset.schema.get(info.name, {}).get("spectrogram", "")
    return f"{preset}{rate}: {bands} bands × {frames} frames", _draw_heat(info.name, x[0], "frame", "band")


def _draw_heat(m: str, x: NDArray, across: str, up: str, ends: tuple[float, float] | None = None) -> Markup:
    """A heat map (rows from the bottom up, columns); `ends` are the values at the ends of the horizontal axis."""
    known = x[np.isfinite(x)]
    low, high = np.quantile(known, (0.01, 0.99)) if len(known) else (0.0, 1.0)
    first, last = ends or (-0.5, x.shape[1] - 0.5)
    with new_figure(WIDTH, 2.4) as fig:
        axes = fig.add_subplot()
        axes.imshow(
            x,
            cmap=HEAT,
            vmin=low,
            vmax=max(high, low + 1e-12),
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            extent=(first, last, -0.5, len(x) - 0.5),
        )
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        hide_frame(axes, "")
        return to_svg(fig, f"example-{m}", f"{m}: one row as a heat map of {len(x)} {up}s over time")


def _draw_tokens(dataset: Dataset, info: ModalityInfo, x: NDArray) -> tuple[str, Markup]:
    numbers = " ".join(f"{v:.0f}" for v in x[:TOKENS, 0])
    shown = Markup('<p class="tokens">{}</p>').format(numbers + " …" * (len(x) > TOKENS))
    return f"{len(x)} tokens", shown


def _draw_image(dataset: Dataset, info: ModalityInfo, x: NDArray) -> tuple[str, Markup]:
    """Three channels in colour, any other number side by side; values other than bytes in the colours of a heat map."""
    channels, height, width = x.shape
    caption = f"{width} × {height} pixels, {channels} channel{'s' * (channels > 1)}"
    panels = [x] if channels == 3 else [x[[c]] for c in range(min(channels, LINES))]
    if x.dtype != np.uint8:
        known = x[np.isfinite(x)]
        caption += (
            f", {known.min():.4g} to {known.max():.4g}{' ' + info.unit if info.unit else ''}" if len(known) else ""
        )
        caption += ", light to dark" if channels != 3 else ""
    return caption, _to_picture(panels, f"{info.name}: {caption}")


def _draw_clip(dataset: Dataset, info: ModalityInfo, x: NDArray) -> tuple[str, Markup]:
    frames = np.unique(np.linspace(0, x.shape[1] - 1, FRAMES).round().astype(int))
    caption = f"{x.shape[1]} frames of {x.shape[3]} × {x.shape[2]} pixels; frames {', '.join(map(str, frames + 1))}"
    panels = [x[:, t] if len(x) == 3 else x[:1, t] for t in frames]
    return caption, _to_picture(panels, f"{info.name}: {caption}")


def _draw_map(dataset: Dataset, codes: NDArray) -> Markup:
    """The class codes (H, W) of one row as colours, with a key of the classes."""
    names = dataset.class_names
    palette = colormaps["tab20" if len(names) > 10 else "tab10"]
    colours = np.asarray(palette(codes.clip(0) % palette.N, bytes=True))[..., :3].copy()
    colours[codes < 0] = 255
    there = np.unique(codes[codes >= 0])
    keys = Markup("&ensp; ").join(
        Markup('<b style="background:{}"></b>{}').format(to_hex(palette(int(c) % palette.N)), names[c]) for c in there
    )
    picture = _to_picture([np.moveaxis(colours, -1, 0)], f"target: classes {', '.join(names[c] for c in there)}")
    return picture + Markup('<p class="key">{}</p>').format(keys)


def _to_picture(panels: list[NDArray], description: str) -> Markup:
    """Images (C, H, W) of one size side by side, as one PNG inside of the page."""
    from PIL import Image

    values = np.stack(panels)
    if values.dtype != np.uint8:
        values = _to_bytes(values)
    elif values.shape[1] == 1:
        values = np.repeat(values, 3, 1)
    images = [Image.fromarray(np.ascontiguousarray(np.moveaxis(v, 0, -1))) for v in values]
    width, height = images[0].size
    scale = PIXELS / max(width, height) / len(images) ** 0.5
    # Small images are enlarged by whole pixels, which stay visible.
    method, factor = (Image.Resampling.BOX, scale) if scale < 1 else (Image.Resampling.NEAREST, max(int(scale), 1))
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    gap = 4
    strip = Image.new("RGBA", (len(images) * (size[0] + gap) - gap, size[1]), (0, 0, 0, 0))
    for k, image in enumerate(images):
        strip.paste(image.resize(size, method), (k * (size[0] + gap), 0))
    buffer = io.BytesIO()
    strip.save(buffer, "PNG", optimize=True)
    source = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img width="{}" height="{}" alt="{}" src="data:image/png;base64,{}">').format(
        *strip.size, description, source
    )


def _to_bytes(values: NDArray) -> NDArray:
    """(N, C, H, W) numbers of any range as colours in bytes: three channels by their range, one as a heat map."""
    x = values.astype(np.float32)
    known = x[np.isfinite(x)]
    low, high = (float(v) for v in np.quantile(known, (0.005, 0.995))) if len(known) else (0.0, 1.0)
    share = np.clip((x - low) / max(high - low, 1e-12), 0, 1)
    if x.shape[1] == 3:
        return np.asarray(np.nan_to_num(share) * 255, np.uint8)
    colours = np.asarray(HEAT(share[:, 0], bytes=True))[..., :3]
    colours[~np.isfinite(x[:, 0])] = 128
    return np.moveaxis(colours, -1, 1)
