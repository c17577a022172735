"""Batches that several processes share: each holds its part of the inputs, and everything else of all rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import sidelight as sl
from helpers import recordings
from sidelight.data.prefetch import materialized_batches
from sidelight.data.preprocess import Preprocessor
from sidelight.data.shard import divide
from sidelight.recordings.lazy import LazyRows
from sidelight.testing.synthetic import make_rows
from sidelight.utils import distributed
from sidelight.utils.distributed import World
from sidelight.video.crop import CropSampler


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Clips and depth as files, beside vectors."""
    data = sl.load(recordings.prepared(tmp_path_factory.mktemp("shard")))
    rows = np.arange(len(data))
    return data.batch(Preprocessor.fit(data, rows, data.modalities)).index_select(torch.as_tensor(rows))


def batches_of(monkeypatch, rank, size, *args, **options):
    monkeypatch.setattr(distributed, "_world", World(rank, size))
    return list(materialized_batches(*args, **options))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("size", [2, 3])
def test_the_parts_of_the_processes_are_the_whole_batch(files, monkeypatch, size, threads):
    """Files in the view of the row, whoever decodes them."""
    parts = list(torch.randperm(24, generator=torch.Generator().manual_seed(0)).split(5))
    crops = CropSampler(1, 0.5, True, True)
    whole = batches_of(monkeypatch, 0, 1, files, parts, crops, 7, threads)
    shared = [batches_of(monkeypatch, rank, size, files, parts, crops, 7, threads) for rank in range(size)]
    for batch, *own in zip(whole, *shared):
        held = [len(b) if b.shard is None else len(b.shard.mine) for b in own]
        if len(batch) < size:
            assert held == [len(batch)] * size
            continue
        assert sum(held) == len(batch)
        assert max(held) - min(held) <= 1
        for m, x in batch.inputs.items():
            assert torch.equal(torch.cat([b.inputs[m] for b in own]), x)
        for b in own:
            assert torch.equal(b.index, batch.index)
            assert torch.equal(b.target, batch.target)
            assert b.present.keys() == batch.present.keys()


def test_a_process_decodes_no_file_of_another(files, monkeypatch):
    decoded: list[int] = []
    read = LazyRows.read
    monkeypatch.setattr(LazyRows, "read", lambda self, *args: (decoded.append(len(self)), read(self, *args))[1])
    (batch,) = batches_of(monkeypatch, 1, 4, files, [torch.arange(9)], threads=0)
    assert len(batch) == 9
    assert decoded == [2] * len(files.files)


def test_rows_of_a_shared_batch_stay_with_their_process(monkeypatch):
    """In any order, and with rows that occur twice."""
    rows = make_rows("classification", "both")
    chosen = torch.tensor([5, 1, 1, 3, 0])
    for rank in range(3):
        (batch,) = batches_of(monkeypatch, rank, 3, rows, [torch.arange(10, 16)])
        some = batch.index_select(chosen)
        assert some.index.tolist() == (chosen + 10).tolist()
        assert some.shard.owner.tolist() == [2, 0, 0, 1, 0]
        mine = (chosen + 10)[some.shard.owner == rank]
        assert torch.equal(some.inputs["phone"], rows.inputs["phone"][mine])


def test_the_longest_row_of_the_whole_batch_sets_the_length(monkeypatch):
    rows = make_rows("classification")
    lengths = torch.arange(len(rows)) % 5 + 3
    rows = replace(rows, lengths={"pulse": lengths}, least_steps={"pulse": 2})
    for rank in range(2):
        (batch,) = batches_of(monkeypatch, rank, 2, rows, [torch.tensor([0, 5, 1, 4])])
        assert batch.inputs["pulse"].shape == (2, 7, 2)


def test_fewer_rows_than_processes_are_computed_by_all(monkeypatch):
    monkeypatch.setattr(distributed, "_world", World(0, 4))
    assert divide(3) is None
    assert divide(4) is not None
