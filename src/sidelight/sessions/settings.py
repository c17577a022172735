"""What `sidelight windows` is asked for: sessions, sensors, labels and the length of a window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sidelight.config.io import read_arguments
from sidelight.errors import ConfigError, shown, unknown
from sidelight.recordings.registry import RECORDING_TYPES
from sidelight.signals.csv import SECONDS
from sidelight.signals.recording import check_rate
from sidelight.utils.names import check_modality
from sidelight.utils.units import parse_unit
from sidelight.utils.yaml12 import parse_yaml

FILE_KINDS = ("video", "frames", "audio")
"""Recording types whose windows stay segments of their files."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Where a modality comes from in every session.

    Args:
        file: path inside the session's folder; `*` stands for any characters, and one file has to match. Empty: the
            session itself.
        name: the recording in the file, or channels of it (`ACC[2]`); empty: the only one, or the one that is called
            like the modality.
        columns: of a plain table, the columns to read.
        time: of a plain table, its column of time stamps: numbers in `time_unit`, or dates and times of day.
        time_unit: "s", "ms", "us", "ns", or "samples", which `rate` counts.
        rate: sampling rate in Hz, for files that state none.
        format: name of the format; empty: by the file.
        unit: unit of the values, where the file states none or a wrong one.
        convert_to: unit to which the values are converted.
        resample_to: sampling rate of the windows in Hz; 0: the recording's own.
        largest_gap: longest time without a sample, in seconds, that is bridged by a straight line; 0: three periods.
        shift: seconds to add to the file's clock.
        zero: the modality whose first sample is at 0 s on this file's clock; empty: the files share a clock, or say
            the date and time at which they begin.
        optional: keep windows that this sensor does not cover; their rows lack the modality.
        kind: "video", "frames" or "audio": rows stay segments of the file, decoded when they are needed. Empty: values.
        settings: of that recording type, such as frames, size, rate.
    """

    file: str = ""
    name: str = ""
    columns: tuple[str, ...] = ()
    time: str = ""
    time_unit: str = "s"
    rate: float = 0.0
    format: str = ""
    unit: str = ""
    convert_to: str = ""
    resample_to: float = 0.0
    largest_gap: float = 0.0
    shift: float = 0.0
    zero: str = ""
    optional: bool = False
    kind: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """Where the labels of a session come from, and which of them a window gets.

    Args:
        file: path inside the session's folder, or beside the YAML file if `session` is given. Read are tables with a
            column of onsets, BIDS events, annotations of EDF, markers of XDF, tags of E4, ELAN, Praat, and tracks.
        onset: column of the times at which labels begin; empty: the usual names.
        duration: column of durations.
        end: column of the times at which labels end.
        label: column of the labels; empty: the usual names.
        session: column of the session, if one file holds the labels of all.
        tier: of ELAN and Praat, the tier to read; empty: the only one.
        time_unit: unit of times in a table: "s", "ms", "us", "ns", or "samples", which `rate` counts.
        rate: samples or labels per second, for times in samples, and for a track without a column of times.
        until: when a label without a duration ends: "next": at the next one; "moment": at once, for `at: events`.
        longest: longest time in seconds for which a label holds until the next one; 0: any.
        names: label -> name; labels that are not named count as none. Empty: all labels, as they are written.
        rule: "majority": the label that holds for most of the window; "centre": the one that holds at its middle;
            "mean": the mean of numeric labels over time.
        threshold: share of the window for which a label has to hold (majority), or any label (mean).
        unlabelled: "keep" or "drop" windows without a label.
        shift: seconds to add to the labels' clock.
        zero: the modality whose first sample is at 0 s on the labels' clock; empty: as for a sensor.
        format: name of the format; empty: by the file.
    """

    file: str = ""
    onset: str = ""
    duration: str = ""
    end: str = ""
    label: str = ""
    session: str = ""
    tier: str = ""
    time_unit: str = "s"
    rate: float = 0.0
    until: Literal["next", "moment"] = "next"
    longest: float = 0.0
    names: dict[str, str] = field(default_factory=dict)
    rule: Literal["majority", "centre", "mean"] = "majority"
    threshold: float = 0.5
    unlabelled: Literal["keep", "drop"] = "keep"
    shift: float = 0.0
    zero: str = ""
    format: str = ""


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """Sessions, sensors and labels, and how they are cut.

    Args:
        sessions: folders or files, one a session, as a path in which `*` stands for any characters; or a table with
            the columns `session` (a path) and, as you like, `subject`, `split` and others that are copied to the rows.
        subject: pattern (a regular expression with one group) that finds the person in the session's name; empty: the
            column of the table, or each session is a person.
        seconds: length of a window.
        hop: seconds from the start of one window to the start of the next; 0: `seconds`.
        at: "grid": windows follow each other; "events": one begins at the onset of every label.
        offset: with `at: events`, seconds from an onset to its window's start.
        timezone: zone of clocks that do not name theirs, such as Europe/Paris.
        available: modalities that a student has.
        privileged: modalities that only teachers have.
        name: name of the data set.
    """

    sessions: str = "*"
    subject: str = ""
    seconds: float = 0.0
    hop: float = 0.0
    at: Literal["grid", "events"] = "grid"
    offset: float = 0.0
    timezone: str = ""
    available: tuple[str, ...] = ()
    privileged: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Plan:
    """All settings, and the folder to which their paths are relative."""

    folder: Path
    settings: WindowSettings
    sensors: dict[str, Sensor]
    labels: LabelSource | None

    @property
    def hop(self) -> float:
        """Seconds from window to window."""
        return self.settings.hop or self.settings.seconds


def read_plan(path: Path, given: Mapping[str, Any]) -> Plan:
    """Read the settings of a YAML file.

    Args:
        path: the file.
        given: settings that replace those of the file, such as `seconds`.

    Raises:
        ConfigError: an unknown or missing setting, or a value out of range; names the file and the setting.
    """
    try:
        tree = parse_yaml(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {shown(tree)}; expected settings: sessions, sensors, labels, seconds, …")
    try:
        return make_plan(path.parent, {**tree, **given})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def make_plan(folder: Path, tree: Mapping[str, Any]) -> Plan:
    """Check settings.

    Args:
        folder: to which paths are relative.
        tree: the settings of `WindowSettings`, `sensors` (modality -> settings of a `Sensor`, or its file) and `labels`
            (settings of a `LabelSource`, or its file).

    Raises:
        ConfigError: an unknown or missing setting, or a value out of range.
    """
    rest = dict(tree)
    sensors, labels = rest.pop("sensors", None), rest.pop("labels", None)
    known = [*WindowSettings.__dataclass_fields__, "sensors", "labels"]
    for name in rest:
        if name not in known:
            raise ConfigError(unknown("setting", name, known))
    settings = WindowSettings(**read_arguments(WindowSettings, rest, "windows"))
    if not isinstance(sensors, Mapping) or not sensors:
        raise ConfigError(f"sensors is {shown(sensors)}; expected modality: {{file: …}} for each modality")
    made = {str(m): _read_sensor(str(m), value) for m, value in sensors.items()}
    plan = Plan(folder, settings, made, None if labels is None else _read_labels(labels))
    _check(plan)
    return plan


def _read_sensor(m: str, value: Any) -> Sensor:
    where = f"sensors.{m}"
    check_modality(m, where, ConfigError)
    if m in ("id", "label", "session", "subject", "start", "end", "share", "split"):
        raise ConfigError(f"{where}: {m!r} is a column of the rows; call the modality something else")
    value = {"file": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {shown(value)}; expected a file, or settings: file, name, …")
    sensor = Sensor(**read_arguments(Sensor, value, where))
    if sensor.kind and sensor.kind not in FILE_KINDS:
        hint = f" ({sensor.kind!r} has no time)" if sensor.kind in RECORDING_TYPES else ""
        raise ConfigError(f"{where}: {unknown('kind', sensor.kind, FILE_KINDS)}{hint}")
    if sensor.settings and not sensor.kind:
        raise ConfigError(f"{where}: settings are those of a kind; name it: {', '.join(FILE_KINDS)}")
    _check_times(where, sensor.time_unit, sensor.rate)
    for name in ("resample_to", "largest_gap"):
        if not 0 <= getattr(sensor, name) < math.inf:
            raise ConfigError(f"{where}.{name} is {getattr(sensor, name)}; expected a number from 0 on")
    for unit in filter(None, (sensor.unit, sensor.convert_to)):
        parse_unit(unit)
    return sensor


def _read_labels(value: Any) -> LabelSource:
    value = {"file": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        raise ConfigError(f"labels is {shown(value)}; expected a file, or settings: file, onset, label, …")
    value = dict(value)
    if isinstance(names := value.get("names"), Mapping):
        value["names"] = {str(k): str(v) for k, v in names.items()}
    labels = LabelSource(**read_arguments(LabelSource, value, "labels"))
    _check_times("labels", labels.time_unit, labels.rate)
    if not 0 <= labels.threshold <= 1:
        raise ConfigError(f"labels.threshold is {labels.threshold}; expected a share of the window, 0 to 1")
    if not labels.file:
        raise ConfigError("labels.file is empty; name the file of the labels inside the session's folder")
    if labels.duration and labels.end:
        raise ConfigError("labels: name the column of durations or the column of ends, not both")
    if labels.names and labels.rule == "mean":
        raise ConfigError("labels: names are for classes, and rule 'mean' is for numbers; leave one out")
    return labels


def _check_times(where: str, unit: str, rate: float) -> None:
    if unit not in (*SECONDS, "samples"):
        raise ConfigError(f"{where}: {unknown('unit of time', unit, (*SECONDS, 'samples'))}")
    if unit == "samples" or rate:
        check_rate(rate, f"{where}.rate")


def _check(plan: Plan) -> None:
    settings = plan.settings
    if not 0 < settings.seconds < math.inf:
        raise ConfigError(f"seconds is {settings.seconds}; expected the length of a window, above 0")
    if not 0 <= settings.hop < math.inf or not math.isfinite(settings.offset):
        raise ConfigError(f"hop is {settings.hop} and offset is {settings.offset}; expected seconds, hop from 0 on")
    if settings.at == "events" and plan.labels is None:
        raise ConfigError("at: events needs labels, whose onsets are the starts of windows")
    for m in (*settings.available, *settings.privileged):
        if m not in plan.sensors:
            raise ConfigError(unknown("modality", m, plan.sensors))
    for where, zero in [(f"sensors.{m}", s.zero) for m, s in plan.sensors.items()] + (
        [("labels", plan.labels.zero)] if plan.labels else []
    ):
        if zero and zero not in plan.sensors:
            raise ConfigError(f"{where}.zero: {unknown('modality', zero, plan.sensors)}")
        if zero and plan.sensors[zero].zero:
            raise ConfigError(f"{where}.zero names {zero!r}, whose own clock begins with another; name that one")
    if all(s.optional for s in plan.sensors.values()):
        raise ConfigError("every sensor is optional; at least one has to cover a window")
