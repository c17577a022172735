"""Builds the networks of an experiment on one row of each modality: what does not fit is said before it runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.data.by_modality import index_rows, map_values
from sidelight.data.preprocess import Preprocessor
from sidelight.data.rows import read_into_memory
from sidelight.errors import ConfigError, SidelightError, SidelightWarning
from sidelight.experiment.fold import read_as_statistics
from sidelight.experiment.provenance import Encoders
from sidelight.networks.build import build_network
from sidelight.networks.encoding import run_encoder
from sidelight.networks.network import Network

SOME = 4
"""Rows that are decoded, beside the first one of each modality."""


def build_on_one_row(config: Config, dataset: Dataset, encoders: Encoders | None = None) -> Network:
    """Build the teacher, whose encoders are those of every network, and run each encoder on a row that is there.

    Args:
        config: the settings, with every default filled in.
        dataset: all rows.
        encoders: modality -> the user's own encoder.

    Raises:
        ConfigError: an encoder does not read the rows of its modality, or fails on one.
        RunError: `network.weights` are missing, damaged, or belong to another network.
        DataError: the row's file cannot be decoded.
    """
    modalities = [*config.available, *config.privileged]
    first = [int(np.flatnonzero(dataset.present[m])[0]) for m in modalities]
    # With a few more rows, so that values vary and are not all standardised to zero.
    rows = np.union1d(first, np.linspace(0, len(dataset) - 1, SOME).round().astype(int))
    some = _take_inputs(dataset, modalities, rows)
    statistics = read_as_statistics(config.network, dataset, modalities)
    with warnings.catch_warnings():
        # A few rows may be constant; the run looks at all of them.
        warnings.simplefilter("ignore", SidelightWarning)
        preprocessor = Preprocessor.fit(
            some, np.arange(len(some)), modalities, statistics, impute=config.impute, detrend=config.detrend
        )
    own = {m: build(preprocessor.shapes[m]) for m, build in (encoders or {}).items() if m in modalities}
    outputs, size = len(dataset.class_names), dataset.size
    network = build_network(preprocessor.shapes, modalities, outputs, config.network, encoders=own, size=size).eval()
    batch = some.batch(preprocessor, modalities).materialize()
    for m, i in zip(modalities, np.searchsorted(rows, first).tolist()):
        row = batch.index_select(torch.tensor([i]))
        try:
            with torch.no_grad():
                run_encoder(network.encoders[m], row.inputs[m], row.lengths.get(m), 1)
        except SidelightError as error:
            raise ConfigError(f"{m!r}: {error}") from None
        except Exception as error:  # whatever a module raises for rows that it cannot read
            shape = tuple(row.inputs[m].shape[1:])
            raise ConfigError(
                f"the encoder of {m!r} fails on {dataset.row(first[modalities.index(m)])}, of shape {shape} after "
                f"preprocessing: {type(error).__name__}: {error}"
            ) from error
    return network


def _take_inputs(dataset: Dataset, modalities: Sequence[str], rows: NDArray) -> Dataset:
    """The rows with these numbers, decoded, of two classes that they do not have: only their inputs are read."""
    return Dataset(
        dataset.name,
        map_values(read_into_memory, index_rows({m: dataset.inputs[m] for m in modalities}, rows)),
        np.arange(len(rows)) % 2,
        np.ones(len(rows), bool),
        "classification",
        ("a", "b"),
        present={m: dataset.present[m][rows] for m in modalities},
        lengths={m: dataset.lengths[m][rows] for m in modalities if m in dataset.lengths},
        impute=dataset.impute,
        standard={m: how for m, how in dataset.standard.items() if m in modalities},
        schema=dataset.schema,
    )
