"""Losses: pure functions of tensors, usable in any training loop."""

from sidelight.losses.centroid import centroid_distance
from sidelight.losses.contrastive import class_nce, crcd, crd, crd_log_normaliser, gmc, info_nce
from sidelight.losses.cosine import cosine_similarity_matrix
from sidelight.losses.distribution import (
    cross_translation,
    gaussian_mmd,
    jeffreys,
    jensen_shannon,
    joint_adaptation,
    sampled_positions,
)
from sidelight.losses.frequency import frequency_distance
from sidelight.losses.logits import column_correlation, decoupled_kl, dist
from sidelight.losses.mutual_information import (
    adapted_weights,
    adversarial,
    alignment,
    class_partners,
    critic,
    discrimination,
    mutual_information,
)
from sidelight.losses.pointwise import cosine_distance, soft_label_kl, squared_error
from sidelight.losses.relational import dask, pkt, rkd, rkd_angle, rkd_distance, similarity_preserving
from sidelight.losses.selective import kendall_tau, nontarget_kl
from sidelight.losses.structural import StructuralTransport, structural_transport
from sidelight.losses.wasserstein import gaussian_wasserstein, wasserstein_logits

__all__ = [
    "StructuralTransport",
    "adapted_weights",
    "adversarial",
    "alignment",
    "centroid_distance",
    "class_nce",
    "class_partners",
    "column_correlation",
    "cosine_distance",
    "cosine_similarity_matrix",
    "crcd",
    "crd",
    "crd_log_normaliser",
    "critic",
    "cross_translation",
    "dask",
    "decoupled_kl",
    "discrimination",
    "dist",
    "frequency_distance",
    "gaussian_mmd",
    "gaussian_wasserstein",
    "gmc",
    "info_nce",
    "jeffreys",
    "jensen_shannon",
    "joint_adaptation",
    "kendall_tau",
    "mutual_information",
    "nontarget_kl",
    "pkt",
    "rkd",
    "rkd_angle",
    "rkd_distance",
    "sampled_positions",
    "similarity_preserving",
    "soft_label_kl",
    "squared_error",
    "structural_transport",
    "wasserstein_logits",
]
