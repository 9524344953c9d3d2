"""Claims about interventions: sweeps against matched controls, late ablation, aligned models.

arXiv 2606.16349 (Tables 1 and 4) and arXiv 2604.27019 (Table 4). An interval of Δ_control says that a target differs
from the average control; that it differs more than one control from another takes the permutation p. A claim on the
readout asks for both, and one on R's readout that it lies beyond the best of as many shuffled directions.
"""

import math

import pandas as pd

from safety_geometry.claims.evidence import ADVERSARIAL, BySeed, Evidence, turned
from safety_geometry.claims.rules import ALPHA, Measured, NotApplicable, Undecidable
from safety_geometry.stats.estimates import holm
from safety_geometry.stats.pooling import Estimate, average, pooled, stouffer

FEWEST_RANDOM = 10  # random directions, each of which removing R has to exceed
FEWEST_CONTROLS = 5  # from which resampling them covers their choice; the interval is too narrow with two or three
NEARLY_RIGHT = 75.0  # degrees from which two directions count as nearly orthogonal; the paper's smallest angle is 82.3
# Cells of the claims: what is done, and the sign of its effect on refusal if the carrier is what it is said to be.
CELLS = {
    "r_removed": ("r_only", "ablate", 1.0, -1), "r_added": ("r_only", "steer", 1.0, 1),
    "r_subtracted": ("r_only", "steer", -1.0, -1), "h_removed": ("h_only", "ablate", 1.0, -1),
    "h_added": ("h_only", "steer", 1.0, 1), "h_subtracted": ("h_only", "steer", -1.0, -1),
}  # fmt: skip


def rows_of(evidence: Evidence, regime: str, metric: str) -> pd.DataFrame:
    """control_normalised of a regime at its swept checkpoint: the primary cells' step, else the last."""
    frame = evidence.table("control_normalised")
    frame = frame[frame["regime"] == regime]
    if not len(frame):
        raise NotApplicable(f"the sweep has no checkpoint of {regime}")
    main = frame[frame["primary"].astype(bool)]
    step = (main if len(main) else frame)["step"].max()
    frame = frame[(frame["step"] == step) & (frame["metric"] == metric)]
    return frame[(frame["scope"] == "layer") & (frame["rank"] == 1)]


def cell(evidence: Evidence, regime: str, name: str, metric: str, control: str = "pooled") -> pd.DataFrame:
    mode, family, strength, _ = CELLS[name]
    rows = rows_of(evidence, regime, metric)
    rows = rows[(rows["mode"] == mode) & (rows["family"] == family) & (rows["lambda"] == strength)]
    rows = rows[(rows["control"] == control) & rows["delta_control"].notna()]
    if not len(rows):
        raise NotApplicable(f"the sweep has no {metric} of {family} {mode}, lambda {strength:g}, in {regime}")
    return rows


def estimates(rows: pd.DataFrame, sign: int) -> BySeed:
    """Δ_control by seed, turned so that the claimed effect is positive."""
    ends = rows[["seed", "delta_control", "lo", "hi", "n_prompts"]].itertuples(index=False)
    by_seed = {int(seed): Estimate(value, lo, hi, n).of_few() for seed, value, lo, hi, n in ends}
    return by_seed if sign > 0 else turned(by_seed)


def moves_refusal(regime: str, name: str):
    """Δ_control of the refusal log-odds in the claimed direction."""

    def measure(evidence: Evidence) -> Measured:
        sign, rows = CELLS[name][3], cell(evidence, regime, name, "log_odds")
        by_seed = estimates(rows, sign)
        p, smallest = permutation(evidence, regime, name)
        if smallest >= ALPHA:
            raise NotApplicable(
                f"{words(rows, name, regime)}: no permutation p that could be below .05 (the cell is not primary, or "
                "its directions are few)"
            )
        where = f"log-odds of refusal, {words(rows, name, regime)}"
        return Measured(by_seed, where, p=p, p_smallest=smallest, barrier=barrier(evidence, regime, name, sign))

    return measure


def words(rows: pd.DataFrame, name: str, regime: str) -> str:
    carrier, done = name.split("_")
    expected = "more" if CELLS[name][3] > 0 else "less"
    return (
        f"{carrier.upper()} {done} at step {rows['step'].iloc[0]:.0f} of {regime} beyond "
        f"{rows['n_controls'].min():.0f} controls (positive: {expected} refusal)"
    )


def permutation(evidence: Evidence, regime: str, name: str) -> tuple[float, float]:
    """p over seeds of a primary cell and the least that it can be, Holm over the regime's cells.

    That of the means over seeds among the means of the directions (table sweep_pooled) where the study has it; else the
    seeds' own p, joined by Stouffer's sum with the signs of their effects. A cell that was not tested has no p.
    """
    target = cell(evidence, regime, name, "log_odds")["target"].iloc[0]
    tested = pooled_cells(evidence, regime) or joined_cells(evidence, regime)
    if target not in tested:
        return 1.0, 1.0
    adjusted = dict(zip(tested, holm([p for p, _ in tested.values()]), strict=True))
    return float(adjusted[target]), min(1.0, tested[target][1] * len(tested))


def pooled_cells(evidence: Evidence, regime: str) -> dict[str, tuple[float, float]]:
    """p and least p of the regime's primary cells by target, over all seeds; empty without the table."""
    if (frame := evidence.tables.get("sweep_pooled")) is None:
        return {}
    rows = frame[(frame["regime"] == regime) & (frame["metric"] == "log_odds") & frame["p_permutation"].notna()]
    return {row["target"]: (row["p_permutation"], row["p_smallest"]) for row in rows.to_dict("records")}


def joined_cells(evidence: Evidence, regime: str) -> dict[str, tuple[float, float]]:
    """The same from each seed's p."""
    rows = rows_of(evidence, regime, "log_odds")
    rows = rows[(rows["control"] == "pooled") & rows["p_permutation"].notna()]
    return {
        target: (stouffer(part["delta_control"], part["p_permutation"]), stouffer([1] * len(part), part["p_smallest"]))
        for target, part in rows.groupby("target", sort=True)
    }


def barrier(evidence: Evidence, regime: str, name: str, sign: int) -> str:
    """Why a cell of R may not hold: it is not beyond the best of as many shuffled directions; empty: nothing."""
    if not name.startswith("r_"):
        return ""
    try:
        best = pooled(estimates(cell(evidence, regime, name, "log_odds", "selected"), sign))
    except NotApplicable:
        return ""
    if best.wide[0] > 0:
        return ""
    return (
        f"it does not lie beyond the best of as many shuffled directions (by {best.value:.2f} [{best.wide[0]:.2f}, "
        f"{best.wide[1]:.2f}])"
    )


def moves_attacks(regime: str, name: str):
    """Δ_control of attack success on direct requests, generated: less refusal is more success."""

    def measure(evidence: Evidence) -> Measured:
        rows = cell(evidence, regime, name, "asr")
        controls = rows["n_controls"].min()
        if controls < FEWEST_CONTROLS:
            raise NotApplicable(
                f"{controls:.0f} pooled controls that answered are too few for an interval over controls (at least "
                f"{FEWEST_CONTROLS})"
            )
        where = words(rows, name, regime).split(" (")[0]
        return Measured(estimates(rows, -CELLS[name][3]), f"attack success, {where}")

    return measure


def late_ablation_lowers(evidence: Evidence) -> Measured:
    """Attack success without minus with R ablated at r2d2's last swept step, on the same requests."""
    frame = evidence.table("causal_sweep")
    frame = frame[frame["regime"] == ADVERSARIAL]
    if not len(frame):
        raise NotApplicable(f"the sweep has no checkpoint of {ADVERSARIAL}")
    rows = frame[(frame["step"] == frame["step"].max()) & (frame["control"] == "target")]
    rows = rows[(rows["family"] == "ablate") & (rows["mode"] == "r_only") & (rows["scope"] == "layer")]
    rows = rows[(rows["rank"] == 1) & (rows["lambda"] == 1) & rows["asr_delta"].notna()]
    step = frame["step"].max()
    if not len(rows):
        raise NotApplicable(f"no generated answers with R ablated at r2d2's step {step:.0f}")
    ends = rows[["seed", "asr_delta", "asr_delta_lo", "asr_delta_hi", "n_asr"]].itertuples(index=False)
    by_seed = {int(seed): Estimate(value, lo, hi, n).of_rates().turned() for seed, value, lo, hi, n in ends}
    base = frame[(frame["step"] == step) & (frame["control"] == "baseline") & frame["asr"].notna()]["asr"].mean()
    if base == 0:
        raise Undecidable(f"attack success at r2d2's step {step:.0f} is at the floor: there is nothing to lower")
    return Measured(
        by_seed, f"attack success at r2d2's step {step:.0f} without minus with R ablated (without {base:.2f})"
    )


# ---------------------------------------------------------------------------------------------------- aligned models


def aligned(evidence: Evidence) -> pd.DataFrame:
    """One ablation row per aligned model and seed: of several the one nearest to a full ablation of one direction at
    its own layer."""
    rows = evidence.table("aligned_anchors")
    rows = rows[rows["family"] == "ablate"]
    if not len(rows):
        raise NotApplicable("no aligned model was ablated")
    rows = rows.assign(_elsewhere=rows["scope"] != "layer", _far=(rows["lambda"] - 1).abs())
    rows = rows.sort_values(["seed", "model", "_elsewhere", "rank", "_far"], kind="stable")
    return rows.drop_duplicates(["seed", "model"]).reset_index(drop=True)


def over_models(rows: pd.DataFrame, estimate) -> BySeed:
    """Mean over the aligned models of a seed, which answer the same requests."""
    return {
        int(seed): average([estimate(row) for row in part.to_dict("records")]) for seed, part in rows.groupby("seed")
    }


def aligned_reopens(name: str):
    """Attack success with R (or R without H) ablated, minus with H ablated."""

    def measure(evidence: Evidence) -> Measured:
        rows = aligned(evidence)
        ends = (name, f"{name}_lo", f"{name}_hi", "n")
        by_seed = over_models(rows, lambda row: Estimate(*(row[end] for end in ends)).of_rates())
        edited = {"r_minus_h": "R", "r_perp_minus_h": "R without H"}[name]
        return Measured(by_seed, f"attack success with {edited} ablated minus with H ablated, {models(rows)}")

    return measure


def aligned_refuses_half(evidence: Evidence) -> Measured:
    """Half of the refusals without an edit, minus the refusals with R ablated at its own layer, on the same generated
    direct requests. It holds only where R's refusals lie below those of each of `FEWEST_RANDOM` random directions: the
    nearest of them decides."""
    rows = refusals_without_r(evidence, aligned(evidence))
    by_model = (Estimate(*(row[f"halved{end}"] for end in ("", "_lo", "_hi")), row["n_prompts"]).of_rates()
                for row in rows.to_dict("records"))  # fmt: skip
    nearest = [
        Estimate(-row["worst_delta"], -row["worst_hi"], -row["worst_lo"], row["n_prompts"]).of_rates()
        for row in rows.to_dict("records")
    ]
    by_seed: dict[int, list[Estimate]] = {}
    beyond: dict[int, list[Estimate]] = {}
    for seed, half, least in zip(rows["seed"], by_model, nearest, strict=True):
        by_seed.setdefault(int(seed), []).append(half)
        beyond.setdefault(int(seed), []).append(least)
    gap = pooled({seed: min(each, key=lambda estimate: estimate.lo) for seed, each in beyond.items()})
    counts = f"{rows['n_controls'].min():.0f} random directions"
    more = f"more by {gap.value:.2f} [{gap.wide[0]:.2f}, {gap.wide[1]:.2f}]"
    kept = f"{rows['baseline'].mean():.2f} without, {rows['value'].mean():.2f} with"
    return Measured(
        {seed: average(each) for seed, each in by_seed.items()},
        f"half of the refusals minus those with R ablated ({kept}), {models(rows)}, beside {counts}",
        barrier="" if gap.wide[0] > 0 else f"the nearest of {counts} leaves as few refusals ({more})",
    )


def refusals_without_r(evidence: Evidence, of_models: pd.DataFrame) -> pd.DataFrame:
    """Rows of control_normalised of these aligned models: direct refusals with R ablated at its own layer, beside
    random directions."""
    frame = evidence.column("control_normalised", "halved", "worst_delta")
    frame = frame[(frame["metric"] == "direct_refusal") & (frame["control"] == "random")]
    mine = (frame["mode"] == "r_only") & (frame["family"] == "ablate") & (frame["lambda"] == 1)
    frame = frame[mine & (frame["scope"] == "layer") & (frame["rank"] == 1)]
    places = set(zip(of_models["seed"], of_models["model"], strict=True))
    frame = frame.assign(model=frame["regime"] + ":" + frame["anchor"].astype(str))
    names = zip(frame["seed"], frame["regime"], frame["model"], strict=True)
    rows = frame[[bool({(seed, regime), (seed, model)} & places) for seed, regime, model in names]]
    if not len(rows):
        raise NotApplicable("no aligned model answered direct requests with R and with random directions ablated")
    if (fewest := rows["n_controls"].min()) < FEWEST_RANDOM:
        raise NotApplicable(
            f"{fewest:.0f} random directions answered beside R, of which the claim asks {FEWEST_RANDOM}"
        )
    return rows


def aligned_moves_refusal_more(evidence: Evidence) -> Measured:
    """Refusals with H ablated, minus with R ablated, on the same direct requests."""
    evidence.column("aligned_anchors", "refusal_h_minus_r")
    rows = aligned(evidence).dropna(subset=["refusal_h_minus_r"])
    if not len(rows):
        raise NotApplicable("no aligned model has refusals of direct requests with H and with R ablated")
    ends = ("refusal_h_minus_r", "refusal_h_minus_r_lo", "refusal_h_minus_r_hi", "n")
    by_seed = over_models(rows, lambda row: Estimate(*(row[end] for end in ends)).of_rates())
    return Measured(by_seed, f"refusals with H ablated minus with R ablated, {models(rows)}")


def aligned_orthogonal(evidence: Evidence) -> Measured:
    """cos 75° minus C_cos of the aligned models that are checkpoints of the study."""
    frame = evidence.column("coupling", "c_cos_lo", "c_cos_hi").dropna(subset=["c_cos_lo", "c_cos_hi"])
    names = [frame["regime"], frame["regime"] + ":" + frame["step"].astype(str)]
    names.append(frame["regime"] + ":" + frame["anchor"].astype(str))
    rows = aligned(evidence)
    parts = {}
    for row in rows.to_dict("records"):
        same = (frame["seed"] == row["seed"]) & (pd.concat(names, axis=1) == row["model"]).any(axis=1)
        for own in frame[same].head(1).to_dict("records"):
            most = math.cos(math.radians(NEARLY_RIGHT))
            ends = [most - own[name] for name in ("c_cos", "c_cos_hi", "c_cos_lo")]
            parts.setdefault(int(row["seed"]), []).append(Estimate(*ends, own["n_harmful"]))
    if not parts:
        raise NotApplicable("no aligned model has an interval of its coupling")
    what = f"cos {NEARLY_RIGHT:g} degrees less C_cos, {models(rows)}"
    return Measured({seed: average(part) for seed, part in parts.items()}, what)


def models(rows: pd.DataFrame) -> str:
    return "mean of " + ", ".join(sorted(set(rows["model"])))
