"""The prepared GPU measurement, with tiny sizes on the pretend device: every section ends with figures."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest

from helpers.pretend_device import PRETEND, sharing_the_cpu_stream

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="an sdist has no benchmarks")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    yield gpu
    for name in ("gpu", "gpu_table", "gpu_training", "gpu_transport", "training_step"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_every_section_ends_with_figures_and_without_an_error(gpu, capsys):
    with sharing_the_cpu_stream():
        rows = gpu.measure(PRETEND, tiny=True, seconds=120)
    print(*(row.line() for row in rows), sep="\n")
    assert [row for row in rows if row.status in ("error", "wrong")] == []
    for name in gpu.SECTIONS:
        found = [row for row in rows if row.section == name and row.value is not None and row.quantity != "duration"]
        assert found, name
    written = io.StringIO()
    gpu.write_csv(rows, written)
    read = list(csv.DictReader(io.StringIO(written.getvalue())))
    assert [row["case"] for row in read] == [row.case for row in rows]


def test_a_section_that_fails_or_hangs_is_a_row_and_the_next_one_runs(gpu):
    import time

    from gpu_table import Row, run_sections

    def fails(clock):
        yield Row("fails", "one", "time", 1.0)
        raise RuntimeError("no such kernel")

    def hangs(clock):
        yield Row("hangs", "one", "time", 1.0)
        time.sleep(60)

    def ends(clock):
        yield Row("ends", "one", "time", clock.left())

    start = time.monotonic()
    rows = run_sections({"fails": (1, fails), "hangs": (1, hangs), "ends": (1, ends)}, 0.6)
    assert time.monotonic() - start < 5
    told = {(row.section, row.status): row for row in rows if row.quantity != "duration"}
    assert "no such kernel" in told["fails", "error"].note
    assert "interrupted" in told["hangs", "left out"].note
    assert 0 < told["ends", "measured"].value <= 0.6
    assert {row.section for row in rows if row.value == 1.0} == {"fails", "hangs"}


def test_a_check_beyond_its_limit_is_wrong(gpu):
    from gpu_transport import check

    assert check("kernels", "a", 1e-3, 1e-4, "b").status == "wrong"
    assert check("kernels", "a", float("nan"), 1e-4, "b").status == "wrong"
    assert check("kernels", "a", 1e-5, 1e-4, "b").status == "measured"
