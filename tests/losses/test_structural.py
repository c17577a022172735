"""The structural transport loss against the reference values and the properties METHODS promises."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

import sidelight.transport.anchors as anchors_module
from helpers.transport_clouds import references
from sidelight.config import Config
from sidelight.losses.cosine import cosine_similarity_matrix
from sidelight.losses.structural import StructuralTransport, structural_transport
from sidelight.methods.structural import PKDOTSidelight
from sidelight.transport import ANCHORS, ConvergenceError, LearnedWeights, select_anchors, sinkhorn


def embeddings(
    batch: int = 24, dim: int = 8, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(batch, dim, generator=generator, dtype=torch.float64).to(dtype)
    return student.requires_grad_(), torch.randn(batch, dim + 2, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("size", [32, 128])
def test_cosine_and_released_anchors(size):
    values = references(size)
    similarity = cosine_similarity_matrix(values["teacher"])
    torch.testing.assert_close(similarity, values["cosine_teacher"], rtol=1e-12, atol=1e-12)
    index = select_anchors(similarity, int(values["k"]), "released")
    assert torch.equal(index, values["row_anchor_index"].long())


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_released_preset(size, dtype):
    values = references(size)
    student = values["student"].to(dtype).requires_grad_()
    loss = StructuralTransport("released", k=int(values["k"]), tolerance=1e-4)
    value = loss(student, values["teacher"].to(dtype))
    value.backward()
    expected = values["pkdot_released_grad"]
    assert value.item() == pytest.approx(values["pkdot_released_value"].item(), rel=1e-3)
    # the reference solver stops early: its own gradient is 0.44 % (b32) and 0.02 % (b128) from the converged one
    assert (student.grad - expected).norm() <= 6e-3 * expected.norm()


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0])
def test_unshifted_objective_and_divergence(size, epsilon):
    values = references(size)
    options = {"k": int(values["k"]), "epsilon": epsilon, "anchors": "released", "tolerance": 1e-10}
    for objective, key in (("plain", "objective"), ("divergence", "divergence")):
        value = structural_transport(values["student"], values["teacher"], objective=objective, **options)
        assert value.item() == pytest.approx(values[f"ot_eps{epsilon}_{key}"].item(), rel=1e-6)


VARIANTS = [
    {"objective": "plain"},
    {"objective": "divergence", "epsilon": "relative:0.1"},
    {"objective": "divergence", "anchors": "released", "shift": True},
    {"objective": "plain", "shift": True},
    {"alignment": "row"},
    {"alignment": "index", "identity": 0.3},
    {"alignment": "label", "objective": "divergence"},
    {"anchors": "class_balanced"},
    {"anchors": "farthest_point"},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_gradcheck(options):
    student, teacher = embeddings(9, 4)
    labels = torch.arange(9) % 3

    def loss(student: Tensor) -> Tensor:
        return structural_transport(student, teacher, k=4, labels=labels, tolerance=1e-12, **options)

    assert torch.autograd.gradcheck(loss, (student,), atol=1e-6)


@pytest.mark.parametrize("preset", ["paper", "released", "sidelight"])
def test_presets_train_and_leave_the_teacher_alone(preset):
    student, teacher = embeddings()
    teacher.requires_grad_()
    loss = StructuralTransport(preset, k=10)
    value = loss(student, teacher)
    value.backward()
    assert teacher.grad is None
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0
    with torch.no_grad():
        moved = student - 0.3 * student.grad / student.grad.norm()
    assert loss(moved, teacher).item() < value.item()


def test_divergence_vanishes_at_the_teacher_and_the_plain_objective_prefers_a_shrunken_student():
    teacher = embeddings(40, 6)[1]
    assert abs(structural_transport(teacher, teacher, k=10, objective="divergence", tolerance=1e-9).item()) < 1e-9
    rows = cosine_similarity_matrix(teacher)[:, :10]
    shrunk = rows.mean(0) + 0.5 * (rows - rows.mean(0))
    assert sinkhorn(shrunk, rows, epsilon=1.0).objective < sinkhorn(rows, rows, epsilon=1.0).objective


def test_transport_is_blind_to_identity_and_the_aligned_variants_are_not():
    teacher = embeddings(30, 6)[1]
    rows = teacher[torch.randperm(30, generator=torch.Generator().manual_seed(1))]
    # the anchors are columns, so permute the rows of the anchored matrices instead of the samples
    s = cosine_similarity_matrix(teacher)[:, :8]
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    same, permuted = (sinkhorn(z, s, epsilon=0.1, tolerance=1e-10).objective for z in (s, s[order]))
    assert same.item() == pytest.approx(permuted.item(), rel=1e-9)
    for options in ({"alignment": "row"}, {"alignment": "index", "objective": "divergence", "penalty": 5.0}):
        aligned = structural_transport(teacher, teacher, k=8, **options).item()
        assert aligned < 1e-6 < structural_transport(rows, teacher, k=8, **options).item()


@pytest.mark.parametrize("objective", ["plain", "divergence"])
def test_rows_without_a_label_are_of_no_class(objective):
    """Each is aligned with itself alone, as if it had a label that no other row has."""
    student, teacher = embeddings(12, 4)
    unlabelled, alone = torch.arange(12) % 3, torch.arange(12) % 3
    unlabelled[:6], alone[:6] = -1, torch.arange(6) + 3
    options = {"k": 6, "alignment": "label", "objective": objective}
    value, expected = (structural_transport(student, teacher, labels=y, **options) for y in (unlabelled, alone))
    assert value.item() == expected.item()


@pytest.mark.parametrize("preset", ["paper", "released", "sidelight"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_embeddings(preset, dtype):
    student, teacher = (z.detach().clone() for z in embeddings(dtype=dtype))
    zero_row, zero_teacher = student.clone(), teacher.clone()
    zero_row[3] = 0
    zero_teacher[5] = 0
    cases = [
        (zero_row, zero_teacher),
        (torch.zeros_like(student), teacher),
        (torch.ones_like(student), torch.ones_like(teacher)),
        (student[:1], teacher[:1]),
        (student[:2], teacher[:2]),
        (student * 1e-18, teacher * 1e15),
        (teacher.clone(), teacher),
    ]
    for s, t in cases:
        s = s.clone().requires_grad_()
        value = StructuralTransport(preset, k=5)(s, t)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(s.grad).all()
        if preset != "paper":
            assert value.item() > -1e-5


def test_zero_rows_get_no_gradient():
    z = torch.randn(5, 3, requires_grad=True)
    with torch.no_grad():
        z[2] = 0
    similarity = cosine_similarity_matrix(z)
    similarity.square().sum().backward()
    assert (similarity[2] == 0).all()
    assert (z.grad[2] == 0).all()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("preset", ["paper", "released", "sidelight"])
def test_autocast_and_bfloat16(preset):
    student, teacher = embeddings(dtype=torch.float32)
    loss = StructuralTransport(preset, k=10)
    exact = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(student, teacher)
        half = student.detach().bfloat16().requires_grad_()
        value = loss(half, teacher.bfloat16())
    assert inside.item() == exact.item()
    assert value.dtype == torch.float32
    value.backward()
    assert half.grad.dtype == torch.bfloat16
    assert torch.isfinite(half.grad).all()


def test_settings_are_checked():
    with pytest.raises(ValueError, match="preset"):
        StructuralTransport("papre")
    with pytest.raises(TypeError, match="epsilom"):
        StructuralTransport("paper", epsilom=0.1)
    student, teacher = embeddings()
    with pytest.raises(ValueError, match="anchors"):
        structural_transport(student, teacher, anchors="best")
    with pytest.raises(ValueError, match="labels"):
        structural_transport(student, teacher, alignment="label")
    with pytest.raises(ValueError, match="one row per sample"):
        structural_transport(student[:3], teacher)
    assert "epsilon=0.1" in repr(StructuralTransport("paper"))


# ---------------------------------------------------------------- anchors


def test_paper_anchors_are_the_least_similar_columns():
    similarity = cosine_similarity_matrix(embeddings(12, 5)[1])
    mean = (similarity - torch.eye(12)).sum(0) / 11
    assert torch.equal(select_anchors(similarity, 4, "paper"), mean.argsort()[:4])


def test_every_selector_gives_k_distinct_columns():
    similarity = cosine_similarity_matrix(embeddings(15, 5)[1])
    for name in ANCHORS:
        index = select_anchors(similarity, 6, name, labels=torch.arange(15) % 4)
        for row in index.reshape(-1, 6):
            assert len(row.unique()) == 6


def test_farthest_point_covers_the_clusters():
    angle = torch.tensor([0.0, 0.01, 0.02, 2.0, 2.01, 2.02, 4.0, 4.01, 4.02])
    similarity = cosine_similarity_matrix(torch.stack([angle.cos(), angle.sin()], 1))
    assert set((select_anchors(similarity, 3, "farthest_point") // 3).tolist()) == {0, 1, 2}


def test_medoids_are_the_centres_of_the_clusters():
    angle = torch.tensor([0.0, 0.1, 0.25, 2.0, 2.1, 2.3, 4.0, 4.05, 4.3])
    similarity = cosine_similarity_matrix(torch.stack([angle.cos(), angle.sin()], 1))
    assert set(select_anchors(similarity, 3, "k_medoids").tolist()) == {1, 4, 7}


def test_medoids_lie_nearer_to_the_batch_than_other_anchors():
    similarity = cosine_similarity_matrix(embeddings(60, 1)[1])

    def distance(name: str) -> float:
        return (1 - similarity[:, select_anchors(similarity, 8, name)].max(1).values).sum().item()

    assert distance("k_medoids") < 0.9 * min(distance(name) for name in ("paper", "random", "farthest_point"))
    same = select_anchors(torch.ones(9, 9), 4, "k_medoids")
    assert len(same.unique()) == 4


def test_class_balanced_takes_turns():
    similarity = cosine_similarity_matrix(embeddings(20, 5)[1])
    labels = torch.tensor([0] * 16 + [1, 1, 1, 2])
    picked = labels[select_anchors(similarity, 7, "class_balanced", labels=labels)]
    assert picked.bincount().tolist() == [3, 3, 1]


def test_class_balanced_takes_rows_without_a_label_last():
    similarity = cosine_similarity_matrix(embeddings(20, 5)[1])
    labels = torch.tensor([-1] * 14 + [0, 0, 0, 0, 1, 1])
    picked = select_anchors(similarity, 9, "class_balanced", labels=labels)
    assert labels[picked].tolist()[4:] == [0, 0, -1, -1, -1]
    assert sorted(labels[picked[:4]].tolist()) == [0, 0, 1, 1]
    unlabelled = select_anchors(similarity, 20, "paper")
    assert torch.equal(picked[6:], unlabelled[labels[unlabelled] < 0][:3])


def test_random_anchors_follow_the_generator():
    similarity = torch.eye(20)
    first, second = (
        select_anchors(similarity, 5, "random", generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_k_above_the_batch_is_reduced_and_said_once(monkeypatch):
    monkeypatch.setattr(anchors_module, "_already_warned", False)
    with pytest.warns(UserWarning, match="batch of 4"):
        assert select_anchors(torch.eye(4), 30).shape == (4,)
    assert select_anchors(torch.eye(4), 30, "released").shape == (4, 4)


def test_learned_weights_stress_the_anchors_that_differ():
    student, teacher = embeddings(16, 4)
    module = LearnedWeights(teacher.shape[1])
    settings = {"k": 6, "alignment": None, "tolerance": 1e-10, "epsilon": 0.05}
    loss = StructuralTransport("sidelight", anchor_weights=module, **settings)
    plain = StructuralTransport("sidelight", **settings)
    value = loss(student, teacher)
    assert value.item() == pytest.approx(plain(student, teacher).item(), rel=1e-9)  # equal at the start
    value.backward()
    with torch.no_grad():
        module.score -= 0.1 * module.score.grad / module.score.grad.norm()  # what an optimiser does
    assert loss(student, teacher).item() > value.item()
    with pytest.raises(ValueError, match="one set of anchors"):
        structural_transport(student, teacher, anchors="released", anchor_weights=module)


def test_a_weight_that_underflows_leaves_the_gradients_finite():
    student, teacher = embeddings(16, 4, dtype=torch.float32)
    module = LearnedWeights(teacher.shape[1], temperature=1e-3)
    with torch.no_grad():
        module.score += torch.linspace(-1, 1, len(module.score))
    unit = torch.nn.functional.normalize(teacher, dim=1)
    assert (module(unit[:6]) == 0).any()
    loss = StructuralTransport("sidelight", k=6, alignment=None, anchor_weights=module)
    loss(student, teacher).backward()
    assert student.grad.isfinite().all()
    assert module.score.grad.isfinite().all()


def test_a_weight_of_zero_has_the_gradient_of_its_column():
    student, teacher = embeddings(16, 4)
    options = {"k": 4, "tolerance": 1e-12, "epsilon": 0.3}

    def loss(weights: Tensor) -> Tensor:
        return structural_transport(student.detach(), teacher, anchor_weights=lambda unit: weights, **options)

    weights = torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(loss(weights), weights)
    step = torch.tensor([0.0, 1e-6, 0.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        assert grad[1].item() == pytest.approx((loss(weights + step) - loss(weights)).item() / 1e-6, rel=1e-4)


def test_rows_whose_square_overflows_keep_their_direction():
    student, teacher = embeddings(dtype=torch.float32)
    expected = cosine_similarity_matrix(student)
    large = (student.detach() * torch.linspace(20, 25, 24).unsqueeze(1).pow(10).pow(2)).requires_grad_()
    assert torch.linalg.vector_norm(large, dim=1).isinf().any()
    torch.testing.assert_close(cosine_similarity_matrix(large), expected)
    structural_transport(large, teacher, k=5).backward()
    assert large.grad.isfinite().all()


def test_the_preset_of_our_own_compares_row_by_row():
    """λ is that of the method: the loss itself is mean_i |s_i − t_i|² / 2 at the anchors of the teacher."""
    student, teacher = embeddings(16, 4)
    cosines = [unit @ unit.T for unit in (torch.nn.functional.normalize(z, dim=1) for z in (student, teacher))]
    anchors = cosines[1].mean(0).argsort()[:5]
    by_hand = (cosines[0] - cosines[1])[:, anchors].square().sum(1).mean() / 2
    loss = StructuralTransport("sidelight", k=5)
    assert loss(student, teacher).item() == pytest.approx(by_hand.item(), rel=1e-9)
    assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-12)
    assert loss(teacher.roll(1, 0), teacher).item() > 0.1  # it sees who is who
    made = PKDOTSidelight.from_config(Config())
    assert (made.weight, made.hallucinates) == (10.0, "")


def test_failure_is_said_as_asked():
    student, teacher = embeddings()
    few = {"k": 8, "epsilon": 1e-4, "tolerance": 1e-9, "max_iterations": 2}
    with pytest.raises(ConvergenceError, match="marginal error"):
        StructuralTransport("paper", on_failure="raise", **few)(student, teacher)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StructuralTransport("sidelight", alignment=None, on_failure="ignore", **few)(student, teacher)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"preset": "papre"}, "unknown preset 'papre': expected one of 'paper', 'released', 'sidelight'"),
        ({"k": -3}, "k must be a whole number of at least 1, got -3"),
        ({"k": True}, "k must be a whole number of at least 1, got True"),
        ({"objective": "ot"}, "unknown objective 'ot': expected one of 'plain', 'divergence'"),
        ({"alignment": "row", "objective": "ot"}, "unknown objective"),
        ({"alignment": "row", "epsilon": -1}, "epsilon must be positive and finite, got -1"),
        ({"epsilon": "relative:"}, "e.g. 'relative:0.05', got 'relative:'"),
        ({"anchors": ["paper"]}, r"unknown anchors \['paper'\]: expected one of 'paper'"),
        ({"alignment": "rows"}, "unknown alignment 'rows': expected one of 'row', 'index', 'label'"),
        ({"penalty": "1"}, "penalty must be 0 or a positive number, got '1'"),
        ({"identity": -0.5}, "identity must be 0 or a positive number, got -0.5"),
        ({"shift": "no"}, "shift must be True or False, got 'no'"),
        ({"tolerance": 0}, "tolerance must be a positive number, got 0"),
        ({"max_iterations": True}, "max_iterations must be a positive number, got True"),
        ({"on_failure": "rais"}, "unknown on_failure 'rais'"),
        ({"anchor_weights": "learned"}, "anchor_weights is a module .* got str"),
        ({"anchor_weights": LearnedWeights(4), "anchors": "released"}, "one set of anchors for the batch"),
    ],
)
def test_what_can_be_refused_is_refused_at_construction(options, says):
    with pytest.raises((ValueError, TypeError), match=says):
        StructuralTransport(**options)


NAN = torch.ones(9, 4)
NAN[5, 2] = torch.nan


@pytest.mark.parametrize("options", [{}, {"alignment": "row"}, {"anchors": "released"}, {"shift": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nan_is_named_with_its_place(options, dtype):
    wrong, right = NAN.to(dtype), torch.ones(9, 4, dtype=dtype)
    for student, teacher, name in ((wrong, right, "student"), (right, wrong, "teacher")):
        with pytest.raises(ValueError, match=rf"{name} holds NaN or infinity, first at \(5, 2\)"):
            structural_transport(student, teacher, k=4, **options)


def test_finite_rows_whose_sum_overflows_are_legal():
    large = torch.full((9, 4), 3e38)
    assert structural_transport(large, torch.ones(9, 4), k=4).isfinite()


@pytest.mark.parametrize(
    ("student", "teacher", "options", "says"),
    [
        (torch.ones(9, 4).numpy(), torch.ones(9, 4), {}, "student must be a tensor, got ndarray"),
        (torch.ones(0, 4), torch.ones(0, 4), {}, "at least one"),
        (torch.ones(9, 4), torch.ones(8, 4), {}, r"one row per sample.*\(9, 4\) and \(8, 4\)"),
        (torch.ones(9, 4), torch.ones(9, 4, device="meta"), {}, "student is on cpu and teacher on meta"),
        (torch.ones(9, 4), torch.full((9, 4), torch.nan), {}, r"teacher holds NaN or infinity, first at \(0, 0\)"),
        (torch.full((9, 4), torch.nan), torch.ones(9, 4), {}, r"student holds NaN or infinity, first at \(0, 0\)"),
        (torch.ones(9, 4), torch.ones(9, 4), {"k": 2.5}, "k must be a whole number of at least 1, got 2.5"),
    ],
)
def test_faults_are_named(student, teacher, options, says):
    with pytest.raises((ValueError, TypeError), match=says):
        StructuralTransport("sidelight", **options)(student, teacher)


@pytest.mark.parametrize("options", [{"alignment": "label"}, {"anchors": "class_balanced"}])
@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0] * 9, "labels must be a tensor, got list"),
        (torch.zeros(9, 1), r"labels need one class code per row \(9,\), got \(9, 1\)"),
        (torch.zeros(8), r"labels need one class code per row \(9,\), got \(8,\)"),
        (None, "needs labels"),
    ],
)
def test_wrong_labels_are_named(options, labels, says):
    with pytest.raises((ValueError, TypeError), match=says):
        structural_transport(torch.ones(9, 4), torch.ones(9, 4), k=4, labels=labels, **options)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (LearnedWeights(7), r"LearnedWeights\(7\) needs anchors \(k, 7\), got \(3, 4\)"),
        (lambda unit: unit, r"one weight per anchor \(3,\), got \(3, 4\)"),
        (lambda unit: unit[:2, 0], r"one weight per anchor \(3,\), got \(2,\)"),
        (lambda unit: None, "the result of anchor_weights must be a tensor, got NoneType"),
        (lambda unit: torch.tensor([1.0, -2.0, 1.0]), r"weights of at least 0, got -2 at \(1,\)"),
        (lambda unit: torch.tensor([1.0, 1.0, torch.nan]), r"finite weights of at least 0, got nan at \(2,\)"),
    ],
)
def test_wrong_anchor_weights_are_named(module, says):
    with pytest.raises((ValueError, TypeError), match=says):
        structural_transport(torch.ones(9, 4), torch.ones(9, 4), k=3, anchor_weights=module)


def test_settings_of_learned_weights_are_checked():
    for dim in (0, 2.5, True):
        with pytest.raises(ValueError, match="dim must be a whole number"):
            LearnedWeights(dim)
    with pytest.raises(ValueError, match="temperature must be a positive number, got 0"):
        LearnedWeights(4, temperature=0)


@pytest.mark.parametrize("name", ANCHORS)
def test_every_selector_reads_any_type_of_similarity(name):
    similarity = torch.randint(0, 9, (7, 7), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(7) % 2
    expected = select_anchors(similarity.double(), 3, name, labels=labels, generator=torch.Generator().manual_seed(0))
    for kind in (torch.int64, torch.bfloat16, torch.float16):
        index = select_anchors(similarity.to(kind), 3, name, labels=labels, generator=torch.Generator().manual_seed(0))
        assert index.shape == expected.shape
        assert (index < 7).all()


@pytest.mark.parametrize(
    ("similarity", "says"),
    [
        ([[1.0]], "similarity must be a tensor, got list"),
        (torch.ones(4, 5), r"similarity must be \(B, B\) between B >= 1 rows, got \(4, 5\)"),
        (torch.ones(4), "similarity must be"),
        (torch.ones(0, 0), "similarity must be"),
        (torch.eye(4) / 0, r"similarity holds NaN or infinity, first at \(0, 0\)"),
    ],
)
def test_wrong_similarities_are_named(similarity, says):
    with pytest.raises((ValueError, TypeError), match=says):
        select_anchors(similarity, 2)
