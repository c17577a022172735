"""Annotations made by hand: ELAN (.eaf) and Praat (.TextGrid). Their tiers are kept apart."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from sidelight.errors import DataError
from sidelight.formats.content import Content

TOKEN = re.compile(r'"(?:[^"]|"")*"|(?<!\S)[-+]?[0-9][0-9.eE+-]*(?!\S)|<exists>|<absent>')
"""What Praat reads of its text files: texts, numbers that stand alone, flags. All else is for people."""


def read_elan(content: Content) -> None:
    """Every annotation with the times of its tier; those that refer to others have the times of these."""
    root = _parse_xml(content.path)
    slots: dict[str, float | None] = {}
    for slot in root.iterfind("TIME_ORDER/TIME_SLOT"):
        value = slot.get("TIME_VALUE")
        slots[slot.get("TIME_SLOT_ID", "")] = None if value is None else float(value) / 1000
    times = _fill(slots)
    spans: dict[str, tuple[float, float]] = {}
    refers: list[tuple[str, str, str, str]] = []
    for tier in root.iterfind("TIER"):
        name = tier.get("TIER_ID", "")
        for one in tier.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION"):
            key = one.get("ANNOTATION_ID", "")
            try:
                start, end = times[one.get("TIME_SLOT_REF1", "")], times[one.get("TIME_SLOT_REF2", "")]
            except KeyError as error:
                raise DataError(
                    f"{content.path}: annotation {key!r} names the time {error}, which is not there"
                ) from None
            spans[key] = start, end
            content.add_event(start, end - start, _text(one), name)
        for one in tier.iterfind("ANNOTATION/REF_ANNOTATION"):
            refers.append((one.get("ANNOTATION_ID", ""), one.get("ANNOTATION_REF", ""), _text(one), name))
    while refers:
        left = [r for r in refers if r[1] not in spans]
        if len(left) == len(refers):
            raise DataError(f"{content.path}: annotation {left[0][0]!r} refers to {left[0][1]!r}, which is not there")
        for key, other, text, name in refers:
            if other in spans:
                spans[key] = start, end = spans[other]
                content.add_event(start, end - start, text, name)
        refers = left


def _text(annotation: ElementTree.Element) -> str:
    return (annotation.findtext("ANNOTATION_VALUE") or "").strip()


def _fill(slots: dict[str, float | None]) -> dict[str, float]:
    """Times of slots that were never aligned lie evenly between their neighbours, as ELAN shows them."""
    names = list(slots)
    times: dict[str, float] = {}
    i = 0
    while i < len(names):
        value = slots[names[i]]
        if value is not None:
            times[names[i]] = value
            i += 1
            continue
        j = next((k for k in range(i, len(names)) if slots[names[k]] is not None), len(names))
        before = times[names[i - 1]] if i else 0.0
        after = slots[names[j]] if j < len(names) else before
        assert after is not None
        for n, name in enumerate(names[i:j], 1):
            times[name] = before + (after - before) * n / (j - i + 1)
        i = j
    return times


def _parse_xml(path: Path) -> ElementTree.Element:
    text = path.read_bytes()
    if b"<!ENTITY" in text or b"<!DOCTYPE" in text:
        raise DataError(f"{path} defines entities of its own, which ELAN does not write and which are never read")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"cannot read {path}: truncated or no ELAN file ({error})") from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise DataError(f"{path} is XML, but no ELAN file: it begins with <{root.tag}>")
    return root


def read_praat(content: Content) -> None:
    """Every interval and point that has a text."""
    raw = content.path.read_bytes()
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    words = iter(TOKEN.findall(re.sub(r"(?m)^\s*!.*$", "", text)))
    try:
        if _string(next(words)) != "ooTextFile" or _string(next(words)) != "TextGrid":
            raise DataError(f"{content.path} is no TextGrid of Praat in text form; save it as text")
        next(words), next(words)  # first and last second
        if next(words) != "<exists>":
            return
        for _ in range(int(next(words))):
            kind, name = _string(next(words)), _string(next(words))
            next(words), next(words)
            for _ in range(int(next(words))):
                start = float(next(words))
                end = float(next(words)) if kind == "IntervalTier" else start
                label = _string(next(words)).strip()
                if label:
                    content.add_event(start, end - start, label, name)
    except StopIteration:
        raise DataError(f"{content.path} ends in the middle of a tier: is it truncated?") from None


def _string(token: str) -> str:
    if not token.startswith('"'):
        raise ValueError(f"{token!r} where a text in quotes is expected")
    return token[1:-1].replace('""', '"')
