"""Fusions: shapes, gradients, and that a sample's vector is its own."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sidelight.errors import ConfigError, SidelightWarning
from sidelight.networks.attention import Attention
from sidelight.networks.fusions import FUSIONS, Concat, Fusion, make_fusion, warn_trivial_attention

COUNTS = [(3,), (1, 1), (2, 2), (1, 4), (5, 2, 3), (1, 1, 1)]
DIMS = (6, 10, 8)


def slots(counts: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    return {f"m{i}": (t, DIMS[i]) for i, t in enumerate(counts)}


def tokens(shapes: dict[str, tuple[int, int]], rows: int = 7, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, *shape, generator=generator) for m, shape in shapes.items()}


def batch_mate_gap(function: Callable[[dict[str, Tensor]], Tensor], inputs: dict[str, Tensor]) -> float:
    """How much a row's output moves when the other rows are left out, reordered or replaced."""
    whole = function(inputs)
    alone = torch.cat([function({m: x[i : i + 1] for m, x in inputs.items()}) for i in range(len(whole))])
    backwards = function({m: x.flip(0) for m, x in inputs.items()}).flip(0)
    other = function({m: torch.cat([x[:1], 100 * x[1:]]) for m, x in inputs.items()})[:1]
    gaps = [(whole - alone).abs().max(), (whole - backwards).abs().max(), (whole[:1] - other).abs().max()]
    return torch.stack(gaps).max().item()


class OverTheBatch(Fusion):
    """Attends over rows where it should attend over tokens: the mistake that is looked for."""

    def __init__(self, shapes: dict[str, tuple[int, int]]):
        super().__init__(shapes, 8, 0.0)
        self.attention = Attention(sum(self.dims))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        rows = torch.cat([features[m].mean(1) for m in self.slots], dim=1).unsqueeze(0)
        return self.attention(rows, rows).squeeze(0)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SidelightWarning)
        yield


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("name", FUSIONS)
class TestEveryFusion:
    def test_gives_one_vector_per_sample_in_either_precision(self, name, counts):
        fusion = make_fusion(name, slots(counts), 12, 0.1)
        assert fusion(tokens(slots(counts))).shape == (7, fusion.out_dim) == (7, 12)
        double = {m: x.double() for m, x in tokens(slots(counts)).items()}
        assert fusion.double()(double).dtype == torch.float64

    def test_a_sample_does_not_depend_on_its_batch_mates(self, name, counts):
        torch.manual_seed(0)
        fusion = make_fusion(name, slots(counts), 12, 0.1).eval()
        assert batch_mate_gap(fusion, tokens(slots(counts))) < 1e-6

    def test_every_weight_gets_a_gradient(self, name, counts):
        torch.manual_seed(0)
        fusion = make_fusion(name, slots(counts), 12, 0.0)
        fusion(tokens(slots(counts), rows=32)).square().sum().backward()
        most = max(float(p.grad.abs().max()) for p in fusion.parameters())
        still = {n for n, p in fusion.named_parameters() if not p.grad.abs().max() > 1e-6 * most}  # not rounding
        assert still == self.without_a_choice(name, counts)

    @staticmethod
    def without_a_choice(name: str, counts: tuple[int, ...]) -> set[str]:
        """Queries and keys of an attention over a single token, which has weight 1 whatever they are."""
        if name != "multimodal-transformer":
            return set()
        still = {f"encode.{i}.attention.query.weight" for i, t in enumerate(counts) if t == 1}
        others = [sum(counts) - t if len(counts) > 1 else t for t in counts]
        return still | {f"cross.{i}.query.weight" for i, t in enumerate(others) if t == 1}


def test_a_fusion_over_the_batch_is_caught():
    shapes = slots((2, 2))
    assert batch_mate_gap(OverTheBatch(shapes).eval(), tokens(shapes)) > 1e-3


def test_batch_statistics_are_caught():
    shapes = slots((1,))
    norm = nn.BatchNorm1d(DIMS[0])
    assert batch_mate_gap(lambda features: norm(features["m0"].repeat(2, 2, 1).mean(1)), tokens(shapes)) > 1e-3


@pytest.mark.parametrize("name", [n for n in FUSIONS if n != "concat"])
def test_attention_reads_the_tokens_and_not_only_their_mean(name):
    torch.manual_seed(0)
    shapes = slots((4, 4))
    fusion = make_fusion(name, shapes, 12, 0.0).eval()
    spread = tokens(shapes)
    flat = {m: x.mean(1, keepdim=True).expand_as(x) for m, x in spread.items()}
    assert (fusion(spread) - fusion(flat)).abs().max() > 1e-3
    concat = make_fusion("concat", shapes, 12, 0.0).eval()
    assert (concat(spread) - concat(flat)).abs().max() < 1e-6


def test_the_transformer_knows_the_order_of_tokens_and_joint_cross_attention_the_company():
    torch.manual_seed(0)
    shapes = slots((4, 4))
    inputs = tokens(shapes)
    turned = {m: x.flip(1) for m, x in inputs.items()}
    transformer = make_fusion("multimodal-transformer", shapes, 12, 0.0).eval()
    assert (transformer(inputs) - transformer(turned)).abs().max() > 1e-3
    joint = make_fusion("joint-cross-attention", shapes, 12, 0.0).eval()
    one_turned = {"m0": inputs["m0"], "m1": turned["m1"]}
    assert (joint(inputs) - joint(one_turned)).abs().max() > 1e-4  # which time steps meet


@pytest.mark.parametrize("name", [n for n, fusion in FUSIONS.items() if fusion.attends])
def test_attention_without_a_choice_is_said_once(name):
    warn_trivial_attention.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        make_fusion(name, slots((1, 4)))
        assert not said
        make_fusion(name, slots((1, 1)))
        make_fusion(name, slots((1, 1)))
    assert len(said) == 1
    assert "network.tokens=8" in str(said[0].message)


def test_slots_keep_their_order_and_names_are_checked():
    assert Concat({"b": (1, 2), "a": (1, 3)}).slots == ("b", "a")
    with pytest.raises(ConfigError, match="Did you mean 'concat'"):
        make_fusion("concatt", slots((1,)))
    with pytest.raises(ConfigError, match="at least one slot"):
        make_fusion("concat", {})


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours = Attention(12)
    theirs = nn.MultiheadAttention(12, ours.heads, bias=False, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([ours.query.weight, ours.key_value.weight])
    theirs.out_proj.weight.data = ours.out.weight
    queries, others = torch.randn(3, 5, 12), torch.randn(3, 4, 12)
    expected = theirs(queries, others, others, need_weights=False)[0] + ours.out.bias
    assert torch.allclose(ours(queries, others), expected, atol=1e-6)


def test_joint_cross_attention_is_its_formula():
    torch.manual_seed(0)
    shapes = slots((4, 4))
    fusion = make_fusion("joint-cross-attention", shapes, 12, 0.0)
    weights = {n: p.detach() for n, p in fusion.named_parameters()}
    inputs = tokens(shapes)
    joint = torch.cat(list(inputs.values()), dim=2)
    pooled = []
    for i, x in enumerate(inputs.values()):
        correlation = torch.tanh(torch.einsum("btd,ed,bse->bts", x, weights[f"correlate.{i}.weight"], joint) / 4)  # √16
        own = torch.einsum("btd,kd->btk", x, weights[f"own.{i}.weight"])
        across = torch.einsum("bts,bse,ke->btk", correlation, joint, weights[f"across.{i}.weight"]) / 4  # L = 4
        pooled.append((x + (own + across).relu() @ weights[f"attended.{i}.weight"].T).mean(1))
    expected = (torch.cat(pooled, dim=1) @ weights["out.0.weight"].T + weights["out.0.bias"]).relu()
    assert torch.allclose(fusion(inputs), expected, atol=1e-6)
