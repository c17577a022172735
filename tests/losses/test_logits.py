"""DKD, DIST, standardised logits, WKD and FD-CMKD against values worked out by hand, and where they degenerate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sidelight import losses
from sidelight.losses.frequency import band_projections
from sidelight.losses.pointwise import standardize_logits
from sidelight.losses.wasserstein import class_costs, class_transport

UNIFORM = 0.5 * (1 - torch.eye(3, dtype=torch.float64))


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("student", "of_label", "of_others", "both", "kl"),
    [([1, 1, 0], 0.119818, 0.0, 0.119818, 0.119818), ([0, 1, 1], 0.7076, 0.12403, 1.699841, 0.779633)],
)
def test_decoupled_soft_labels_by_hand(student, of_label, of_others, both, kl):
    s, t, y = rows(student), rows([2, 1, 0]), torch.tensor([0])
    found = [losses.decoupled_kl(s, t, y, a, b).item() for a, b in ((1, 0), (0, 1), (1, 8))]
    assert found == pytest.approx([of_label, of_others, both], abs=1e-6)
    unlabelled = losses.decoupled_kl(s, t, torch.tensor([-1]))
    assert unlabelled.item() == pytest.approx(losses.soft_label_kl(s, t).item(), rel=1e-12)
    assert unlabelled.item() == pytest.approx(kl, abs=1e-6)


def test_decoupled_soft_labels_of_two_classes_are_a_share_of_the_kl_divergence_and_of_one_are_refused():
    s, t, y = rows([1, -2], [0, 3]), rows([2, 1], [800, -800]), torch.tensor([1, 0])
    found = losses.decoupled_kl(s.requires_grad_(), t, y, 2.0, 8.0)
    assert found.item() == pytest.approx(2 * losses.soft_label_kl(s, t).item(), rel=1e-9)
    assert torch.autograd.grad(found, s)[0].isfinite().all()
    with pytest.raises(ValueError, match="two classes or more"):
        losses.decoupled_kl(rows([1]), rows([2]), torch.tensor([0]))


def test_pixels_are_rows():
    s, t = torch.randn(2, 4, 5, 3).double(), torch.randn(2, 4, 5, 3).double()
    y = torch.randint(-1, 4, (2, 5, 3))
    flat_s, flat_t = (x.movedim(1, -1).reshape(-1, 4) for x in (s, t))
    one, other = losses.decoupled_kl(s, t, y), losses.decoupled_kl(flat_s, flat_t, y.flatten())
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(losses.dist(s, t), losses.dist(flat_s, flat_t))
    valid = torch.tensor([True, False])
    torch.testing.assert_close(losses.dist(s, t, valid=valid), losses.dist(s[:1], t[:1]))


def test_correlations_by_hand():
    s, t = (
        rows([0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]),
        rows([0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]),
    )
    for n, inter, intra in ((3, 0.02893, 0.131831), (2, 0.043394, 0.333333)):
        found = [losses.dist(s[:n].log(), t[:n].log(), a, b).item() for a, b in ((1, 0), (0, 1))]
        assert found == pytest.approx([inter, intra], abs=1e-6)
    assert losses.dist(s[:1].log(), t[:1].log(), 0.0, 1.0).item() == 1.0


def test_correlations_of_two_classes_teach_by_columns():
    s, t = rows([1, 0], [0, 2], [3, 1]).requires_grad_(), rows([0, 1], [4, 0], [1, 1])
    by_row, by_column = (torch.autograd.grad(losses.dist(s, t, a, b), s)[0] for a, b in ((1, 0), (0, 1)))
    assert by_row.abs().max() < 1e-6 < 1e-2 < by_column.abs().max()


def test_standardised_logits_by_hand():
    torch.testing.assert_close(
        standardize_logits(rows([3, 1, 2], [5, 5, 5])), rows([1, -1, 0], [0, 0, 0]), atol=1e-6, rtol=0
    )
    assert losses.soft_label_kl(rows([3, 1, 2]), rows([30, 10, 20]), 2, standardize=True).item() < 1e-9
    found = losses.soft_label_kl(rows([1, 2, 3]), rows([3, 1, 2]), 2, standardize=True)
    assert found.item() == pytest.approx(1.038882, abs=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e3])
def test_a_constant_row_has_no_standardised_gradient(level):
    s = torch.full((2, 3), level).requires_grad_()
    losses.soft_label_kl(s, torch.randn(2, 3), standardize=True).backward()
    assert s.grad.abs().max() == 0


def test_transport_between_classes_by_hand():
    s, t, costs = rows([0.5, 0.3, 0.2]), rows([0.2, 0.3, 0.5]), rows([0, 0.2, 0.6], [0.2, 0, 0.4], [0.6, 0.4, 0])
    assert class_transport(s, t, costs).item() == pytest.approx(0.175187, abs=1e-6)
    assert class_transport(s, s, costs).item() == pytest.approx(0.002874, abs=1e-6)
    assert class_transport(s, t, UNIFORM).item() == pytest.approx(0.150958, abs=1e-6)
    assert class_transport(s, t, costs, iterations=2000).item() == pytest.approx(0.18, abs=1e-3)


def test_transport_leaves_the_label_out():
    s, t, y = rows([1, 1, 0, 3]), rows([2, 1, 0, -1]), torch.tensor([3])
    costs = torch.rand(4, 4, dtype=torch.float64)
    found = losses.wasserstein_logits(s, t, y, costs) - losses.wasserstein_logits(s, t, y, costs, transport=0.0)
    expected = class_transport(*((x[:, :3] / 2).softmax(1) for x in (s, t)), costs[:3, :3])
    assert found.item() == pytest.approx(30 * expected.item(), rel=1e-9)
    of_label = losses.wasserstein_logits(rows([1, 1, 0]), rows([2, 1, 0]), torch.tensor([0]), UNIFORM, 0.0)
    assert of_label.item() == pytest.approx(0.573434, abs=1e-6)


def test_transport_of_two_classes_is_the_label_alone_and_of_one_is_refused():
    s, t, y = rows([1, 0], [0, 2]), rows([0, 4], [1, 1]), torch.tensor([0, 1])
    with_it, without = (losses.wasserstein_logits(s, t, y, UNIFORM[:2, :2], a).item() for a in (30.0, 0.0))
    assert with_it == pytest.approx(without, abs=1e-9)
    with pytest.raises(ValueError, match="two classes"):
        losses.wasserstein_logits(rows([1]), rows([1]), torch.tensor([0]), UNIFORM[:1, :1])


def test_costs_of_classes_by_hand():
    x = rows([1, 0], [0, 1], [1, 1], [0, 0])
    y, labels = rows([0, 1], [1, 0], [0, 0], [1, 1]), torch.arange(8) // 4
    assert class_costs(torch.cat([x, y]), labels, 2).abs().max() < 1e-12
    other = class_costs(torch.cat([x, y[[2, 0, 1, 3]]]), labels, 3)
    assert other[0, 1].item() == pytest.approx(0.393469, abs=1e-6)
    assert other[2].tolist() == pytest.approx([0.632121, 0.632121, 0.0], abs=1e-6)  # a class without a row
    assert class_costs(x, torch.arange(4), 4).unique().tolist() == pytest.approx([0.0, 0.632121], abs=1e-6)
    assert class_costs(x, torch.full((4,), -1), 2, "centroid").isfinite().all()
    assert class_costs(torch.cat([x, x + 9]), labels, 2, "centroid")[0, 1].item() == pytest.approx(0.864665, abs=1e-6)


def test_gaussians_by_hand():
    s, t = torch.tensor([1.0, 2, 3, 4]), torch.tensor([2.0, 2, 4, 8])
    assert losses.gaussian_wasserstein(s[:, None], t[:, None]).item() == pytest.approx(6.863693, abs=1e-5)
    s, t = s.view(1, 1, 2, 2), t.view(1, 1, 2, 2)
    assert losses.gaussian_wasserstein(s, t, grid=1).item() == pytest.approx(6.863693, abs=1e-5)
    assert losses.gaussian_wasserstein(s, t, grid=2).item() == pytest.approx(
        2 * (s - t).square().mean().item(), abs=1e-5
    )


def test_cells_are_described_as_torch_pools_them():
    x, t = torch.randn(1, 2, 7, 5).double(), torch.zeros(1, 2, 7, 5).double()
    total = 0.0
    for top, bottom in ((0, 3), (2, 5), (4, 7)):
        for left, right in ((0, 2), (1, 4), (3, 5)):
            cell = x[0, :, top:bottom, left:right].flatten(1)
            spread = (cell.var(1) + 1e-5).sqrt() - 1e-5**0.5
            total += (2 * cell.mean(1).square() + spread.square()).sum().item() / 9
    assert losses.gaussian_wasserstein(x, t, grid=3).item() == pytest.approx(total, rel=1e-9)


def test_bands_by_hand():
    t, s = rows([1, 2, 3, 4]), rows([4, 0, 1, 1])
    low, high = band_projections(4).double()
    torch.testing.assert_close(torch.cat([t @ low, t @ high]), rows([-1, -1, 1, 1], [-0.5, 0.5, -0.5, 0.5]))
    torch.testing.assert_close(torch.cat([s @ low, s @ high]), rows([1.5, -0.5, -1.5, 0.5], [1, -1, 1, -1]))
    found = [losses.frequency_distance(s @ p, t @ p, h, "mean").item() for p, h in ((low, False), (high, True))]
    assert found == pytest.approx([0.723607, 0.657608], abs=1e-6)
    assert losses.frequency_distance(s @ low, t @ low).item() == pytest.approx(4 * 0.723607, abs=1e-5)


@pytest.mark.parametrize(("width", "split"), [(7, "fft"), (8, "fft"), (7, "random"), (8, "random")])
def test_bands_are_apart(width, split):
    low, high = band_projections(width, split).double()
    whole = torch.eye(width) - (1 / width if split == "fft" else 0)  # without the mean
    torch.testing.assert_close(low + high, whole.double(), atol=1e-6, rtol=0)
    assert (low @ high).abs().max() < 1e-6
