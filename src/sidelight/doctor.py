"""Check this machine: one line per finding, with the way to fix it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import Literal

from packaging.requirements import Requirement

from sidelight.errors import ConfigError
from sidelight.utils.extras import explain, install
from sidelight.utils.machine import usable_cores

EXTRAS = {
    "onnx": ("export", "sidelight export --onnx"),
    "onnxruntime": ("export", "sidelight export --onnx"),
    "onnxscript": ("export", "sidelight export --onnx"),
    "transformers": ("hf", "encoders hf:…: wav2vec2, BERT and VideoMAE from local folders"),
    "av": ("video", "videos and their audio tracks"),
    "soundfile": ("audio", "audio files"),
    "rasterio": ("raster", "bands of GeoTIFF and .tif files"),
    "neurokit2": ("bio", "cleaning and features of EDA, ECG, EMG and PPG"),
}
"""Package -> the extra that installs it, and what needs it."""

PROVIDERS = {
    "torchvision": "encoders torchvision:…",
    "torchaudio": "no part of sidelight",
    "timm": "encoders timm:…",
}
"""Optional packages. Broken installations of them break other packages, and the error seldom tells why."""

FROM_TORCHS_INDEX = (
    "install it from the index that your torch came from; for a CPU build: pip install {} "
    "--index-url https://download.pytorch.org/whl/cpu"
)
ABSENT = {
    "torchvision": FROM_TORCHS_INDEX.format("torchvision"),
    "timm": "first torchvision, from the index that your torch came from (timm needs it); then: pip install timm",
}
"""Package -> how to install it. PyPI's torchvision cannot be imported beside a torch from another index."""

DECODERS = ("h264", "hevc", "mpeg4", "vp9", "av1", "mjpeg", "aac", "mp3", "flac", "pcm_s16le")
"""Codecs of public video data sets and most recordings."""


@dataclass(frozen=True)
class Check:
    """One finding.

    Args:
        name: the package or part of the machine.
        state: "ok", "missing" (sidelight needs it), "absent" (an extra needs it) or "warning".
        detail: what was found.
        mend: how to fix it.
    """

    name: str
    state: Literal["ok", "missing", "absent", "warning"]
    detail: str
    mend: str = ""

    def __str__(self) -> str:
        state = "OK" if self.state == "ok" else self.state
        return f"{state:<8} {self.name:<12} {self.detail}" + (f"\n{'':22}{self.mend}" if self.mend else "")


def examine() -> list[Check]:
    """Run all checks of this machine."""
    return [_python(), *_packages(), *_torch(), _cores(), _threads(), _disk(), *_extras(), *_providers()]


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Check]:
    """Versions of the packages that sidelight depends on."""
    found = []
    try:
        needed = requires("sidelight") or []
    except PackageNotFoundError:
        yield Check("sidelight", "warning", "imported from a folder, not installed", "pip install -e .")
        return
    for need in map(Requirement, needed):
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        mend = f'pip install "{need.name}{need.specifier}"'
        try:
            installed = version(need.name)
        except PackageNotFoundError:
            yield Check(need.name, "missing", "not installed", mend)
            continue
        found.append(f"{need.name} {installed}")
        if not need.specifier.contains(installed, prereleases=True):
            yield Check(need.name, "missing", f"{installed} is installed; sidelight needs {need.specifier}", mend)
    yield Check("sidelight", "ok", f"{version('sidelight')} with {', '.join(found)}")


def _torch() -> Iterator[Check]:
    try:
        import torch
    except Exception as error:
        yield Check("torch", "missing", f"cannot be imported: {_first(str(error))}", 'pip install "torch>=2.10"')
        return
    yield Check("torch", "ok", str(torch.__version__))
    if torch.cuda.is_available():
        yield from map(_gpu, range(torch.cuda.device_count()))
    elif torch.version.cuda is None:
        yield Check("cuda", "absent", "this torch is built for CPUs; sidelight's studies run well on them")
    else:
        mend = "if there is a GPU, its driver is missing or older than this torch expects"
        yield Check("cuda", "absent", f"torch is built for CUDA {torch.version.cuda}, but sees no device", mend)
    yield _device()


def _device() -> Check:
    """The device that a run takes by default."""
    from sidelight.utils.device import choose_device, describe_device, measure_memory, supports_bf16

    try:
        device = choose_device()
    except ConfigError as error:
        return Check("device", "warning", _first(str(error)), "hide the device, or set training.device=cpu")
    half = "bfloat16 works" if supports_bf16(device) else "no bfloat16"
    size = measure_memory(device)
    memory = f" with {size / 2**30:.1f} GiB" if size else ""
    found = f"{describe_device(device)}{memory}, {half}: where runs train (training.device=auto)"
    return Check("device", "ok", found)


def _gpu(number: int) -> Check:
    """Check a small matrix product on a device."""
    import torch

    name = torch.cuda.get_device_name(number)
    try:
        one = torch.ones(8, 8, device=f"cuda:{number}")
        right = float((one @ one).sum()) == 512
        free, whole = torch.cuda.mem_get_info(number)
    except Exception as error:  # drivers raise many kinds of errors
        mend = "install a torch built for this device and driver, or hide it: CUDA_VISIBLE_DEVICES="
        return Check(
            "cuda", "warning", f"{name} (cuda:{number}) is there, but cannot be used: {_first(str(error))}", mend
        )
    if not right:
        return Check("cuda", "warning", f"{name} (cuda:{number}) computes wrongly", "it may be faulty; do not use it")
    return Check("cuda", "ok", f"{name} (cuda:{number}), {free / 2**30:.1f} of {whole / 2**30:.1f} GiB free")


def _cores() -> Check:
    usable = usable_cores()
    return Check("cores", "ok", f"{usable} usable of {os.cpu_count()}; a run uses all of them unless --jobs sets fewer")


def _threads() -> Check:
    """Number of threads of a process for linear algebra; the workers of a run use one each."""
    found = {name: value for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if (value := os.environ.get(name))}
    try:
        from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

        pools = [f"{pool['internal_api']} {pool['num_threads']}" for pool in threadpool_info()]
    except ImportError:
        pools = []
    named = ", ".join(f"{name}={value}" for name, value in found.items()) or "OMP_NUM_THREADS is not set"
    return Check("threads", "ok", f"{named}; {', '.join(sorted(set(pools))) or 'no BLAS pool loaded yet'}")


def _disk() -> Check:
    free = shutil.disk_usage(".").free / 2**30
    if free < 1:
        return Check("disk", "warning", f"{free:.2f} GiB free here", "free some space, or choose --output elsewhere")
    if not os.access(".", os.W_OK):
        return Check("disk", "warning", "this folder is read-only", "choose --output elsewhere")
    return Check("disk", "ok", f"{free:.1f} GiB free here")


def _extras() -> Iterator[Check]:
    for name, (extra, use) in EXTRAS.items():
        mend = install(extra)
        if find_spec(name) is None:
            yield Check(name, "absent", f"not installed; for {use}", mend)
        elif error := import_error(name):
            yield Check(name, "warning", f"installed, but cannot be imported: {error}", mend)
        else:
            yield Check(name, "ok", f"{version(name)}, for {use}")
            if name == "av":
                yield _codecs()


def _codecs() -> Check:
    """Which of the usual codecs this PyAV decodes."""
    import av  # type: ignore[import-not-found]

    lacking = [name for name in DECODERS if name not in av.codecs_available]
    if lacking:
        mend = "the wheels from PyPI have them all: pip install --force-reinstall av"
        return Check("codecs", "warning", f"this PyAV does not decode {', '.join(lacking)}", mend)
    return Check("codecs", "ok", f"decodes {', '.join(DECODERS)}")


def _providers() -> Iterator[Check]:
    for name, use in PROVIDERS.items():
        if find_spec(name) is None:
            if name in ABSENT:
                yield Check(name, "absent", f"not installed, not needed; for {use}", ABSENT[name])
        elif error := import_error(name):
            yield Check(name, "warning", f"installed, but cannot be imported: {error}", explain(name, error))
        else:
            yield Check(name, "ok", f"{version(name)}, for {use}")


def import_error(name: str) -> str:
    """Why a package cannot be imported, or ""; the import runs in its own process."""
    try:
        done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "its import did not end within two minutes"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"the process died with code {done.returncode}"


def _first(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[0][:200]
