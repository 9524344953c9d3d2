"""Edits of the residual stream against brute force in float64."""

import pytest
import torch

from safety_geometry.models.interventions import Intervention, RowEdit

D = 12


@pytest.fixture
def h():
    return torch.randn(4, 5, D, generator=torch.Generator().manual_seed(0))


def orthonormal(k: int, seed: int = 1) -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(D, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return q.T.contiguous()


def brute(row: torch.Tensor, item: Intervention | None) -> torch.Tensor:
    """One row [T, d], token by token and vector by vector, in float64."""
    out = row.double().clone()
    if item is None:
        return out
    for t in range(len(out)):
        a = row[t].double()
        for u in item.basis.double():
            if item.family == "ablate":
                out[t] -= item.strength * sum(float(x) * float(y) for x, y in zip(a, u, strict=True)) * u
            else:
                out[t] += item.strength * u
    return out


def test_every_kind_in_one_batch_against_brute_force(h):
    items = [
        Intervention("ablate", 2, orthonormal(1)), None, Intervention("steer", 2, 3 * orthonormal(1, 5), -0.7),
        Intervention("ablate", 2, orthonormal(3), 0.4),
    ]  # fmt: skip
    before = h.clone()
    got = RowEdit(items)(2, h)
    assert torch.equal(h, before)  # not in place
    for i, item in enumerate(items):
        torch.testing.assert_close(got[i].double(), brute(h[i], item), atol=2e-6, rtol=1e-6)
    assert torch.equal(got[1], h[1])


def test_rows_of_one_kind_have_directions_and_strengths_of_their_own(h):
    items = [Intervention("ablate", 0, orthonormal(2, seed), strength) for seed, strength in enumerate((1, 0.5, -1, 2))]
    got = RowEdit(items)(0, h)
    for i, item in enumerate(items):
        torch.testing.assert_close(got[i].double(), brute(h[i], item), atol=3e-6, rtol=1e-6)


def test_full_ablation_is_a_projection(h):
    q = orthonormal(3)
    edit = RowEdit([Intervention("ablate", 1, q)] * 4)
    once = edit(1, h)
    assert (once.double() @ q.T).abs().max() < 1e-6  # orthogonal to the subspace
    torch.testing.assert_close(edit(1, once), once, atol=1e-6, rtol=1e-6)  # idempotent
    rest = torch.eye(D, dtype=torch.float64) - q.T @ q  # what is orthogonal to it stays
    torch.testing.assert_close(once.double() @ rest, h.double() @ rest, atol=2e-6, rtol=1e-6)


def test_steering_with_several_vectors_adds_their_sum(h):
    basis = torch.randn(2, D, generator=torch.Generator().manual_seed(9))
    got = RowEdit([Intervention("steer", 1, basis, 0.5)] * 4)(1, h)
    torch.testing.assert_close(got, h + 0.5 * (basis[0] + basis[1]), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_strength_zero_is_bit_for_bit_clean(h, dtype):
    x = h.to(dtype)
    zero = [Intervention("ablate", 1, orthonormal(2), 0.0), Intervention("steer", 1, orthonormal(1), 0.0), None, None]
    assert RowEdit(zero)(1, x) is x
    mixed = [*zero[:3], Intervention("ablate", 1, orthonormal(1))]
    got = RowEdit(mixed)(1, x)
    assert got.dtype == dtype
    assert torch.equal(got[:3], x[:3]) and not torch.equal(got[3], x[3])


def test_other_layers_are_left_alone(h):
    edit = RowEdit([Intervention("ablate", 1, orthonormal(1)), Intervention("steer", 3, orthonormal(1)), None, None])
    assert edit(0, h) is h and edit(2, h) is h
    assert torch.equal(edit(1, h)[1:], h[1:]) and not torch.equal(edit(1, h)[0], h[0])
    assert torch.equal(edit(3, h)[0], h[0]) and not torch.equal(edit(3, h)[1], h[1])


def test_half_precision_takes_inner_products_in_float32():
    """Components that cancel: a bfloat16 inner product of them would be far off."""
    u = torch.ones(1, D) / D**0.5
    x = (torch.tensor([100.0, -100.0] * (D // 2)) + 0.5).to(torch.bfloat16).expand(1, 1, D)
    got = RowEdit([Intervention("ablate", 0, u)])(0, x)
    torch.testing.assert_close(got[0].double(), brute(x[0], Intervention("ablate", 0, u)), atol=0.3, rtol=0)
    want = brute(x[0], Intervention("ablate", 0, u)).to(torch.bfloat16)
    assert torch.equal(got[0], want)


def test_several_edits_of_one_row_at_their_layers_and_at_every_layer(h):
    first, second = Intervention("ablate", 1, orthonormal(1)), Intervention("steer", 1, orthonormal(1, 7), 2.0)
    later, everywhere = Intervention("ablate", 3, orthonormal(1, 8)), Intervention("ablate", None, orthonormal(2, 9))
    edit = RowEdit([(first, second, later), None, everywhere, (second, first)])
    for layer, items in ((0, ()), (1, (first, second)), (3, (later,))):
        want = h[0]
        for item in items:
            want = brute(want.float(), item).float()
        got = edit(layer, h)
        torch.testing.assert_close(got[0], want, atol=3e-6, rtol=1e-6)
        assert torch.equal(got[1], h[1])
        torch.testing.assert_close(got[2].double(), brute(h[2], everywhere), atol=3e-6, rtol=1e-6)
    swapped = brute(brute(h[3], second).float(), first)  # in the order of the row, not of the batch
    torch.testing.assert_close(edit(1, h)[3].double(), swapped, atol=3e-6, rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match=r"'rotate'.*'ablate' or 'steer'"):
        Intervention("rotate", 0, orthonormal(1))
    with pytest.raises(ValueError, match=r"\(12,\).*\[k, d\]"):
        Intervention("ablate", 0, orthonormal(1)[0])
