"""`read_recordings` and `read_events`, and the formats that they know."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sidelight.errors import ConfigError, DataError, SidelightError, listed, unknown
from sidelight.formats import (
    bids,
    biopac,
    e4,
    edf,
    eeg,
    embrace,
    face,
    matlab,
    motion,
    nwb,
    opensignals,
    opensmile,
    physionet,
    tiers,
    wearables,
    xdf,
)
from sidelight.formats.content import Content
from sidelight.signals.events import Events
from sidelight.signals.recording import Recording
from sidelight.utils.files import check_file, check_place, describe_content


@dataclass(frozen=True)
class Format:
    """A format of recordings.

    Args:
        name: by which `format=` asks for it.
        files: what its files look like, for errors.
        matches: whether a path looks like one of its files.
        read: fills a `Content`.
        takes_rate: whether its files state no sampling rate, so that `rate` is needed.
        folder: whether a recording is a folder.
    """

    name: str
    files: str
    matches: Callable[[Path], bool]
    read: Callable[[Content], None]
    takes_rate: bool = False
    folder: bool = False


def _ends(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.name.lower().endswith(suffixes)


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("e4", "a folder with ACC.csv, EDA.csv, … (Empatica E4)", e4.matches, e4.read, folder=True),
        Format("edf", ".edf, .bdf", _ends(".edf", ".bdf", ".rec"), edf.read),
        Format("xdf", ".xdf, .xdfz, .xdf.gz (Lab Streaming Layer)", _ends(".xdf", ".xdfz", ".xdf.gz"), xdf.read),
        Format("bids", "*_physio.tsv.gz, *_stim.tsv.gz, *_events.tsv (BIDS)", bids.matches, bids.read),
        Format("eeg", f"{', '.join(eeg.SUFFIXES)} (MNE-Python)", eeg.matches, eeg.read),
        Format("wfdb", ".hea with .dat (PhysioNet)", physionet.matches, physionet.read),
        Format("acq", ".acq (BIOPAC AcqKnowledge)", _ends(".acq"), biopac.read),
        Format("matlab", ".mat", _ends(".mat"), matlab.read, takes_rate=True),
        Format("embrace", ".avro (Empatica EmbracePlus)", _ends(".avro"), embrace.read),
        Format("c3d", ".c3d (motion capture)", _ends(".c3d"), motion.read_c3d),
        Format("fit", ".fit (Garmin)", _ends(".fit"), motion.read_fit),
        Format("nwb", ".nwb", _ends(".nwb"), nwb.read),
        Format("openface", ".csv of OpenFace", face.matches_openface, face.read_openface),
        Format("pyfeat", ".csv of py-feat", face.matches_pyfeat, face.read_pyfeat, takes_rate=True),
        Format("opensmile", ".csv and .arff of openSMILE", opensmile.matches, opensmile.read),
        Format("opensignals", ".txt of OpenSignals (BITalino, biosignalsplux)", opensignals.matches, opensignals.read),
        Format("biosppy", ".txt of BioSPPy", opensignals.matches_biosppy, opensignals.read_biosppy),
        Format("shimmer", ".csv of Consensys (Shimmer)", wearables.matches_shimmer, wearables.read_shimmer),
        Format("polar", ".txt of Polar Sensor Logger", wearables.matches_polar, wearables.read_polar),
        Format("elan", ".eaf (ELAN)", _ends(".eaf"), tiers.read_elan),
        Format("praat", ".TextGrid (Praat)", _ends(".textgrid"), tiers.read_praat),
        Format("polar-flow", ".csv of Polar Flow", wearables.matches_flow, wearables.read_flow),
    )
}
"""Name -> format. The first one that matches a path reads it."""


def read_recordings(
    path: str | Path,
    *,
    format: str = "",
    rate: float | None = None,
    units: Mapping[str, str] | None = None,
    names: Collection[str] | None = None,
) -> dict[str, Recording]:
    """Read the recordings of a file or folder in one of the field's formats (docs/recordings.md lists them).

    Each recording keeps its own sampling rate, or its time stamps, its unit and its start on the file's clock. Samples
    that were not measured are left out; the others keep their times.

    Args:
        path: the file or folder.
        format: a name in `FORMATS`; "": by the name of the file, or its first lines.
        rate: sampling rate in Hz, for formats that state none.
        units: recording -> unit, in place of the one in the file.
        names: the recordings to read; None: all.

    Returns:
        Name of the channel or stream -> recording, in the order of the file.

    Raises:
        DataError: the file is missing, truncated, damaged or of another format, or holds no recording.
        ConfigError: an unknown format, recording or unit, or a rate where the file states its own.
        RunError: the library that reads the format is not installed.
    """
    content = _read(path, format, Content(check_place(path), rate, units, names))
    if not content.recordings:
        raise DataError(f"{path} holds no recording{'; read_events reads its events' if len(content.events()) else ''}")
    return content.recordings


def read_events(path: str | Path, *, format: str = "") -> Events:
    """Read the events of a file or folder: annotations, markers, tags.

    Args:
        path: the file or folder.
        format: a name in `FORMATS`; "": by the name of the file, or its first lines.

    Returns:
        The events on the clock of the recordings that `read_recordings` returns; none if the file has none.

    Raises:
        As `read_recordings`.
    """
    return _read(path, format, Content(check_place(path), events_only=True)).events()


def find_format(path: str | Path, name: str = "") -> Format:
    """Find the format of a file or folder; raises DataError if none matches, ConfigError for an unknown name."""
    path = Path(path)
    if name:
        if name not in FORMATS:
            raise ConfigError(f"{path}: {unknown('format', name, FORMATS)}")
        return FORMATS[name]
    if not path.is_dir():
        check_file(path)
    for one in FORMATS.values():
        if path.is_dir() == one.folder and one.matches(path):
            return one
    what = "" if path.is_dir() else describe_content(path, path.suffix)
    raise DataError(
        f"{path}: no format of recordings looks like this{f' ({what})' if what else ''}. "
        f"Known are {listed([f'{f.name}: {f.files}' for f in FORMATS.values()])}. format=… names one"
    )


def _read(path: str | Path, name: str, content: Content) -> Content:
    found = find_format(path, name)
    if not found.folder:
        check_file(path)
    if content.rate is not None and not found.takes_rate:
        raise ConfigError(f"{path}: files of format {found.name!r} state their own sampling rates; leave rate out")
    try:
        found.read(content)
    except (SidelightError, ImportError, NameError, MemoryError):
        raise
    except Exception as error:  # whatever a library raises for a file that it cannot read
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        content_of = describe_content(Path(path), Path(path).suffix, of_text=True) if not found.folder else ""
        raise DataError(f"cannot read {path}: {content_of or f'truncated or no such file ({why})'}") from error
    content.finish()
    return content
