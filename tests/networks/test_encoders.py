"""Encoders: shapes, padding, batch-mates, and the tokens' averages."""

import pytest
import torch

from sidelight.errors import ConfigError
from sidelight.networks.encoders import ENCODERS, MLPEncoder, SignalEncoder, make_encoder
from sidelight.networks.tokens import compute_stretch_weights, resample_tokens


def test_an_mlp_gives_one_vector_per_row():
    assert MLPEncoder((9,), 16)(torch.randn(5, 9)).shape == (5, 16)
    assert MLPEncoder((6, 3), 16)(torch.randn(5, 6, 3)).shape == (5, 16)
    assert MLPEncoder((9,), 16)(torch.randn(5, 9), torch.full((5,), 3)).shape == (
        5,
        16,
    )  # a vector has no length
    with pytest.raises(ConfigError, match="varying length"):
        MLPEncoder((6, 3), 16)(torch.randn(5, 6, 3), torch.full((5,), 3))


@pytest.mark.parametrize("tokens", [1, 3, 8])
@pytest.mark.parametrize("steps", [1, 5, 37, 64])
def test_a_signal_becomes_tokens_and_every_weight_learns(steps, tokens):
    torch.manual_seed(0)
    encoder = SignalEncoder((steps, 3), 16, tokens)
    out = encoder(torch.randn(20, steps, 3))
    assert out.shape == (20, tokens, 16) == (20, *encoder.out_shape)
    out.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("tokens", [1, 3, 8])
class TestVaryingLength:
    def encoder(self, tokens):
        torch.manual_seed(0)
        return SignalEncoder((40, 3), 16, tokens).eval()

    def test_padding_changes_nothing_however_long_and_whatever_it_holds(self, tokens):
        encoder = self.encoder(tokens)
        length = torch.tensor([40, 13, 8, 1, 21])
        x = torch.randn(5, 40, 3)
        out = encoder(x, length)
        alone = torch.cat([encoder(x[i : i + 1, :n]) for i, n in enumerate(length.tolist())])
        assert torch.allclose(out, alone, atol=1e-6)
        longer = torch.cat([x, torch.full((5, 23, 3), torch.nan)], dim=1)
        longer[torch.arange(63) >= length.unsqueeze(1)] = torch.nan
        assert torch.allclose(encoder(longer, length), out, atol=1e-6)

    def test_a_row_without_any_step_is_zero_and_its_gradient_finite(self, tokens):
        encoder = self.encoder(tokens).train()
        out = encoder(torch.zeros(3, 40, 3), torch.tensor([0, 40, 5]))
        assert (out[0] == 0).all()
        out.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in encoder.parameters())

    def test_rows_do_not_see_each_other(self, tokens):
        encoder = self.encoder(tokens)
        x, length = torch.randn(4, 40, 3), torch.tensor([40, 7, 30, 12])
        alone = torch.cat([encoder(x[i : i + 1], length[i : i + 1]) for i in range(4)])
        assert torch.allclose(encoder(x, length), alone, atol=1e-6)

    def test_double_precision(self, tokens):
        out = self.encoder(tokens).double()(torch.randn(2, 40, 3).double(), torch.tensor([40, 7]))
        assert out.dtype == torch.float64


def test_stretches_are_averages():
    weights = compute_stretch_weights(7, 3, torch.tensor([7.0, 2.0, 0.0], dtype=torch.float64))
    assert torch.allclose(weights.sum(2), torch.tensor([[1.0] * 3, [1.0] * 3, [0.0] * 3], dtype=torch.float64))
    assert torch.allclose(weights[0, 0], torch.tensor([3, 3, 1, 0, 0, 0, 0]).double() / 7)
    assert torch.allclose(weights[1, 1, :2], torch.tensor([0.5, 0.5]).double())
    x = torch.randn(2, 12, 5)
    for tokens in (1, 3, 4, 12):  # even compute_stretch_weights, and the general rule
        assert torch.allclose(
            resample_tokens(x, tokens), compute_stretch_weights(12, tokens, torch.full((2,), 12.0)) @ x, atol=1e-6
        )
    assert torch.allclose(resample_tokens(x, 5).mean(1), x.mean(1), atol=1e-6)
    assert torch.equal(resample_tokens(x[:, :1], 3), x[:, :1].repeat(1, 3, 1))
    assert resample_tokens(x, 24).shape == (2, 24, 5)


def test_the_setting_chooses_by_the_shape_of_a_row():
    kinds = {
        ("auto", (9,)): "mlp", ("auto", (20, 3)): "cnn", ("statistics", (9,)): "mlp", ("cnn", (9,)): "mlp",
        ("cnn", (20, 3)): "cnn", ("mlp", (9,)): "mlp", ("mlp", (20, 3)): "mlp",
    }  # fmt: skip
    for (kind, shape), expected in kinds.items():
        assert type(make_encoder(kind, shape)) is ENCODERS[expected]


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        ("cnnn", (9,), "Did you mean 'cnn'"),
        ("statistics", (20, 3), "preprocessor"),
        ("auto", (20, 8, 8), "your own module"),
        ("cnn", (20, 8, 8), "your own module"),
    ],
)
def test_what_no_encoder_reads_is_named(kind, shape, words):
    with pytest.raises(ConfigError, match=words):
        make_encoder(kind, shape)
