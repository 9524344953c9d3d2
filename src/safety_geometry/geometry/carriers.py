"""Scores of the sites that a harmfulness (H) or refusal (R) carrier can be read at, and the rules that choose one.

Carriers are unit difference-of-means directions.

H: layer with the highest validation score of the projection on the fit direction (arXiv 2606.16349, section 3).
R: raw scores of a COSMIC-style search over positions × layers under a KL budget (arXiv 2604.27019, Eqs. 1-2). The
study's choice, beyond doing nothing and with a null, is made by `selection`.
"""

import numpy as np
import pandas as pd

from safety_geometry.artefacts.candidate_scores import CandidateScores

H_SCORES = ("dprime", "auroc", "gap")
# A block input at a token of the template is the same vector for every prompt at layer 0: its mean difference is
# rounding noise, which must not become a direction. Anything this small beside its yardstick counts as zero.
NEGLIGIBLE = 1e-5


def unit(vector: np.ndarray) -> np.ndarray:
    """`vector` [..., d] over its Euclidean norm, float64. Raises ValueError on a zero or non-finite vector."""
    vector = np.asarray(vector, np.float64)
    norm = np.linalg.norm(vector, axis=-1, keepdims=True)
    if not (np.isfinite(norm).all() and (norm > 0).all()):
        raise ValueError("cannot normalise a zero or non-finite vector: the two classes have the same mean here")
    return vector / norm


def mean_difference(mean_harmful: np.ndarray, mean_benign: np.ndarray) -> np.ndarray:
    """Δ = mean_harmful − mean_benign, float64, any equal shapes (here [P, L+1, d]). arXiv 2604.27019, Eq. 1."""
    if mean_harmful.shape != mean_benign.shape:
        raise ValueError(f"means differ in shape: harmful {mean_harmful.shape}, benign {mean_benign.shape}")
    delta = np.asarray(mean_harmful, np.float64) - np.asarray(mean_benign, np.float64)
    if not np.isfinite(delta).all():
        raise ValueError("the class means hold NaN or infinite values: the activations overflowed; use a wider dtype")
    return delta


# ---------------------------------------------------------------------------------------------- harmfulness carrier


def harmfulness_profile(directions: np.ndarray, harmful: np.ndarray, benign: np.ndarray) -> pd.DataFrame:
    """Validation scores per layer of the projection on the unit fit direction.

    directions [L, d] fit-set mean differences; harmful [n, L, d] and benign [m, L, d] held-out activations.
    Columns: layer; dprime = (μ₁ − μ₀) / √((s₁² + s₀²)/2) with n − 1 variances; auroc (ties count ½); gap = μ₁ − μ₀ in
    activation units. A layer whose difference is negligible beside its activations scores NaN.
    """
    if min(len(harmful), len(benign)) < 2:
        raise ValueError(f"validation needs two prompts per class, got {len(harmful)} harmful and {len(benign)} benign")
    directions = np.asarray(directions, np.float64)
    norms = np.linalg.norm(directions, axis=-1)
    yardstick = np.linalg.norm(np.mean(benign, axis=0, dtype=np.float64), axis=-1)
    usable = norms > NEGLIGIBLE * yardstick
    units = np.divide(directions, norms[:, None], out=np.zeros_like(directions), where=usable[:, None])
    high = np.einsum("nld,ld->ln", np.asarray(harmful, np.float64), units)
    low = np.einsum("nld,ld->ln", np.asarray(benign, np.float64), units)
    gap = high.mean(1) - low.mean(1)
    spread = np.sqrt((high.var(1, ddof=1) + low.var(1, ddof=1)) / 2)
    dprime = np.divide(gap, spread, out=np.full_like(gap, np.nan), where=spread > 0)
    ranks = pd.DataFrame(np.concatenate([high, low], 1)).rank(axis=1).to_numpy()[:, : high.shape[1]].sum(1)
    n, m = high.shape[1], low.shape[1]
    auroc = (ranks - n * (n + 1) / 2) / (n * m)
    frame = pd.DataFrame({"layer": np.arange(len(gap)), "dprime": dprime, "auroc": auroc, "gap": gap})
    frame.loc[~usable, list(H_SCORES)] = np.nan
    return frame


def select_harmfulness(profile: pd.DataFrame, score: str = "dprime") -> int:
    """Layer with the highest `score` in `harmfulness_profile`'s frame; the earlier layer wins a tie."""
    if score not in H_SCORES:
        raise ValueError(f"unknown harmfulness score {score!r}; choose one of {', '.join(H_SCORES)}")
    ordered = profile.sort_values("layer")
    if ordered[score].notna().sum() == 0:
        raise ValueError("no layer has a harmfulness direction: harmful and benign means are equal everywhere")
    return int(ordered.loc[ordered[score].idxmax(), "layer"])


# -------------------------------------------------------------------------------------------------- refusal carrier


def candidate_table(
    scores: CandidateScores, beta_kl: float = 1.0, kl_max: float = 0.10, max_layer: int | None = None
) -> pd.DataFrame:
    """Scores of every candidate, COSMIC-style (arXiv 2604.27019, Eq. 2): S_total = S_refuse + S_comply − β·KL.

    S_refuse = cos(mean over safe prompts under addition, mean of the clean harmful ones), S_comply = cos(mean over
    harmful prompts under ablation, mean of the clean safe ones), KL = mean over safe prompts. `max_layer` (default
    int(0.8 L)): layers from there on are left out. Columns: layer, position, s_refuse, s_comply, kl, s_total, norm,
    eligible (below max_layer, finite, direction not negligible), admissible (eligible and KL ≤ kl_max).
    """
    n, m = len(scores.clean_harmful), len(scores.clean_benign)
    refuse, comply, kl = _scores(scores, np.full((1, n), 1 / n), np.full((1, m), 1 / m))
    frame = pd.DataFrame(
        {
            "layer": scores.layers.astype(int),
            "position": scores.positions.astype(int),
            "s_refuse": refuse[0],
            "s_comply": comply[0],
            "kl": kl[0],
            "norm": scores.norm.astype(float),
        }
    )
    frame.insert(5, "s_total", frame.s_refuse + frame.s_comply - beta_kl * frame.kl)
    cut = int(0.8 * scores.n_layers) if max_layer is None else max_layer
    present = frame.norm > NEGLIGIBLE * frame.norm.median()
    frame["eligible"] = (frame.layer < cut) & np.isfinite(frame.s_total) & np.isfinite(frame.kl) & present
    frame["admissible"] = frame.eligible & (frame.kl <= kl_max)
    return frame


def select_refusal(table: pd.DataFrame) -> pd.Series | None:
    """Row of the admissible candidate with the largest S_total (ties: lower KL, then lower layer), or None.

    None is a legal result: a checkpoint may have no direction that can be removed at this KL budget.
    """
    return _choose_row(table, table.admissible.to_numpy(bool)) if table.admissible.any() else None


def report_refusal(table: pd.DataFrame) -> pd.Series:
    """`select_refusal`, or the best eligible row with admissible=False where nothing is admissible."""
    chosen = select_refusal(table)
    if chosen is not None:
        return chosen
    if not table.eligible.any():
        raise ValueError(
            "no refusal candidate is eligible: each is beyond the layer cut, has a zero direction or a non-finite KL; "
            "widen the candidate layers of the refusal carrier"
        )
    return _choose_row(table, table.eligible.to_numpy(bool))


def resampled_s_total(
    scores: CandidateScores, weights_n: np.ndarray, weights_m: np.ndarray, beta_kl: float
) -> np.ndarray:
    """S_total [B, C] for prompt weights [B, n] (harmful) and [B, m] (safe)."""
    refuse, comply, kl = _scores(scores, weights_n, weights_m)
    return refuse + comply - beta_kl * kl


def _scores(
    scores: CandidateScores, weights_n: np.ndarray, weights_m: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """S_refuse, S_comply, KL, each [B, C], for prompt weights [B, n] (harmful) and [B, m] (safe)."""
    refuse = weighted_cosines(scores.add_benign, scores.clean_harmful, weights_m, weights_n)
    comply = weighted_cosines(scores.ablate_harmful, scores.clean_benign, weights_n, weights_m)
    return refuse, comply, weighted_kl(scores, weights_m)


def weighted_kl(scores: CandidateScores, weights: np.ndarray) -> np.ndarray:
    """Mean KL [B, C] on the safe prompts that are answered; where weights [B, m] have none of these, on all answered
    ones. Infinite for a candidate with a value that is not finite."""
    answered = scores.answered.astype(bool)
    on = weights * answered
    on[on.sum(1) == 0] = answered if answered.any() else 1.0
    finite = np.isfinite(scores.kl).all(1)
    kl = (on / on.sum(1, keepdims=True)) @ np.where(finite[:, None], scores.kl, 0).astype(np.float64).T
    return np.where(finite, kl, np.inf)


def weighted_cosine(first: np.ndarray, weights: np.ndarray, second: np.ndarray, others: np.ndarray) -> np.ndarray:
    """cos(Σ wᵢ first[i], Σ vⱼ second[j]) of rows [n, d] and [m, d] for every draw, weights [B, n] and others [B, m]:
    [B]."""
    return weighted_cosines(first[None], second, weights, others)[:, 0]


def weighted_cosines(
    moved: np.ndarray, target: np.ndarray, weights: np.ndarray, target_weights: np.ndarray
) -> np.ndarray:
    """cos(Σ wᵢ moved[c, i], Σ vⱼ target[j]) for every draw and candidate, [B, C].

    Through the Gram matrices of the prompts, so that a resample costs n² and not n·d.
    """
    target = np.asarray(target, np.float64)
    length = np.sqrt(np.einsum("bi,ij,bj->b", target_weights, target @ target.T, target_weights, optimize=True))
    cosines = np.empty((len(weights), len(moved)))
    for index, rows in enumerate(moved):
        rows = rows.astype(np.float64)
        dot = ((weights @ (rows @ target.T)) * target_weights).sum(1)
        norms = np.sqrt(np.maximum(((weights @ (rows @ rows.T)) * weights).sum(1), 0))
        with np.errstate(invalid="ignore", divide="ignore"):
            cosines[:, index] = dot / (norms * length)
    return cosines


def _choose(total: np.ndarray, kl: np.ndarray, layers: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Index [B] of the best allowed candidate: highest total, then lower KL, then lower layer. All arrays [B, C]."""
    total = np.where(allowed, total, -np.inf)
    tied = allowed & (total == total.max(1, keepdims=True))
    kl = np.where(tied, kl, np.inf)
    tied &= kl == kl.min(1, keepdims=True)
    return np.where(tied, layers, np.iinfo(np.int64).max).argmin(1)


def _choose_row(table: pd.DataFrame, allowed: np.ndarray) -> pd.Series:
    table = table.reset_index(drop=True)
    index = _choose(table.s_total.to_numpy()[None], table.kl.to_numpy()[None], table.layer.to_numpy(), allowed[None])[0]
    return table.loc[index]
