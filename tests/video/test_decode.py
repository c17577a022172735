"""Decoding: every frame the right one in every container, sound on the same clock, and damaged files by name."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.slow import mostly_slow
from sidelight.errors import ConfigError, DataError
from sidelight.signals import cut
from sidelight.video import clip_frames, decode, probe, read_frames, read_sound

FRAMES, RATE, SOUND = 40, 25, 16000


@pytest.fixture(scope="module")
def av():
    return pytest.importorskip("av", reason='video needs PyAV: pip install ".[video]"')


def picture(i: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame i: green says its number, the left half is red as well."""
    x = np.zeros((height, width, 3), np.uint8)
    x[..., 1] = 6 * i
    x[:, : width // 2, 0] = 200
    return x


def number(frame: torch.Tensor) -> int:
    return round(float(frame[1].float().mean()) / 6)


def make(av, path, codec="libx264", frames=FRAMES, sound=True, late=0, options=None):
    """A tiny video with a sine; `late`: frames by which the sound starts after the picture."""
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=RATE, options={"g": "12", **(options or {})})
        video.width, video.height = 64, 48
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        audio = (
            file.add_stream("pcm_s16le" if path.suffix != ".mp4" else "aac", rate=SOUND, layout="stereo")
            if sound
            else None
        )
        for i in range(frames):
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        file.mux(video.encode())
        if audio:
            t = np.arange((frames - late) * SOUND // RATE) / SOUND
            wave = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
            chunk = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
            chunk.sample_rate, chunk.pts = SOUND, late * SOUND // RATE
            file.mux(audio.encode(chunk))
            file.mux(audio.encode())
    return path


KINDS = {
    "b-frames.mp4": {"options": {"bf": "2"}},
    "one-key.mkv": {"options": {"g": "250", "bf": "2"}},
    "keys.mkv": {"options": {"bf": "2"}},
    "open.mkv": {"options": {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12"}},
    "open.avi": {"options": {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12"}},
    "xvid.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "plain.avi": {"codec": "mpeg4", "options": {"bf": "0"}},
    "pictures.avi": {"codec": "mjpeg", "sound": False},
}


@pytest.fixture(scope="module")
def files(av, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return {name: make(av, folder / name, **how) for name, how in KINDS.items()}


@pytest.mark.parametrize("name", mostly_slow(list(KINDS), ["b-frames.mp4", "open.mkv", "xvid.avi", "pictures.avi"]))
def test_any_frame_is_the_one_that_decoding_everything_gives(files, name):
    video = probe(files[name])
    assert (len(video), video.rate, video.height, video.width) == (FRAMES, RATE, 48, 64)
    np.testing.assert_allclose(video.times, np.arange(FRAMES) / RATE, atol=2e-3)
    assert video.seconds == pytest.approx(FRAMES / RATE, abs=2e-3)
    everything = read_frames(video, range(FRAMES))
    assert everything.shape == (FRAMES, 3, 48, 64)
    assert everything.dtype == torch.uint8
    assert np.abs(np.array([number(f) for f in everything]) - np.arange(FRAMES)).max() <= 1  # lossy
    for i in range(FRAMES):
        torch.testing.assert_close(read_frames(video, [i]), everything[[i]], rtol=0, atol=0)
    asked = [17, 3, 17, 39]
    torch.testing.assert_close(read_frames(pickle.loads(pickle.dumps(video)), asked), everything[asked], rtol=0, atol=0)


def test_frames_are_scaled_while_decoding(files):
    small = read_frames(probe(files["b-frames.mp4"]), [20], size=(12, 32))
    assert small.shape == (1, 3, 12, 32)
    assert number(small[0]) == 20
    assert small[0, 0, :, :15].float().mean() > 150 > 50 > small[0, 0, :, 17:].float().mean()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_rotated_video_is_shown_upright(files, tmp_path, turns):
    """A phone stores frames as its sensor lies and says in the header how to turn them."""
    data = bytearray(files["b-frames.mp4"].read_bytes())
    at = data.find(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[at : at + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    cos, sin = {1: (0, -1), 2: (-1, 0), 3: (0, 1)}[turns]  # turned left so often
    data[at : at + 36] = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    stored = read_frames(probe(files["b-frames.mp4"]), [5])
    torch.testing.assert_close(read_frames(probe(path), [5]), torch.rot90(stored, turns, (2, 3)), rtol=0, atol=0)
    size = (30, 20) if turns % 2 else (20, 30)
    scaled = read_frames(probe(path), [5], size)
    torch.testing.assert_close(
        scaled, torch.rot90(read_frames(probe(files["b-frames.mp4"]), [5], (20, 30)), turns, (2, 3))
    )


@pytest.mark.parametrize("name", ["b-frames.mp4", "keys.mkv", "plain.avi"])
def test_sound_is_one_channel_on_the_clock_of_the_frames(files, name):
    video = probe(files[name])
    assert video.audio_rate == SOUND
    whole = read_sound(video)
    assert whole.start == pytest.approx(0, abs=0.05)
    assert whole.seconds == pytest.approx(FRAMES / RATE, abs=0.1)
    t = whole.start + np.arange(len(whole.values)) / SOUND + video.origin
    inside = (t > 0.1) & (t < 1.5)
    np.testing.assert_allclose(whole.values[inside, 0], 8000 / 32768 * np.sin(2 * np.pi * 440 * t[inside]), atol=0.03)
    part = read_sound(video, 1.2, 0.25)
    assert (part.start, part.seconds) == (pytest.approx(1.2, abs=1e-3), 0.25)
    first = round((part.start - whole.start) * SOUND)
    np.testing.assert_allclose(part.values, whole.values[first : first + len(part.values)], atol=1e-4)


def test_sound_that_starts_late_stays_late(av, tmp_path):
    sound = read_sound(probe(make(av, tmp_path / "late.mkv", late=10)))
    assert sound.start == pytest.approx(10 / RATE, abs=2e-3)
    assert cut({"sound": sound}, 0.5, 0.5).starts[0] == pytest.approx(0.4, abs=2e-3)


def test_damaged_files_are_named(files, tmp_path):
    def damaged(name: str, data: bytes):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    mp4, mkv, avi = (files[n].read_bytes() for n in ("b-frames.mp4", "keys.mkv", "plain.avi"))
    with pytest.raises(DataError, match=r"cut.mp4: truncated, damaged or no video"):
        probe(damaged("cut.mp4", mp4[: len(mp4) // 2]))
    with pytest.raises(DataError, match=r"cut.mkv is truncated: \d.\d\d s of 1.\d\d s are there"):
        probe(damaged("cut.mkv", mkv[: len(mkv) // 2]))
    with pytest.raises(DataError, match=r"cut.avi is truncated: \d+ of 40 frames are there"):
        probe(damaged("cut.avi", avi[: len(avi) // 2]))
    for data, why in ((b"", "it is empty"), (b"not a video" * 100, "it is text, beginning with")):
        with pytest.raises(DataError, match=f"no.mp4: {why}"):
            probe(damaged("no.mp4", data))
    with pytest.raises(DataError, match=r"none.mp4 does not exist"):
        probe(tmp_path / "none.mp4")


def test_a_damaged_frame_is_named_and_the_others_are_read(av, tmp_path):
    path = make(av, tmp_path / "a.avi", "mjpeg", sound=False)
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(8):  # the eighth picture
        at = data.find(b"\xff\xd8\xff", at + 1)
    data[at : at + 610] = bytes(610)
    path.write_bytes(data)
    video = probe(path)
    with pytest.raises(DataError, match=r"a.avi: frame 7 of 40 cannot be decoded; the file is damaged there"):
        read_frames(video, range(5, 10))
    assert [number(f) for f in read_frames(video, [6, 8, 30])] == [6, 8, 30]


def test_wrong_questions_are_named(files, av, tmp_path):
    video = probe(files["pictures.avi"])
    with pytest.raises(DataError, match=r"has frames 0–39; asked for \[40\]"):
        read_frames(video, [40])
    with pytest.raises(DataError, match="asked for none"):
        read_frames(video, [])
    with pytest.raises(DataError, match=r"pictures.avi has no sound track"):
        read_sound(video)
    with pytest.raises(DataError, match=r"no sound from 30 s on; its video lasts 1.6 s"):
        read_sound(probe(files["plain.avi"]), 30)
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as file:
        audio = file.add_stream("pcm_s16le", rate=SOUND, layout="mono")
        chunk = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        chunk.sample_rate = SOUND
        file.mux(audio.encode(chunk))
    with pytest.raises(DataError, match=r"sound.mkv has no video stream"):
        probe(path)


class TestClips:
    @given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**30))
    def test_clips_lie_inside_and_are_drawn_again_alike(self, total, frames, stride, seed):
        drawn = [clip_frames(total, frames, stride, generator=torch.Generator().manual_seed(seed)) for _ in range(2)]
        np.testing.assert_array_equal(*drawn)
        for clip in (drawn[0], clip_frames(total, frames, stride)):
            assert len(clip) == frames
            assert clip.min() >= 0
            assert clip.max() < total
            steps = np.diff(clip)
            if (frames - 1) * stride < total:
                assert (steps == stride).all()
            else:  # all there is, and its last frame again
                assert clip[0] == 0
                assert clip[-1] == total - 1
                assert (steps >= 0).all()

    def test_every_start_is_drawn_and_the_middle_is_the_middle(self):
        g = torch.Generator().manual_seed(0)
        assert {int(clip_frames(10, 3, 2, generator=g)[0]) for _ in range(200)} == set(range(6))
        assert clip_frames(10, 4, 2).tolist() == [2, 4, 6, 8]
        assert clip_frames(10, 3, 1, start=8).tolist() == [8, 9, 9]

    def test_mistakes(self):
        with pytest.raises(ConfigError, match="a clip of 0 frames"):
            clip_frames(10, 0)
        with pytest.raises(DataError, match="without frames"):
            clip_frames(0, 4)
        with pytest.raises(DataError, match="starts at frame 10 of 10"):
            clip_frames(10, 4, start=10)


def test_a_clip_is_decoded_from_its_key_frame_on(files, monkeypatch):
    """Not from the beginning: the frames before it are never asked of the decoder."""
    decoded = []
    plain = decode._decode_all

    def counted(container, stream):
        for frame in plain(container, stream):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(decode, "_decode_all", counted)
    for name in ("b-frames.mp4", "keys.mkv"):
        decoded.clear()
        read_frames(probe(files[name]), [30, 32])
        assert len(decoded) <= 12
