"""What the picture of a method shows: its networks, what each reads, and where its loss terms stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sidelight.methods import METHODS
from sidelight.utils.yaml12 import read_yaml

FACTS = Path(__file__).with_name("diagrams.yaml")
LABELS = "labels"
PLACES = ("available", "privileged", "slot", "embedding", "prediction", "proxy", "inputs", "made", LABELS)
SAID = {
    "available": "features of the available modalities",
    "privileged": "features of the privileged modalities",
    "slot": "made features of the privileged modalities",
    "inputs": "privileged rows",
    "made": "made rows",
    "proxy": "second prediction",
}
"""Place -> its name in a sentence, where that is another."""
SLOTS = {"t-net": "T-Net", "encoder": "own encoder", "generator": "generator"}
"""What fills the privileged slots of a student -> its name."""


@dataclass(frozen=True)
class Lane:
    """A network of a method.

    Attributes:
        name: its name, by which terms name their places.
        reads: the modalities that it reads ("available", "privileged"), or places of other networks.
        frozen: whether it is frozen while the student learns.
        deployed: whether it is what is deployed.
        slot: what makes the privileged features, a key of `SLOTS`; "" for nothing.
        fusion, head: what these parts are called; "" where a network has no head.
        proxy: what a second head on the features is called; "" where there is none.
        above: whether the second head is drawn above.
        title: what it is called in the picture.
    """

    name: str
    reads: tuple[str, ...]
    frozen: bool
    deployed: bool = False
    slot: str = ""
    fusion: str = "fusion"
    head: str = "head"
    proxy: str = ""
    above: bool = False
    title: str = ""

    @property
    def rows(self) -> list[str]:
        """What stands below one another: inputs, and the slot above those of a student."""
        own = [name for name in self.reads if "." not in name]
        return [*(["slot"] if self.slot else []), *own]


@dataclass(frozen=True)
class Term:
    """A loss term.

    Attributes:
        name: its name in the record of the training.
        what: what it is.
        sources: the places at which it begins; targets: those at which it ends. A place is (network, output).
        also: what else it reads.
        earlier: whether it belongs to a stage before the last one.
    """

    name: str
    what: str
    sources: tuple[tuple[str, str], ...]
    targets: tuple[tuple[str, str], ...]
    also: tuple[tuple[str, str], ...] = ()
    earlier: bool = False


@dataclass(frozen=True)
class Diagram:
    """The networks and terms of a method, from top to bottom, and a note."""

    method: str
    lanes: tuple[Lane, ...]
    terms: tuple[Term, ...]
    note: str = ""

    def sentence(self) -> str:
        """The picture in words, for those who do not see it."""
        parts = [f"{self.method}."]
        for lane in self.lanes:
            kind = "deployed" if lane.deployed else "frozen" if lane.frozen else "trained too"
            reads = " and ".join(_said(name) for name in lane.reads)
            slot = f", with a {SLOTS[lane.slot]} in place of the privileged encoders" if lane.slot else ""
            parts.append(f"The {lane.title or lane.name} ({kind}) reads {reads}{slot}.")
        for term in self.terms:
            ends = [" and ".join(_said(".".join(p)) for p in side) for side in (term.sources, term.targets)]
            when = "In an earlier stage, " if term.earlier else ""
            what = term.what.rstrip("?")
            where = f"of the {ends[0]}" if term.sources == term.targets else f"between the {ends[0]} and the {ends[1]}"
            parts.append(f"{when}{term.name}: {what}, {where}.")
        return " ".join([*parts, "The task loss of the student is beside them."])


def _said(place: str) -> str:
    lane, _, output = place.rpartition(".")
    if not lane:
        return f"the {output} modalities" if output != LABELS else LABELS
    if lane == LABELS or output == LABELS:
        return LABELS
    return f"{lane}'s {SAID.get(output, output)}"


def _places(given: Any) -> tuple[tuple[str, str], ...]:
    """The places of "student.slot", or of several in a list."""
    texts = [given] if isinstance(given, str) else list(given)
    return tuple((text.rpartition(".")[0] or LABELS, text.rpartition(".")[2]) for text in texts)


def _terms(given: Mapping[str, Any], earlier: bool) -> Iterator[Term]:
    for name, (what, source, target, *also) in given.items():
        yield Term(str(name), what, _places(source), _places(target), _places(also[0]) if also else (), earlier)


@cache
def facts() -> dict[str, Any]:
    """Method -> what diagrams.yaml says of it."""
    return dict(read_yaml(FACTS))


def describe(method: str) -> Diagram:
    """The networks and terms of a registered method: what its class says, and what diagrams.yaml adds."""
    kind, given = METHODS[method], facts()[method]
    lanes = []
    for name, said in (given.get("networks") or {"teacher": {}, "student": {}}).items():
        student = name == "student"
        more = {key: value for key, value in said.items() if key not in ("reads", "state")}
        if student:
            more.setdefault("slot", kind.hallucinates)
        reads = said.get("reads") or (["available"] if student else ["available", "privileged"])
        frozen = (not student and said.get("state") == "frozen") or not (student or said)
        lanes.append(Lane(name, tuple(reads), frozen, deployed=student, **more))
    terms = (*_terms(given.get("earlier", {}), True), *_terms(given["terms"], False))
    return Diagram(method, tuple(lanes), terms, given.get("note", ""))
