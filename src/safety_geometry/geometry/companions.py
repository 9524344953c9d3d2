"""What stands beside every coupling value: its floor, its ceiling and its interval, from resampled fit prompts.

All of it is made at sites that were chosen before, on all prompts: the uncertainty of the *selection* is not in these
numbers (`selection.choice` has it).

A direction is a signed weight vector over the pooled fit prompts times their activations, so a bootstrap, a label
shuffle and a split are weight matrices, and each companion is one matrix product at the few sites that it needs.

At one layer and one position the two prompt contrasts are the same vector, and at one layer the two position-wise
subspaces are the same space: coupling is 1 there by construction, unless H and R come from different prompts
(`cross_fitted`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from safety_geometry.geometry.carriers import NEGLIGIBLE
from safety_geometry.geometry.coupling import Coupling, hrci, hrci_repr, isotropic_coupling, layer_coupling
from safety_geometry.stats.estimates import percentiles, resampling_weights

CHUNK = 64  # resamples per matrix product: bounds the memory at CHUNK × sites × d numbers
QUANTITIES = ("c_cos", "c_sub", "hrci", "hrci_repr")


@dataclass(frozen=True)
class Companion:
    """One row of the table coupling_controls: `n` resamples behind the value, 0 for a closed form or a single value."""

    companion: str
    quantity: str
    value: float
    lo: float
    hi: float
    n: int


@dataclass(frozen=True, eq=False)
class PairSites:
    """Fit activations at the sites of one H-R pair, prompts on axis 1: harmful first, then benign.

    h, r [N, d] at the carriers' sites; h_rows, r_rows [P, N, d] at the subspace positions of their layers; `scale_h`,
    `scale_r` norms of the activations there (a difference negligible beside them is no direction). `refused` [N] bool:
    R is the contrast of these prompts with the others; None: of harmful with benign prompts, as H.
    """

    h: np.ndarray
    r: np.ndarray
    h_rows: np.ndarray
    r_rows: np.ndarray
    n_harmful: int
    layer_h: int
    layer_r: int
    scale_h: float
    scale_r: float
    refused: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, d = self.h.shape
        if self.r.shape != (n, d) or self.h_rows.shape[1:] != (n, d) or self.r_rows.shape != self.h_rows.shape:
            raise ValueError(
                f"sites differ in shape: {self.h.shape} {self.r.shape} {self.h_rows.shape} {self.r_rows.shape}"
            )
        if min(self.n_harmful, self.n_benign) < 4:
            raise ValueError(f"resampling needs 4 fit prompts per class, got {self.n_harmful} and {self.n_benign}")
        if self.refused is not None and min(self.refused.sum(), n - self.refused.sum()) < 4:
            raise ValueError(f"resampling needs 4 fit prompts per class; {self.refused.sum()} of {n} are refused")

    @property
    def n_benign(self) -> int:
        return len(self.h) - self.n_harmful

    def labels(self) -> np.ndarray:
        """[2, N] bool: the class that H adds and the class that R adds, of every prompt."""
        harmful = np.arange(len(self.h)) < self.n_harmful
        return np.stack([harmful, harmful if self.refused is None else self.refused])


@dataclass(frozen=True, eq=False)
class Draws:
    """Signed cosine and C_sub per resample, [B] each."""

    cosine: np.ndarray
    c_sub: np.ndarray

    def terms(self, c_layer: float) -> dict[str, np.ndarray]:
        c_cos = np.abs(self.cosine)
        return {
            "c_cos": c_cos,
            "c_sub": self.c_sub,
            "hrci": hrci(c_cos, self.c_sub, c_layer),
            "hrci_repr": hrci_repr(c_cos, self.c_sub),
        }


# ---------------------------------------------------------------------------------------------------------- weights


def contrast_weights(labels: np.ndarray) -> np.ndarray:
    """Differences of means: labels [..., N] bool -> [..., N], +1/n where set and −1/n elsewhere, each n its own
    class's."""
    return _signed(labels, np.ones_like(labels, float))


def bootstrap_weights(labels: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """[K, draws, N]: prompts drawn with replacement, the same for all contrasts labels [K, N], their class sizes kept.

    Drawn among the prompts that are alike in every label: within the class, where the contrasts are one.
    """
    counts = np.empty((draws, labels.shape[1]))
    for prompts in _alike(labels):
        n = len(prompts)
        counts[:, prompts] = np.rint(n * resampling_weights(n, draws, rng))
    return _signed(labels[:, None], counts)


def shuffled_weights(labels: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """[K, draws, N]: the labels permuted over all prompts, those of one prompt together, class sizes kept."""
    order = rng.permuted(np.tile(np.arange(labels.shape[1]), (draws, 1)), axis=1)
    return contrast_weights(labels)[:, order]


def half_weights(labels: np.ndarray, splits: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two [K, splits, N] on disjoint halves: prompts alike in every label halved at random (the odd one: second
    half)."""
    first = np.empty((splits, labels.shape[1]), bool)
    for prompts in _alike(labels):
        n = len(prompts)
        first[:, prompts] = rng.permuted(np.tile(np.arange(n) < n // 2, (splits, 1)), axis=1)
    return _signed(labels[:, None], first.astype(float)), _signed(labels[:, None], (~first).astype(float))


def _alike(labels: np.ndarray) -> list[np.ndarray]:
    """Indices of the prompts that share all labels [K, N]; those with the first label set come first."""
    kinds = sorted({tuple(column) for column in labels.T.tolist()}, reverse=True)
    return [np.flatnonzero((kind == labels.T).all(1)) for kind in kinds]


def _signed(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`counts` [..., N] over their sum in the label's class, negative where the label is not set."""
    high, low = np.where(labels, counts, 0.0), np.where(labels, 0.0, counts)
    return high / high.sum(-1, keepdims=True) - low / low.sum(-1, keepdims=True)


# ------------------------------------------------------------------------------------------------------------ draws


def coupled(pair: PairSites, weights_h: np.ndarray, weights_r: np.ndarray, k: int = 3) -> Draws:
    """Coupling of the H direction made with each row of `weights_h` [B, N] and the R direction made with `weights_r`.

    k = 0 leaves the subspaces out: C_sub is NaN.
    """
    return _compare((pair.h, pair.h_rows, pair.scale_h), (pair.r, pair.r_rows, pair.scale_r), weights_h, weights_r, k)


def reliability(pair: PairSites, kind: str, first: np.ndarray, second: np.ndarray, k: int = 3) -> Draws:
    """Agreement of one carrier ("H" or "R") with itself on two halves: cosine and subspace overlap."""
    side = (pair.h, pair.h_rows, pair.scale_h) if kind == "H" else (pair.r, pair.r_rows, pair.scale_r)
    return _compare(side, side, first, second, k)


def _compare(side_a, side_b, weights_a: np.ndarray, weights_b: np.ndarray, k: int) -> Draws:
    cosine, c_sub = [], []
    for start in range(0, len(weights_a), CHUNK):
        a, b = weights_a[start : start + CHUNK], weights_b[start : start + CHUNK]
        cosine.append(_cosine(a @ side_a[0], b @ side_b[0], side_a[2], side_b[2]))
        if k:
            rows_a, rows_b = (np.moveaxis(w @ side[1], 0, 1) for w, side in ((a, side_a), (b, side_b)))
            c_sub.append(_overlap(rows_a, rows_b, k, side_a[2], side_b[2]))
        else:
            c_sub.append(np.full(len(a), np.nan))
    return Draws(np.concatenate(cosine), np.concatenate(c_sub))


def _cosine(a: np.ndarray, b: np.ndarray, scale_a: float, scale_b: float) -> np.ndarray:
    norm_a, norm_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    usable = (norm_a > NEGLIGIBLE * scale_a) & (norm_b > NEGLIGIBLE * scale_b)
    cosine = np.divide((a * b).sum(1), norm_a * norm_b, out=np.full(len(a), np.nan), where=usable)
    return np.clip(cosine, -1.0, 1.0)


def _overlap(a: np.ndarray, b: np.ndarray, k: int, scale_a: float, scale_b: float) -> np.ndarray:
    """C_sub of the top-k right singular spaces of a, b [B, P, d], from P × P Gram matrices: V = Mᵀ U Σ⁻¹."""
    (left_a, count_a), (left_b, count_b) = (_whitener(m, k, s) for m, s in ((a, scale_a), (b, scale_b)))
    cross = left_a @ (a @ b.transpose(0, 2, 1)) @ left_b.transpose(0, 2, 1)
    size = np.minimum(count_a, count_b)
    overlap = np.divide((cross**2).sum((1, 2)), size, out=np.full(len(a), np.nan), where=size > 0)
    return np.minimum(overlap, 1.0)


def _whitener(rows: np.ndarray, k: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Σ⁻¹Uᵀ [B, k, P] of the top-k components, rows of negligible ones zeroed, and their number [B]."""
    values, vectors = np.linalg.eigh(rows @ rows.transpose(0, 2, 1))
    values, vectors = values[:, ::-1][:, :k], vectors[:, :, ::-1][:, :, :k].transpose(0, 2, 1)
    floor = (NEGLIGIBLE * np.maximum(np.sqrt(np.maximum(values[:, :1], 0)), scale)) ** 2
    kept = values > floor
    inverse = np.divide(1.0, np.sqrt(np.maximum(values, 0)), out=np.zeros_like(values), where=kept)
    return vectors * inverse[:, :, None], kept.sum(1)


# ------------------------------------------------------------------------------------------------------- companions


def bootstrap_intervals(
    pair: PairSites, draws: int, rng: np.random.Generator, k: int = 3, tau: float = 4.0
) -> dict[str, tuple[float, float]]:
    """95 % percentile interval over fit prompts (stratified by class) of c_cos, c_sub, hrci and hrci_repr.

    |cos| cannot be below 0 and resampling adds noise, so near the floor the interval sits above the truth.
    """
    weights = bootstrap_weights(pair.labels(), draws, rng)
    terms = coupled(pair, *weights, k).terms(layer_coupling(pair.layer_h, pair.layer_r, tau))
    return {name: percentiles(values) for name, values in terms.items()}


def isotropic(d: int, layer_h: int, layer_r: int, k: int = 3, tau: float = 4.0) -> list[Companion]:
    """Rows of the chance level: independent directions and subspaces without a preferred direction."""
    chance = isotropic_coupling(d, min(k, d), layer_h, layer_r, tau)
    return [Companion("isotropic", q, getattr(chance, q), np.nan, np.nan, 0) for q in QUANTITIES]


def own_sites_only(observed: Coupling, d: int, layer_h: int, layer_r: int, k: int = 3, tau: float = 4.0):
    """Rows of `own_site_companions` that need no resampling, for a checkpoint that kept its means only."""
    rows = [Companion("own_sites", q, getattr(observed, q), np.nan, np.nan, 0) for q in QUANTITIES]
    return rows + isotropic(d, layer_h, layer_r, k, tau)


def fixed_layer_only(h: np.ndarray, r: np.ndarray, scale: float) -> list[Companion]:
    """Row `fixed_layer` from the mean differences h, r [d] at one layer; `scale`: norm of the activations there."""
    value = float(abs(_cosine(h[None], r[None], scale, scale)[0]))
    return [Companion("fixed_layer", "c_cos", value, np.nan, np.nan, 0)]


def own_site_companions(
    pair: PairSites,
    observed: Coupling,
    intervals: dict[str, tuple[float, float]],
    bootstrap: int,
    shuffles: int,
    splits: int,
    rng: Callable[[str], np.random.Generator],
    k: int = 3,
    tau: float = 4.0,
) -> list[Companion]:
    """Rows for the pair's own sites: own_sites, isotropic, shuffled, cross_fitted and split_half.

    `rng(name)` gives the generator of one companion, so that adding a companion does not move another's draws.
    shuffled: mean and 95 % range under permuted labels, both carriers from the same permutation. cross_fitted: mean
    over splits and both orders (H from half A with R from half B, and reversed), range over splits. split_half:
    `reliability_*` between halves, `ceiling` = √(ρ_H ρ_R), `disattenuated_c_cos` = |mean cross-fitted cos| / ceiling;
    numerator and reliabilities are both made with half the prompts, so no correction for length is due.
    """
    labels, d = pair.labels(), pair.h.shape[1]
    c_layer = layer_coupling(pair.layer_h, pair.layer_r, tau)
    rows = [Companion("own_sites", q, getattr(observed, q), *intervals[q], bootstrap) for q in QUANTITIES]
    rows += isotropic(d, pair.layer_h, pair.layer_r, k, tau)
    weights = shuffled_weights(labels, shuffles, rng("shuffled"))
    rows += _summaries("shuffled", coupled(pair, *weights, k).terms(c_layer))
    first, second = half_weights(labels, splits, rng("halves"))
    crossed = _both_orders(pair, first, second, k)
    rows += _summaries("cross_fitted", {q: v.mean(0) for q, v in crossed.terms(c_layer).items()})
    return rows + _split_half(pair, first, second, float(crossed.cosine.mean()), k)


def fixed_layer_companions(
    pair: PairSites, bootstrap: int, splits: int, rng: Callable[[str], np.random.Generator], k: int = 3
) -> list[Companion]:
    """Rows at one common layer, `pair` built there with each carrier at its own position: rotation without relocation.

    `fixed_layer`: c_cos with its bootstrap interval (c_sub is 1 by construction: the same positions at the same layer).
    `fixed_layer_cross_fitted`: c_cos and c_sub from disjoint halves, both orders; its c_sub says how well the halves
    agree on the layer's subspace, and nothing about H against R.
    """
    if pair.layer_h != pair.layer_r:
        raise ValueError(f"a fixed common layer is one layer, got {pair.layer_h} and {pair.layer_r}")
    labels = pair.labels()
    value = float(abs(coupled(pair, *contrast_weights(labels)[:, None], 0).cosine[0]))
    weights = bootstrap_weights(labels, bootstrap, rng("bootstrap"))
    spread = percentiles(np.abs(coupled(pair, *weights, 0).cosine))
    rows = [Companion("fixed_layer", "c_cos", value, *spread, bootstrap)]
    crossed = _both_orders(pair, *half_weights(labels, splits, rng("halves")), k).terms(1.0)
    return rows + _summaries("fixed_layer_cross_fitted", {q: crossed[q].mean(0) for q in ("c_cos", "c_sub")})


def _both_orders(pair: PairSites, first: np.ndarray, second: np.ndarray, k: int) -> Draws:
    """[2, splits]: H from the first half and R from the second, then reversed."""
    orders = [coupled(pair, first[0], second[1], k), coupled(pair, second[0], first[1], k)]
    return Draws(np.stack([o.cosine for o in orders]), np.stack([o.c_sub for o in orders]))


def _split_half(pair: PairSites, first: np.ndarray, second: np.ndarray, crossed: float, k: int) -> list[Companion]:
    both = {kind: reliability(pair, kind, first[i], second[i], k) for i, kind in enumerate("HR")}
    terms = {f"reliability_{kind.lower()}": draws.cosine for kind, draws in both.items()}
    terms |= {f"reliability_sub_{kind.lower()}": draws.c_sub for kind, draws in both.items()}
    rows = _summaries("split_half", terms)
    rho_h, rho_r = rows[0].value, rows[1].value
    ceiling = float(np.sqrt(rho_h * rho_r)) if rho_h > 0 and rho_r > 0 else np.nan
    rows.append(Companion("split_half", "ceiling", ceiling, np.nan, np.nan, first.shape[1]))
    share = abs(crossed) / ceiling
    return [*rows, Companion("split_half", "disattenuated_c_cos", share, np.nan, np.nan, first.shape[1])]


def _summaries(companion: str, terms: dict[str, Sequence[float]]) -> list[Companion]:
    return [Companion(companion, q, float(np.mean(v)), *percentiles(v), len(v)) for q, v in terms.items()]
