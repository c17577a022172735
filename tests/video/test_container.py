"""Times of frames and sound as the files tell them: pauses, dropped and hidden frames, gaps and padding."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
import torch

from helpers.slow import mostly_slow
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.readers.affwild2 import AffWild2
from sidelight.recordings.base import Segment
from sidelight.recordings.pictures import Video as VideoKind
from sidelight.video import probe, read_frames, read_sound, sound
from sidelight.video.mpeg4 import EmptyFrames

av = pytest.importorskip("av", reason='video needs PyAV: pip install ".[video]"')

RATE = 25
EVERY = list(range(40))
DROPPED = [i for i in EVERY if i not in (3, 4, 10, 20, 21, 22)]
PAUSE = [*range(20), *range(95, 115)]


def picture(i: int) -> np.ndarray:
    x = np.zeros((32, 48, 3), np.uint8)
    x[..., 1] = 6 * (i % 40)
    return x


def number(frame: torch.Tensor) -> int:
    return round(float(frame[1].float().mean()) / 6)


def film(path, codec, times, **options):
    """A video with a frame at each of the times, in 1 / RATE seconds; frame i is brighter than frame i − 1."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=RATE, options={"g": "12", **options})
        stream.width, stream.height = 48, 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        for i, t in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, RATE)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def tone(rate, seconds):
    t = np.arange(round(rate * seconds)) / rate
    noise = np.random.default_rng(0).standard_normal(len(t))
    return 0.4 * np.sin(2 * np.pi * (300 + 60 * t) * t) * (0.5 + 0.5 * np.sin(5 * t)) + 0.03 * noise


def talkie(path, codec, rate, seconds=6.0, silent=(), video="mpeg4", **options):
    """A video with a sound track; `silent`: the numbers of the frames whose sound was not recorded."""
    wave = (tone(rate, seconds).clip(-1, 1) * 32767).astype(np.int16)
    with av.open(str(path), "w") as file:
        pictures = file.add_stream(video, rate=RATE, options={"g": "25"})
        pictures.width, pictures.height, pictures.pix_fmt = 48, 32, "yuv420p"
        track = file.add_stream(codec, rate=rate, layout="mono", options=options)
        size = rate // RATE
        for i in range(round(seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts = i
            file.mux(pictures.encode(frame))
            if i in silent:
                continue
            chunk = av.AudioFrame.from_ndarray(wave[None, i * size : (i + 1) * size], format="s16", layout="mono")
            chunk.sample_rate, chunk.pts, chunk.time_base = rate, i * size, Fraction(1, rate)
            file.mux(track.encode(chunk))
        file.mux(pictures.encode())
        file.mux(track.encode())
    return path


CODECS = {
    "plain.avi": "mpeg4",
    "b.avi": "mpeg4",
    "x.avi": "libx264",
    "j.avi": "mjpeg",
    "a.mkv": "libx264",
    "a.mp4": "libx264",
}
OPTIONS = {"plain.avi": {"bf": "0"}, "j.avi": {}}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("shown", [EVERY, DROPPED, PAUSE], ids=["every", "dropped", "pause"])
def test_frames_lie_where_they_were_filmed_in_every_container(tmp_path, name, shown):
    """Dropped frames were refused, or 0.04 to 0.08 s early; a pause was seen in mp4 and not in Matroska and AVI."""
    video = probe(film(tmp_path / name, CODECS[name], shown, **OPTIONS.get(name, {"bf": "2"})))
    np.testing.assert_allclose(video.times, np.array(shown) / RATE, atol=1e-9)
    seconds = (shown[-1] + 1) / RATE
    assert video.seconds == pytest.approx(seconds)
    assert video.rate == pytest.approx(len(shown) / seconds, rel=1e-9)
    assert video.step == pytest.approx(1 / RATE)
    everything = read_frames(video, range(len(shown)))
    assert np.abs(np.array([number(f) for f in everything]) - np.arange(len(shown))).max() <= 1
    for i in (0, 3, 19, len(shown) - 1):
        torch.testing.assert_close(read_frames(video, [i]), everything[[i]], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "plain.avi"])
def test_a_pause_is_named_where_a_rate_is_declared(tmp_path, name):
    path = film(tmp_path / name, CODECS[name], PAUSE, **OPTIONS.get(name, {"bf": "2"}))
    with pytest.raises(DataError, match=r"has 8.69565 frames a second, but 25 are declared.*most are 0.04 s apart"):
        VideoKind(rate=25).probe(Segment(path))
    clip = VideoKind(frames=2, size=(32, 48)).read(Segment(path, 0.2, 0.28))
    assert [number(clip[:, t]) for t in range(2)] == [5, 6]


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    return film(tmp_path_factory.mktemp("cut") / "full.mp4", "libx264", EVERY, bf="2")


@pytest.mark.parametrize(("first", "end"), [(0, 40), (7, 40), (0, 24), (0, 20), (12, 36), (7, 21)])
def test_frames_that_an_edit_list_hides_are_left_out_everywhere(uncut, tmp_path, first, end):
    """As a phone trims: the packets stay, and the list says from where to where they are shown."""
    data = bytearray(uncut.read_bytes())
    at = data.find(b"elst") + 12
    length, begin = struct.unpack(">Ii", data[at : at + 8])
    assert length == 1600
    tick = 12800
    data[at : at + 8] = struct.pack(">Ii", (end - first) * 1000 // RATE, begin + first * tick // RATE)
    path = tmp_path / "trimmed.mp4"
    path.write_bytes(data)
    video, whole = probe(path), read_frames(probe(uncut), range(40))
    with av.open(str(path)) as file:
        assert len(video) == sum(1 for _ in file.decode(video=0)) == end - first
    np.testing.assert_allclose(video.times, np.arange(end - first) / RATE, atol=1e-9)
    assert (video.rate, video.seconds) == (RATE, pytest.approx((end - first) / RATE))
    torch.testing.assert_close(read_frames(video, range(len(video))), whole[first:end], rtol=0, atol=0)
    for i in (0, 1, len(video) - 1):
        torch.testing.assert_close(read_frames(video, [i]), whole[[first + i]], rtol=0, atol=0)
    with pytest.raises(DataError, match=f"has frames 0–{end - first - 1}; asked for"):
        read_frames(video, [end - first])


def test_frames_before_the_first_that_can_be_decoded_are_left_out(tmp_path):
    """A broadcast is recorded from anywhere on: what comes before its first key frame cannot be shown."""
    path = film(tmp_path / "a.ts", "libx264", EVERY, bf="0")
    data = path.read_bytes()
    video = probe(path)
    assert len(video) == 40
    late = tmp_path / "late.ts"
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    late.write_bytes(b"".join([*packets[:3], *packets[12:]]))  # the tables, then from the middle on
    cut = probe(late)
    with av.open(str(late)) as file:
        shown = [frame.time for frame in file.decode(video=0)]
    assert 0 < len(cut) == len(shown) < 40
    np.testing.assert_allclose(cut.times, np.array(shown) - shown[0], atol=1e-9)
    assert read_frames(cut, range(len(cut))).shape[0] == len(cut)


def without(packet, time_bits=5):
    """What XviD writes for a frame that was dropped: the packet's header up to its time, and that nothing is coded."""
    data = bytes(packet)
    at = data.find(b"\0\0\1\xb6") + 4
    bits = "".join(f"{byte:08b}" for byte in data[at:])
    end = bits.index("0", 2) + 1 + 1 + time_bits + 1
    head = bits[:end] + "0"
    head += ("0" + "1" * 7)[: -len(head) % 8]
    empty = av.Packet(data[:at] + int(head, 2).to_bytes(len(head) // 8, "big"))
    empty.pts, empty.dts, empty.duration, empty.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    return empty


@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
def test_frames_that_mpeg4_says_are_not_there_are_left_out(tmp_path, name):
    """They were counted: every frame after them had the number of the one before, and the last could not be read."""
    dropped = (5, 9, 10, 38)
    whole, path = film(tmp_path / f"whole-{name}", "mpeg4", EVERY, bf="0"), tmp_path / name
    with av.open(str(whole)) as source, av.open(str(path), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(p for p in source.demux(video=0) if p.dts is not None):
            packet = without(packet) if i in dropped else packet
            packet.stream = stream
            file.mux(packet)
    shown = [i for i in EVERY if i not in dropped]
    video = probe(path)
    with av.open(str(path)) as file:
        assert len(video) == sum(1 for _ in file.decode(video=0)) == len(shown)
    np.testing.assert_allclose(video.times, np.array(shown) / RATE, atol=1e-9)
    assert video.rate == pytest.approx(len(shown) / 1.6)
    everything = read_frames(video, range(len(shown)))
    assert np.abs(np.array([number(f) for f in everything]) - shown).max() <= 1
    torch.testing.assert_close(read_frames(video, [35, 20]), everything[[35, 20]], rtol=0, atol=0)


def test_the_place_of_a_second_frame_in_a_packet_counts():
    """A packed bitstream: two frames in a packet, then an empty packet; that is two frames in all."""
    vop, header = b"\0\0\1\xb6", bytes.fromhex("000001000000012000c48d8800cd0204061443")
    empty = vop + bytes.fromhex("52cf")
    frame = vop + bytes.fromhex("5370") + bytes(range(40, 120))
    told = EmptyFrames(header)
    assert [told(memoryview(p)) for p in (frame, empty, frame + frame, empty, empty, frame)] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    assert not EmptyFrames(b"")(memoryview(empty))


TRACKS = {
    "aac.mp4": ("aac", 44100),
    "aac.mkv": ("aac", 44100),
    "mp3.mkv": ("libmp3lame", 22050),
    "mp3.avi": ("libmp3lame", 44100),
    "opus.mkv": ("libopus", 48000),
    "flac.mkv": ("flac", 16000),
    "pcm.avi": ("pcm_s16le", 16000),
    "ac3.mkv": ("ac3", 48000),
}


@pytest.mark.parametrize("name", mostly_slow(list(TRACKS), ["aac.mp4", "mp3.mkv", "opus.mkv", "pcm.avi"]))
def test_a_part_of_a_sound_track_is_the_slice_of_the_whole(tmp_path, monkeypatch, name):
    """Of AAC and AC-3, whose decoders draw noise, also over the blocks in which they are decoded."""
    codec, rate = TRACKS[name]
    video = probe(talkie(tmp_path / name, codec, rate))
    for block in (60.0, 4.0):
        monkeypatch.setattr(sound, "BLOCK", block)
        whole = read_sound(video)
        for start, seconds in ((0.0, 0.5), (2.0, 0.3), (3.9, 0.3), (4.0001, 1.0), (5.5, None)):
            part = read_sound(video, start, seconds)
            at = (part.start - whole.start) * rate
            assert at == pytest.approx(max(0, round((start - whole.start) * rate)), abs=1e-6)
            expected = whole.values[round(at) :] if seconds is None else whole.values[round(at) :][: len(part.values)]
            assert seconds is None or len(part.values) == round(seconds * rate)
            np.testing.assert_allclose(part.values, expected, atol=1e-4)


@pytest.mark.parametrize(("codec", "rate"), [("aac", 16000), ("aac", 22050), ("aac", 44100), ("libopus", 48000)])
def test_neither_delay_nor_padding_of_the_encoder_is_left(tmp_path, codec, rate):
    whole = read_sound(probe(talkie(tmp_path / "a.mp4", codec, rate, seconds=2.0)))
    assert len(whole.values) == 2 * rate
    assert whole.start == pytest.approx(0, abs=1e-9)
    truth, inside = tone(rate, 2.0), slice(rate // 2, 3 * rate // 2)
    lags = range(-60, 61)
    fit = [float(whole.values[rate // 2 + k : 3 * rate // 2 + k, 0] @ truth[inside]) for k in lags]
    assert lags[int(np.argmax(fit))] == 0


def test_an_edit_list_ends_the_sound(tmp_path):
    """As iTunes writes: the last packet is as long as all, and the list says where the sound ends."""
    path = talkie(tmp_path / "a.mp4", "aac", 44100, seconds=2.0)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"stts") + 12
    (_, full), (one, rest) = (struct.unpack(">II", data[at + i : at + i + 8]) for i in (0, 8))
    assert (full, one) == (1024, 1)
    assert rest < full
    data[at + 12 : at + 16] = struct.pack(">I", full)
    other = tmp_path / "padded.mp4"
    other.write_bytes(data)
    np.testing.assert_array_equal(read_sound(probe(other)).values, read_sound(probe(path)).values)


def test_sound_of_a_reader_begins_at_the_frame_s_own_time(tmp_path):
    """Frame 20 was filmed after the pause, at 3.8 s; at the average rate it would lie at 2.3 s."""
    video = probe(film(tmp_path / "a.mp4", "libx264", PAUSE, bf="2"))
    assert AffWild2()._sound_time(20, video) == pytest.approx(3.8)
    assert AffWild2()._sound_time(19, video) == pytest.approx(19 / RATE)
    assert AffWild2(rate=30)._sound_time(60, None) == 2.0


def test_a_gap_in_a_sound_track_is_silent_and_what_follows_stays_where_it_was(tmp_path):
    video = probe(talkie(tmp_path / "gap.mkv", "pcm_s16le", 16000, silent=range(50, 75)))
    with pytest.warns(
        SidelightWarning, match=r"gap.mkv: its sound track has 1 gap, 1.00 s in all, the first at 2.00 s"
    ):
        whole = read_sound(video)
    truth = np.round(tone(16000, 6.0) * 32767) / 32768
    truth[32000:48000] = 0
    assert len(whole.values) == 96000
    np.testing.assert_allclose(whole.values[:, 0], truth, atol=1e-4)
    part = read_sound(video, 4.0, 1.0)
    np.testing.assert_allclose(part.values[:, 0], truth[64000:80000], atol=1e-4)


def test_a_damaged_packet_leaves_a_gap_of_its_length(tmp_path, monkeypatch):
    """Shorter than what timestamps may stray by: what follows would come early by it."""
    video = probe(talkie(tmp_path / "a.mkv", "flac", 16000, seconds=2.0, frame_size="320"))
    whole, plain, seen = read_sound(video), sound.decode_packet, []

    def damaged(packet):
        seen.append(packet.pts)
        return None if len(seen) % 1000 == 60 else plain(packet)

    monkeypatch.setattr(sound, "decode_packet", damaged)
    with pytest.warns(SidelightWarning, match=r"a.mkv: its sound track has 1 gap, 0.\d\d s in all"):
        found = read_sound(video)
    assert len(found.values) == len(whole.values)
    lost = np.flatnonzero(found.values[:, 0] != whole.values[:, 0])
    assert 0 < len(lost) <= lost[-1] - lost[0] + 1 < 800
    assert (found.values[lost, 0] == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_times_that_cannot_be_are_named(tmp_path, value):
    video = probe(talkie(tmp_path / "a.mkv", "pcm_s16le", 16000, seconds=1.0))
    with pytest.raises(ConfigError, match=r"a.mkv: a part from .* s on; expected start >= 0"):
        read_sound(video, value)
    for seconds in (value, 0.0):
        with pytest.raises(ConfigError, match=r"a.mkv: a part of .* s; expected seconds > 0"):
            read_sound(video, 0.0, seconds)
    for start in (1.5, 1e300):
        with pytest.raises(DataError, match=r"a.mkv: no sound from .* s on; its video lasts 1 s"):
            read_sound(video, start)


def test_a_bare_stream_without_times_is_named(tmp_path):
    path = film(tmp_path / "a.h264", "libx264", EVERY)
    with pytest.raises(DataError, match=r"a.h264: its 40 frames have no times; it is a bare stream.*ffmpeg -r RATE"):
        probe(path)
