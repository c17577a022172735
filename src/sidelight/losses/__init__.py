"""Losses over tensors, usable in any training loop."""

from sidelight.losses.distribution import (
    cross_translation,
    gaussian_mmd,
    jeffreys,
    jensen_shannon,
    joint_adaptation,
    sampled_positions,
)
from sidelight.losses.pointwise import cosine_distance, soft_label_kl, squared_error
from sidelight.losses.relational import dask, pkt, rkd, rkd_angle, rkd_distance, similarity_preserving
from sidelight.losses.structural import StructuralTransport, cosine_similarity_matrix, structural_transport

__all__ = [
    "StructuralTransport",
    "cosine_distance",
    "cosine_similarity_matrix",
    "cross_translation",
    "dask",
    "gaussian_mmd",
    "jeffreys",
    "jensen_shannon",
    "joint_adaptation",
    "pkt",
    "rkd",
    "rkd_angle",
    "rkd_distance",
    "sampled_positions",
    "similarity_preserving",
    "soft_label_kl",
    "squared_error",
    "structural_transport",
]
