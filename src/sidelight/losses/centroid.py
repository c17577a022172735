"""The distance between the centres of two similarity structures (MT-PKDOT)."""

from __future__ import annotations

from torch import Tensor

from sidelight.losses.common import check_rows
from sidelight.losses.cosine import cosine_similarity_matrix
from sidelight.utils.precision import full_precision

SMALL = 1e-12  # under the root, which has no gradient at 0


@full_precision
def centroid_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance between the mean rows of the cosine matrices of student and teacher.

    √(|mean_i S_t[i] − mean_i S_s[i]|² + 1e-12), S the whole (B, B) matrices of cosines, not shifted. Source: the
    released code of MT-PKDOT (Aslam et al., arXiv 2408.09035), where it is written and commented out. Our reading: its
    centroid is that of the rows of S, so a row's mean similarity to all others, not that of the embeddings.

    Args:
        student: (B, D).
        teacher: (B, D'), without gradient.

    Returns:
        A scalar, 0 for no row.
    """
    check_rows(student, teacher)
    if len(student) == 0:
        return student.sum()
    apart = cosine_similarity_matrix(student).mean(0) - cosine_similarity_matrix(teacher.detach()).mean(0)
    return (apart.square().sum() + SMALL).sqrt()
