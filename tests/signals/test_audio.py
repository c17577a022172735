"""A part of a sound file is the slice of the whole, in every format; and times that cannot be are named."""

from __future__ import annotations

import numpy as np
import pytest

from sidelight.errors import ConfigError, DataError
from sidelight.signals import read_audio

sf = pytest.importorskip("soundfile", reason='sound files need soundfile: pip install ".[audio]"')

SECONDS = 4.1
FORMATS = {
    "a.mp3": (22050, {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.7}),
    "low.mp3": (44100, {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.9}),
    "a.ogg": (8000, {"format": "OGG", "subtype": "VORBIS", "compression_level": 1.0}),
    "b.ogg": (44100, {"format": "OGG", "subtype": "VORBIS"}),
    "a.opus": (48000, {"format": "OGG", "subtype": "OPUS"}),
    "a.flac": (16000, {}),
    "a.wav": (16000, {}),
}


def write(path, rate, seconds=SECONDS, **how):
    """A tone that swells, over noise: every sample differs from its neighbours."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(t))
    wave = 0.5 * np.sin(2764 * t) * (0.5 + 0.5 * np.sin(4.4 * t)) + 0.05 * noise
    with sf.SoundFile(path, "w", rate, 1, **how) as file:
        for i in range(0, len(t), 4096):
            file.write(wave[i : i + 4096].clip(-1, 1))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    return {name: write(folder / name, rate, **how) for name, (rate, how) in FORMATS.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_a_part_is_the_slice_of_the_whole(files, name):
    """The whole file is what soundfile decodes; parts lie everywhere, also in the last page and frame."""
    whole, rate = sf.read(files[name], dtype="float32")
    n = len(whole)
    np.testing.assert_array_equal(read_audio(files[name]).values[:, 0], whole)
    places = np.random.default_rng(1).integers(0, n, 40).tolist()
    for first in (*places, 1, n // 2, n - 3000, n - 500, n - 100, n - 1):
        count = min(n - first, 2000)
        part = read_audio(files[name], start=first / rate, seconds=count / rate)
        assert part.start == pytest.approx(first / rate, abs=1e-12)
        np.testing.assert_allclose(part.values[:, 0], whole[first : first + count], atol=1e-4)
    rest = read_audio(files[name], start=(n - 700) / rate)
    np.testing.assert_allclose(rest.values[:, 0], whole[-700:], atol=1e-4)


@pytest.mark.parametrize("name", ["a.ogg", "b.ogg", "a.opus"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.9999])
def test_truncated_ogg_files_are_named(files, tmp_path, name, share):
    """libsndfile reads what is there, and says nothing."""
    data = files[name].read_bytes()
    cut = tmp_path / name
    cut.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=rf"{name} is truncated: its last page is cut off"):
        read_audio(cut)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.5])
def test_times_that_are_none_are_named(files, value):
    with pytest.raises(ConfigError, match=r"a.mp3: a part from .* expected start >= 0"):
        read_audio(files["a.mp3"], start=value)
    for seconds in (value, 0):
        with pytest.raises(ConfigError, match=r"a.mp3: a part of .* expected seconds > 0"):
            read_audio(files["a.mp3"], seconds=seconds)
    for rate in (value, 0):
        with pytest.raises(ConfigError, match=r"a.mp3: a declared sampling rate of .* expected more than 0"):
            read_audio(files["a.mp3"], rate=rate)


@pytest.mark.parametrize("name", FORMATS)
def test_what_lies_behind_the_end_is_named(files, name):
    for part in ({"start": SECONDS}, {"start": 1e300}, {"start": 4.0, "seconds": 0.2}, {"seconds": 1e300}):
        with pytest.raises(DataError, match=rf"{name} lasts 4.1 s; asked for"):
            read_audio(files[name], **part)
    with pytest.raises(DataError, match=rf"{name} lasts 4.1 s; asked for 1e-09 s"):
        read_audio(files[name], seconds=1e-9)
