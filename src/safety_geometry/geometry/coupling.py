"""Coupling of the two carriers, and the shape and drift of the mean-difference field.

Definitions: arXiv 2606.16349 (C_cos, C_sub, C_layer, HRCI) and arXiv 2604.27019 (Eqs. 3, 4 and 6). Energies are
*squared* singular values, and no matrix is centred.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import subspace_angles

from safety_geometry.geometry.carriers import NEGLIGIBLE, unit

HRCI_WEIGHTS = (0.4, 0.4, 0.2)


@dataclass(frozen=True)
class Coupling:
    """The three coupling terms and both indices, all in [0, 1] (NaN where a subspace is empty)."""

    c_cos: float
    c_sub: float
    c_layer: float
    hrci: float
    hrci_repr: float


@dataclass(frozen=True, eq=False)
class FieldGeometry:
    """Spectrum of a mean-difference field: effective rank, participation ratio, components for 90 and 95 % of the
    energy.

    `basis` [d, k']: its leading right singular vectors (k' < k where the field has a lower rank).
    """

    erank: float
    pr: float
    k90: int
    k95: int
    basis: np.ndarray


@dataclass(frozen=True)
class SiteDrift:
    """How a carrier moved between two checkpoints: `own_sites` = 1 − |cos| of the carriers, each at its own site;
    `fixed` = cos (signed) of the directions of both checkpoints at the *other* one's site."""

    own_sites: float
    fixed: float


# ------------------------------------------------------------------------------------------------------------ terms


def position_subspace(rows: np.ndarray, k: int = 3, scale: float = 0.0) -> np.ndarray:
    """Top-k right singular vectors [d, k'] of the positions × d matrix of mean differences (2604.27019, Eq. 6).

    k' = min(k, rank); singular values up to 1e-5 of the largest, or of `scale` (the norm of the activations there),
    count as zero: at layer 0 the tokens of the template are the same for every prompt, and what is left is rounding.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or k < 1:
        raise ValueError(f"a subspace needs a positions × d matrix and k >= 1, got shape {rows.shape} and k = {k}")
    if k > min(rows.shape):
        raise ValueError(f"k = {k} directions cannot come from a {rows.shape[0]} × {rows.shape[1]} matrix")
    _, sigma, rights = np.linalg.svd(rows, full_matrices=False)
    rank = int((sigma > NEGLIGIBLE * max(sigma[0], scale)).sum())
    basis = rights[: min(k, rank)]
    largest = np.take_along_axis(basis, np.abs(basis).argmax(1)[:, None], 1)
    return (basis * np.sign(largest)).T  # LAPACK leaves the sign open; stored bases should not depend on it


def cosine_coupling(h: np.ndarray, r: np.ndarray) -> float:
    """C_cos = |hᵀr| of the unit carriers [d]; they may come from different layers."""
    return float(min(abs(unit(h) @ unit(r)), 1.0))


def subspace_coupling(h_basis: np.ndarray, r_basis: np.ndarray) -> float:
    """C_sub = (1/k) Σ cos²θ of orthonormal bases [d, k]; with unequal k the smaller one divides; NaN if one is
    empty."""
    k = min(h_basis.shape[1], r_basis.shape[1])
    return float(min(np.sum((h_basis.T @ r_basis) ** 2) / k, 1.0)) if k else math.nan


def layer_coupling(layer_h: int, layer_r: int, tau: float = 4.0) -> float:
    """C_layer = exp(−|L_H − L_R| / τ), in layers."""
    if tau <= 0:
        raise ValueError(f"tau must be positive, got {tau}")
    return math.exp(-abs(layer_h - layer_r) / tau)


def hrci(c_cos, c_sub, c_layer):
    """HRCI = .4 C_cos + .4 C_sub + .2 C_layer; scalars or arrays."""
    a, b, c = HRCI_WEIGHTS
    return a * c_cos + b * c_sub + c * c_layer


def hrci_repr(c_cos, c_sub):
    """HRCI_repr = ½ C_cos + ½ C_sub: what is left without the layer term; scalars or arrays."""
    return 0.5 * c_cos + 0.5 * c_sub


def couple(
    h: np.ndarray, r: np.ndarray, h_basis: np.ndarray, r_basis: np.ndarray, layer_h: int, layer_r: int, tau: float = 4.0
) -> Coupling:
    """All terms for carriers h, r [d] and orthonormal subspaces [d, k] at layers layer_h and layer_r."""
    terms = (cosine_coupling(h, r), subspace_coupling(h_basis, r_basis), layer_coupling(layer_h, layer_r, tau))
    return Coupling(*terms, hrci=hrci(*terms), hrci_repr=hrci_repr(*terms[:2]))


def isotropic_coupling(d: int, k: int, layer_h: int, layer_r: int, tau: float = 4.0) -> Coupling:
    """Expected coupling of independent isotropic directions and k-subspaces in R^d.

    E|cos| = Γ(d/2) / (√π Γ((d+1)/2)), exact; E C_sub = k/d, exact. The layer term is that of the sites.
    """
    if not 1 <= k <= d:
        raise ValueError(f"k has to lie in 1..d, got k = {k}, d = {d}")
    c_cos = math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / math.sqrt(math.pi)
    terms = (c_cos, k / d, layer_coupling(layer_h, layer_r, tau))
    return Coupling(*terms, hrci=hrci(*terms), hrci_repr=hrci_repr(*terms[:2]))


# --------------------------------------------------------------------------------------------------- shape and drift


def effective_rank(sigma: np.ndarray, eps: float = 1e-12) -> float:
    """exp(−Σ q log(q + ε)), q = σ²/Σσ² (2604.27019, Eq. 3). `sigma`: singular values."""
    q = _energy(sigma)
    return float(np.exp(-np.sum(q * np.log(q + eps))))


def participation_ratio(sigma: np.ndarray, eps: float = 1e-12) -> float:
    """(Σσ²)² / (Σσ⁴ + ε) on σ scaled to Σσ² = 1, so that ε does not depend on the activations' unit (Eq. 4)."""
    return float(1.0 / (np.sum(_energy(sigma) ** 2) + eps))


def components_for(sigma: np.ndarray, share: float) -> int:
    """Smallest number of leading components that hold `share` of the energy."""
    return int(np.searchsorted(np.cumsum(np.sort(_energy(sigma))[::-1]), share - 1e-12) + 1)


def field_geometry(field: np.ndarray, k: int = 3) -> FieldGeometry:
    """Spectrum of the field [..., d] of mean differences, flattened to (positions × layers) × d and not centred."""
    rows = np.asarray(field, np.float64).reshape(-1, field.shape[-1])
    sigma = np.linalg.svd(rows, compute_uv=False)
    return FieldGeometry(
        erank=effective_rank(sigma),
        pr=participation_ratio(sigma),
        k90=components_for(sigma, 0.90),
        k95=components_for(sigma, 0.95),
        basis=position_subspace(rows, min(k, *rows.shape)),
    )


def principal_angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Principal angles in degrees, smallest first, between the spans of the columns of [d, k] matrices."""
    return np.rad2deg(subspace_angles(first, second))[::-1]


def site_drift(delta: np.ndarray, other: np.ndarray, site: tuple[int, int], other_site: tuple[int, int]) -> SiteDrift:
    """Drift of one carrier between two checkpoints with mean-difference fields `delta`, `other` [P, L+1, d].

    `site` and `other_site` are (position index, layer): where each checkpoint reads its carrier.
    """
    reference = unit(other[other_site])
    own_sites = 1.0 - min(abs(float(unit(delta[site]) @ reference)), 1.0)
    return SiteDrift(own_sites=own_sites, fixed=float(np.clip(unit(delta[other_site]) @ reference, -1.0, 1.0)))


def _energy(sigma: np.ndarray) -> np.ndarray:
    energy = np.asarray(sigma, np.float64) ** 2
    total = energy.sum()
    if not np.isfinite(total) or total <= 0:
        raise ValueError(
            "the mean-difference field is zero or not finite: harmful and benign means are equal everywhere"
        )
    return energy / total
