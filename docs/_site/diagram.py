"""A picture of the networks of a method and of its loss terms, drawn as SVG in the colours of the page."""

from __future__ import annotations

import re
from html import escape
from itertools import pairwise

from _site.networks import LABELS, SLOTS, Diagram, Lane, Term

WIDTH, LANE, ROW, TITLE, PAD, LINE = 760, 648, 48, 20, 6, 22
INPUT, ENCODER, BRANCH, MAKER, FEATURES, FUSION, EMBEDDING, HEAD, PREDICTION, TRUTH = (
    62, 178, 236, 292, 354, 432, 506, 568, 630, 706,
)  # fmt: skip
"""The x of inputs, encoders, the branch to T-Nets, what makes features, features, fusion, embedding, head, prediction,
labels."""
COLUMNS = {"inputs": INPUT + 50, "made": BRANCH, "embedding": EMBEDDING, "prediction": PREDICTION, "proxy": PREDICTION}
"""Place -> its x; the others are features."""
CODE = re.compile(r"`([^`]+)`")
Points = dict[tuple[str, str], tuple[float, float]]


def draw(diagram: Diagram) -> str:
    """The picture as an element that Markdown takes as it is: a figure with its description and a caption."""
    gaps = [_between(diagram, *pair) for pair in pairwise(diagram.lanes)]
    points: Points = {}
    parts: list[str] = []
    y = 6.0
    for number, lane in enumerate(diagram.lanes):
        drawn, y = _lane(lane, y, points)
        parts += drawn
        if number < len(gaps):
            y += 14 + LINE * len(gaps[number]) if gaps[number] else 14
    points[LABELS, LABELS] = (TRUTH, points["student", "prediction"][1])
    parts += _inputs_from_networks(diagram, points)
    parts += _terms(diagram, gaps, points)
    legend, y = _legend(y + 10)
    text = escape(diagram.sentence(), quote=True)
    inside = "".join([*parts, *legend])
    return (
        f'<figure class="diagram"><svg viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" role="img" aria-label="{text}">'
        f"{inside}</svg>{_caption(diagram)}</figure>"
    )


def _caption(diagram: Diagram) -> str:
    gaps = [term for pair in pairwise(diagram.lanes) for term in _between(diagram, *pair)]
    named = [f"{term.name}: {term.what}." for term in diagram.terms if term not in gaps]
    said = escape(" ".join(filter(None, [*named, diagram.note])).replace("?.", "?"), quote=False)
    said = CODE.sub(r"<code>\1</code>", said)
    return f"<figcaption>{said}</figcaption>" if said else ""


def _between(diagram: Diagram, above: Lane, below: Lane) -> list[Term]:
    """The terms whose words stand in the gap between two networks: those between the lower and one above it."""
    order = [lane.name for lane in diagram.lanes]
    found = []
    for term in diagram.terms:
        ends = [order.index(lane) for lane, _ in (*term.sources, *term.targets) if lane in order]
        if min(ends) < max(ends) == order.index(below.name) and (LABELS, LABELS) not in term.targets:
            found.append(term)
    return found


def _lane(lane: Lane, top: float, points: Points) -> tuple[list[str], float]:
    """Draw a network; returns its parts and its lower edge, and notes where its outputs are."""
    rows = lane.rows or [""]
    n = len(rows) + bool(lane.proxy)
    height = TITLE + ROW * n + PAD
    kind = "deployed" if lane.deployed else ""
    parts = [f'<rect class="lane {kind}" x="2" y="{top:.0f}" width="{LANE}" height="{height}" rx="8"/>']
    state = "deployed" if lane.deployed else "frozen" if lane.frozen else "trained, not deployed"
    parts.append(f'<text class="title" x="14" y="{top + 17:.0f}">{escape(lane.title or lane.name)}: {state}</text>')
    first = top + TITLE + ROW / 2 + (ROW if lane.proxy and lane.above else 0)
    at = {row: first + ROW * i for i, row in enumerate(rows)}
    middle = first + ROW * (len(rows) - 1) / 2
    style = "frozen" if lane.frozen else "trained"
    for row, y in at.items():
        parts += _row(lane, row, y, at, style, points)
        if row:
            parts.append(_flow(FEATURES, y, FUSION - 52, middle))
    name = lane.name
    parts += [_box(FUSION, middle, 104, lane.fusion, style)]
    points[name, "embedding"] = (EMBEDDING, middle)
    if lane.head:
        parts += [_flow(FUSION + 52, middle, HEAD - 40, middle), _box(HEAD, middle, 80, lane.head, style)]
        parts += [_flow(HEAD + 40, middle, PREDICTION, middle, arrow=False), _dot(PREDICTION, middle)]
        points[name, "prediction"] = (PREDICTION, middle)
    else:
        parts.append(_flow(FUSION + 52, middle, EMBEDDING, middle, arrow=False))
    parts.append(_dot(EMBEDDING, middle))
    if lane.proxy:
        y = first - ROW if lane.above else first + ROW * len(rows)
        source = at[rows[0] if lane.above else rows[-1]]
        parts += [_turn(FEATURES, source, HEAD - 40, y), _box(HEAD, y, 80, lane.proxy, style)]
        parts += [_flow(HEAD + 40, y, PREDICTION, y, arrow=False), _dot(PREDICTION, y)]
        points[name, "proxy"] = (PREDICTION, y)
    return parts, top + height


def _row(lane: Lane, row: str, y: float, at: dict[str, float], style: str, points: Points) -> list[str]:
    """What stands before the fusion: inputs and their encoders, or what makes the missing features."""
    if not row:
        return []
    points[lane.name, row] = (FEATURES, y)
    if row != "slot":
        points[lane.name, "inputs"] = (INPUT + 50, y)
        inputs = [_box(INPUT, y, 100, row, row), _flow(INPUT + 50, y, ENCODER - 44, y)]
        return [*inputs, _box(ENCODER, y, 88, "encoder", style), _flow(ENCODER + 44, y, FEATURES, y, arrow=False),
                _dot(FEATURES, y)]  # fmt: skip
    below = at["available"]
    box = SLOTS[lane.slot]
    if lane.slot == "t-net":
        path = [_turn(BRANCH, below, MAKER - 40, y), _box(MAKER, y, 80, box, "frozen")]
        return [*path, _flow(MAKER + 40, y, FEATURES, y, arrow=False), _dot(FEATURES, y)]
    wide = 88 if lane.slot == "generator" else 104
    path = [_turn(INPUT + 54, below, ENCODER - wide / 2, y), _box(ENCODER, y, wide, box, style)]
    if lane.slot == "generator":
        points[lane.name, "made"] = (BRANCH, y)
        path += [_flow(ENCODER + 44, y, MAKER - 40, y), _dot(BRANCH, y), _box(MAKER, y, 80, "encoder", style)]
        return [*path, _flow(MAKER + 40, y, FEATURES, y, arrow=False), _dot(FEATURES, y)]
    return [*path, _flow(ENCODER + wide / 2, y, FEATURES, y, arrow=False), _dot(FEATURES, y)]


def _inputs_from_networks(diagram: Diagram, points: Points) -> list[str]:
    """The lines to networks that read the features of others."""
    parts = []
    for lane in diagram.lanes:
        for place in lane.reads:
            name, _, output = place.rpartition(".")
            if name:
                (x, y), (_, end) = points[name, output], points[lane.name, "embedding"]
                parts.append(_flow(x, y, FUSION - 52, end))
    return parts


def _terms(diagram: Diagram, gaps: list[list[Term]], points: Points) -> list[str]:
    """The lines of the loss terms, then their words, so that no line runs through a word."""
    lines, words = _losses_of_labels(diagram, points)
    for gap, lane in zip(gaps, diagram.lanes[1:], strict=True):
        highest = min(y for (name, _), (_, y) in points.items() if name == lane.name)
        top = highest - ROW / 2 - TITLE - 7 - LINE * len(gap)
        for number, term in enumerate(gap):
            ends = [(points[a], points[b]) for a in term.sources for b in term.targets]
            lines += [_term_line(a, b, bend=_passes(a, b, points), earlier=term.earlier) for a, b in ends]
            (ax, ay), (bx, by) = ends[-1]
            middle = top + LINE * (number + 0.5)
            share = (middle - ay) / (by - ay)
            words.append(_word(ax + share * (bx - ax), middle, f"{term.name}: {term.what}", earlier=term.earlier))
    shown = {term.name for gap in gaps for term in gap}
    for term in diagram.terms:
        if term.name in shown or term.sources == term.targets or _is_of_labels(term):
            continue
        for a, b in ((points[a], points[b]) for a in term.sources for b in term.targets):
            to = (b[0] - 20, b[1] - 14) if b == points[LABELS, LABELS] else b
            lines.append(_term_line(a, to, arc=-34 if to != b else 0))
        words.append(_word((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 - (30 if to != b else 0), term.name))
    return lines + words


def _is_of_labels(term: Term) -> bool:
    """Whether a term compares a prediction of one network with the labels."""
    return term.targets == ((LABELS, LABELS),) and [output for _, output in term.sources] == ["prediction"]


def _losses_of_labels(diagram: Diagram, points: Points) -> tuple[list[str], list[str]]:
    """The labels beside each network that learns from them, the lines to them, and the words."""
    lines, words = [], []
    for lane in diagram.lanes:
        names = ["task"] if lane.deployed else []
        names += [term.name for term in diagram.terms if _is_of_labels(term) and term.sources[0][0] == lane.name]
        if names:
            x, y = points[lane.name, "prediction"]
            lines += [_term_line((x, y), (TRUTH - 42, y)), _box(TRUTH, y, 84, "labels", "labels")]
            aside = -14 if lane.proxy and not lane.above else 14
            words.append(_word((x + TRUTH - 42) / 2, y + aside, ", ".join(names)))
    return lines, words


def _passes(a: tuple[float, float], b: tuple[float, float], points: Points) -> float:
    """How far a vertical line must bend in order to miss outputs of a network between its ends."""
    low, high = sorted((a[1], b[1]))
    passed = any(abs(x - a[0]) < 2 and low + 1 < y < high - 1 for x, y in points.values())
    return 22 if passed and abs(a[0] - b[0]) < 2 else 0


def _term_line(
    a: tuple[float, float], b: tuple[float, float], bend: float = 0, arc: float = 0, earlier: bool = False
) -> str:
    """A line of a term; `bend` moves it to the right, `arc` up."""
    kind = "term earlier" if earlier else "term"
    (ax, ay), (bx, by) = a, b
    if not bend and not arc:
        return f'<line class="{kind}" x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}"/>'
    out = f"{ax + bend:.1f} {ay + arc:.1f} {bx + bend:.1f} {by + arc:.1f}"
    return f'<path class="{kind}" d="M{ax:.1f} {ay:.1f}C{out} {bx:.1f} {by:.1f}"/>'


def _word(x: float, y: float, text: str, size: float = 6.2, earlier: bool = False) -> str:
    """Words on a plate, which stay inside of the picture."""
    width = size * len(text) + 14
    x = min(max(x, width / 2 + 6), WIDTH - width / 2 - 6)
    kind = "word earlier" if earlier else "word"
    return (
        f'<g class="{kind}"><rect x="{x - width / 2:.1f}" y="{y - 9:.1f}" width="{width:.1f}" height="18" rx="9"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}">{escape(text)}</text></g>'
    )


def _box(x: float, y: float, width: float, text: str, kind: str) -> str:
    return (
        f'<g class="box {kind}"><rect x="{x - width / 2:.1f}" y="{y - 14:.1f}" width="{width:.0f}" height="28" rx="5"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}">{escape(text)}</text></g>'
    )


def _dot(x: float, y: float) -> str:
    return f'<circle class="output" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def _flow(x1: float, y1: float, x2: float, y2: float, arrow: bool = True) -> str:
    """A line along which numbers go, by default with an arrow at its end."""
    if y1 == y2:
        line = f'<line class="flow" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
    else:
        middle = (x1 + x2) / 2
        out = f"{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f}"
        line = f'<path class="flow" d="M{x1:.1f} {y1:.1f}C{out} {x2:.1f} {y2:.1f}"/>'
    return line + (_arrow(x2, y2) if arrow else "")


def _turn(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line that goes up or down, then to the right."""
    corner = 8 if y2 < y1 else -8
    line = f'<path class="flow" d="M{x1:.1f} {y1:.1f}V{y2 + corner:.1f}q0 {-corner} 8 {-corner}H{x2:.1f}"/>'
    return line + _arrow(x2, y2)


def _arrow(x: float, y: float) -> str:
    return f'<path class="arrow" d="M{x:.1f} {y:.1f}l-7 -3.5v7z"/>'


def _legend(y: float) -> tuple[list[str], float]:
    """What the styles mean; returns its parts and its lower edge."""
    y += 14
    parts, x = [], 16.0
    for kind, text in (("trained", "trained"), ("frozen", "frozen")):
        parts.append(f'<g class="box {kind}"><rect x="{x:.0f}" y="{y - 8:.0f}" width="26" height="16" rx="4"/></g>')
        parts.append(f'<text class="legend" x="{x + 33:.0f}" y="{y + 4:.0f}">{text}</text>')
        x += 95
    parts.append(_dot(x + 4, y) + f'<text class="legend" x="{x + 15:.0f}" y="{y + 4:.0f}">output</text>')
    x += 75
    for kind, text in (("term", "loss term"), ("term earlier", "of an earlier stage")):
        parts.append(f'<line class="{kind}" x1="{x:.0f}" y1="{y:.0f}" x2="{x + 30:.0f}" y2="{y:.0f}"/>')
        parts.append(f'<text class="legend" x="{x + 37:.0f}" y="{y + 4:.0f}">{text}</text>')
        x += 115
    parts.append(f'<rect class="lane deployed" x="{x + 30:.0f}" y="{y - 8:.0f}" width="26" height="16" rx="4"/>')
    parts.append(f'<text class="legend" x="{x + 63:.0f}" y="{y + 4:.0f}">what is deployed</text>')
    return parts, y + 20
