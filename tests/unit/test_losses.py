"""R2D2's losses against closed forms in float64."""

import math

import pytest
import torch

from safety_geometry.training.losses import away_loss, log_one_minus_p, token_log_p


def two_way(p: float, dtype=torch.float64) -> torch.Tensor:
    """Logits [1, 3] with probability p on token 0 and the rest halved."""
    return torch.tensor([[math.log(p), math.log((1 - p) / 2), math.log((1 - p) / 2)]], dtype=dtype)


LABEL = torch.tensor([0])


@pytest.mark.parametrize("p", [1e-4, 0.1, 0.5, 0.9, 0.999])
def test_closed_forms(p):
    for shift in (0.0, 40.0, -300.0):
        z = two_way(p) + shift
        assert float(token_log_p(z, LABEL)) == pytest.approx(math.log(p), rel=1e-9)
        assert float(log_one_minus_p(z, LABEL)) == pytest.approx(math.log1p(-p), rel=1e-9)
    active = 1.0 if math.log(p) > -5 else 0.0
    assert float(away_loss(two_way(p), LABEL)) == pytest.approx(-active * math.log1p(-p), rel=1e-9)


@pytest.mark.parametrize("gap", [20.0, 60.0, 90.0])
def test_stable_where_p_is_close_to_one(gap):
    """In float32 1 − p rounds to 0 from a gap of 17 on; log(1 − p) stays −gap + log 2 and its gradient finite."""
    z = torch.tensor([[gap, 0.0, 0.0]], requires_grad=True)
    assert float(token_log_p(z, LABEL).detach().exp()) == 1.0
    value = log_one_minus_p(z, LABEL)
    assert float(value.detach()) == pytest.approx(math.log(2) - gap, rel=1e-6)
    away_loss(z, LABEL).backward()
    torch.testing.assert_close(z.grad, torch.tensor([[1.0, -0.5, -0.5]]))  # d/dz of gap − log 2


def test_gradient_against_the_textbook_formula():
    """d(−log(1 − p_y))/dz_j = p_y·1[j=y] − p_y p_j/(1 − p_y)·1[j≠y], checked on random logits."""
    z = torch.randn(1, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_(True)
    y = torch.tensor([4])
    (slope,) = torch.autograd.grad(-log_one_minus_p(z, y).sum(), z)
    p = z.detach().softmax(-1)[0]
    want = -p[4] * p / (1 - p[4])
    want[4] = p[4]
    torch.testing.assert_close(slope[0], want)


def test_tokens_below_the_threshold_add_nothing_but_count():
    z = torch.cat([two_way(math.exp(-5) * 1.001), two_way(math.exp(-5) * 0.999), two_way(0.6)]).requires_grad_(True)
    y = torch.tensor([0, 0, 0])
    loss = away_loss(z, y)
    want = -(math.log1p(-math.exp(-5) * 1.001) + math.log(0.4)) / 3
    assert float(loss.detach()) == pytest.approx(want, rel=1e-9)
    loss.backward()
    assert torch.equal(z.grad[1], torch.zeros(3, dtype=torch.float64)) and z.grad[0].abs().min() > 0
    assert float(away_loss(z.detach(), y, threshold=-0.4)) == 0.0  # log 0.6 is −0.51
    assert float(away_loss(z.detach(), y, threshold=-0.6)) == pytest.approx(-math.log(0.4) / 3)


def test_an_impossible_token_has_zero_loss_and_no_nan():
    z = torch.tensor([[-1e4, 0.0, 0.0]], requires_grad=True)
    loss = away_loss(z, LABEL)
    loss.backward()
    assert float(loss.detach()) == 0.0 and torch.isfinite(z.grad).all()


def test_log_probabilities_equal_those_of_torch():
    z = torch.randn(7, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(7)
    assert float(-token_log_p(z, y).mean()) == pytest.approx(float(torch.nn.functional.cross_entropy(z, y)), rel=1e-12)
    want = torch.log1p(-z.softmax(-1).gather(1, y[:, None])[:, 0])
    torch.testing.assert_close(log_one_minus_p(z, y), want)
