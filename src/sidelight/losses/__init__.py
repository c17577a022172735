"""Losses over tensors, usable in any training loop."""

from sidelight.losses.distribution import gaussian_mmd
from sidelight.losses.pointwise import cosine_distance, soft_label_kl, squared_error
from sidelight.losses.relational import dask, pkt, rkd, rkd_angle, rkd_distance, similarity_preserving
from sidelight.losses.structural import StructuralTransport, cosine_similarity_matrix, structural_transport

__all__ = [
    "StructuralTransport",
    "cosine_distance",
    "cosine_similarity_matrix",
    "dask",
    "gaussian_mmd",
    "pkt",
    "rkd",
    "rkd_angle",
    "rkd_distance",
    "similarity_preserving",
    "soft_label_kl",
    "squared_error",
    "structural_transport",
]
