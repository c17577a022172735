"""The ranges that the folder of a sweep holds, and the check that a call continues this sweep."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidelight.errors import RunError
from sidelight.experiment.draws import FOLDER, list_finished
from sidelight.experiment.run_folder import ELSEWHERE
from sidelight.results.job import is_sealed, seal_record
from sidelight.sweeps import Sweep
from sidelight.sweeps.space import describe_range, space_from_dict
from sidelight.utils.atomic import write_atomic

SWEEP = "sweep.json"
"""The file in the folder of a sweep that holds its ranges."""


def check_sweep(folder: Path, sweep: Sweep | None, joins: bool) -> None:
    """Check that a run folder holds this sweep, or none if it is None, and store its ranges.

    Args:
        folder: the run folder.
        sweep: the sweep.
        joins: whether another process runs in the folder.

    Raises:
        RunError: the folder holds another sweep, or a run without a sweep (or the other way round).
    """
    then = read_sweep(folder)
    tested = any(folder.glob("jobs/[!.]*/job.json"))
    started = joins or tested or bool(list_finished(folder))
    if sweep is None:
        if then is not None and started:
            raise RunError(
                f"{folder} holds a sweep ({_describe(then)}), whose jobs are the best of several draws. Continue it "
                f"with: sidelight sweep {folder / 'config.yaml'} --resume. {ELSEWHERE}"
            )
        (folder / SWEEP).unlink(missing_ok=True)
        return
    now = json.loads(json.dumps(sweep.to_dict()))
    if then is None and started:
        raise RunError(f"{folder} holds a run without a sweep; its jobs cannot be mixed with draws. {ELSEWHERE}")
    if then is not None and started and then != now:
        more = {**then, "trials": 0} == {**now, "trials": 0} and now["trials"] > then["trials"]
        if more and tested:
            raise RunError(
                f"{folder} has tested what its {then['trials']} draws chose. More draws would choose again, after a "
                f"look at the test rows. {ELSEWHERE}"
            )
        if joins or not more or sweep.sampler not in ("random", "tpe"):
            raise RunError(
                f"{folder} holds another sweep:\n  {_describe(then)} there\n  {_describe(now)} here\n{ELSEWHERE}"
            )
    if not started:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
    elif then == now:
        return
    write_atomic(folder / SWEEP, seal_record(now, {}))


def read_sweep(folder: Path) -> dict[str, Any] | None:
    """What sweep.json holds; None if there is none."""
    file = folder / SWEEP
    if not file.exists():
        return None
    try:
        stored = json.loads(file.read_text("utf-8"))
        if not (isinstance(stored, dict) and "space" in stored and "sha256" in stored and is_sealed(stored)):
            raise ValueError("it does not match its checksum")
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file} is damaged ({error}). Restore it from a copy. {ELSEWHERE}") from error
    return {name: stored[name] for name in ("space", "sampler", "trials")}


def _describe(stored: Mapping[str, Any]) -> str:
    ranges = [f"{name}={describe_range(one)}" for name, one in space_from_dict(stored["space"]).items()]
    return f"{', '.join(ranges)}; {stored['sampler']}, {stored['trials']} draws"
