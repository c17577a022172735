"""Ready sweeps: those of the papers, for any experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReadySweep:
    """A sweep of a paper.

    Args:
        about: what it is, for `sidelight sweep --list`.
        methods: the methods to compare, unless others are named.
        space: dotted name of a setting -> the values of the paper.
        sampler: how they are combined.
    """

    about: str
    methods: Sequence[str]
    space: Mapping[str, Any]
    sampler: str = "grid"


READY: dict[str, ReadySweep] = {
    "pkdot-fig6": ReadySweep(
        "batch size x number of anchors (PKDOT, arXiv 2401.15489, Fig. 6)",
        ["pkdot"],
        {"training.batch_size": [32, 64, 128, 256], "transport.k": [5, 15, 30]},
    ),
    "pkdot-fig7": ReadySweep(
        "entropic regularisation (PKDOT, arXiv 2401.15489, Fig. 7); the paper names 0.1 alone, the others are ours",
        ["pkdot"],
        {"transport.epsilon": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]},
    ),
    "amid-table6": ReadySweep(
        "the weights of three losses, one at a time (AMID, CVPR 2023, Table 6)",
        ["amid"],
        {
            "options.amid.mi_student": [3.7, 3.8, 3.9, 4.0, 4.1, 4.2],
            "options.amid.mi_auxiliary": [1.3, 1.4, 1.5, 1.6, 1.7, 1.8],
            "options.amid.adversarial": [0.7, 0.8, 0.9, 1.0, 1.1, 1.2],
        },
        "one-at-a-time",
    ),
    "osmd-ablations": ReadySweep(
        "without, or with another JDN or CTN, one at a time (OS-MD, arXiv 2309.08204, Tables 4 and 5)",
        ["osmd"],
        {
            "options.osmd.jdn": ["joint", "none", "feature", "relation"],
            "options.osmd.ctn": ["cross", "none", "autoencoder"],
        },
        "one-at-a-time",
    ),
}
"""Name -> sweep."""
