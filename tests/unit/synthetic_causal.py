"""Made-up tables of the causal sweeps in the shape of their schemas: the refusal side moves refusal, the harmfulness side hardly."""

from itertools import product

import numpy as np
import pandas as pd

from safety_geometry.figures.modes import MODES, carrier

CHECKPOINTS = (("sft", 30, "30"), ("r2d2", 10, "reference"), ("r2d2", 30, "30"), ("sft_refusal", 30, "30"))
SITES = {"H": 14, "R": 19}
PULL = {"h_only": -0.3, "h_perp_r": -0.25, "r_only": -4.0, "r_perp_h": -3.6, "h_plus_r": -4.4}
RATES = ("asr", "usefulness", "benign_mean", "degenerate", "any_refusal")


def layer_scan(seeds=(42,), layers=(2, 5, 8, 11, 14, 17, 19, 22, 25, 28), where=CHECKPOINTS) -> pd.DataFrame:
    rng, rows = np.random.default_rng(3), []
    for seed, (regime, step, anchor), mode, layer in product(seeds, where, MODES, layers):
        value = PULL[mode] * np.exp(-(((layer - 18) / 5) ** 2)) * (0.2 if regime == "sft" else 1.0) + rng.normal(0, 0.1)
        rows.append({
            "seed": seed, "regime": regime, "step": step, "anchor": anchor, "family": "ablate", "mode": mode, "lambda": 1.0, "layer": layer,
            "log_odds_delta": value, "lo": value - 0.3, "hi": value + 0.3, "n": 32, "kl_benign": 0.1,
            "layer_h": SITES["H"], "layer_r": SITES["R"],
        })  # fmt: skip
    return pd.DataFrame(rows)


def causal_sweep(
    seeds=(42,), ablate=(0.25, 0.5, 1.0), steer=(-4.0, -2.0, -1.0, 1.0, 2.0, 4.0), where=CHECKPOINTS[1:]
) -> pd.DataFrame:
    rng, rows = np.random.default_rng(4), []
    grid = [("ablate", s) for s in ablate] + [("steer", s) for s in steer]
    for seed, (regime, step, anchor), (family, strength), mode in product(seeds, where, grid, MODES):
        effect = PULL[mode] * strength if family == "ablate" else -PULL[mode] * np.tanh(strength / 2)
        kinds = [
            ("target", 0),
            *[(kind, i) for kind in ("random", "covariance", "shuffled", "wrong_layer") for i in range(4)],
        ]
        for control, index in kinds:
            delta = effect if control == "target" else rng.normal(0, 0.1 * abs(effect) + 0.05)
            rows.append({
                "seed": seed, "regime": regime, "step": step, "anchor": anchor, "target": f"{family}:{mode}:{strength:g}:layer:1",
                "family": family, "mode": mode, "scope": "layer", "rank": 1, "lambda": strength, "control": control, "number": index,
                "control_seed_h": np.nan if control == "target" or "H" not in carrier(mode) else 7 + index,
                "control_seed_r": np.nan if control == "target" or "R" not in carrier(mode) else 77 + index, "log_odds_delta": delta, "primary": False,
                "layer_h": SITES["H"] if "H" in carrier(mode) else np.nan, "layer_r": SITES["R"] if "R" in carrier(mode) else np.nan,
            })  # fmt: skip
    return pd.DataFrame(rows)


def control_normalised(seeds=(42,), metrics=("log_odds", "asr")) -> pd.DataFrame:
    rng, rows = np.random.default_rng(5), []
    kinds = ("pooled", "random", "covariance", "shuffled", "wrong_layer", "wrong_position", "norm_matched")
    for seed, (regime, step, anchor), mode, metric, control in product(
        seeds, CHECKPOINTS[2:], ("h_only", "r_only", "r_perp_h"), metrics, kinds
    ):
        delta = PULL[mode] if metric == "log_odds" else -PULL[mode] / 12
        mean, half = delta * rng.uniform(0.0, 0.2), abs(delta) * 0.2 + 0.05
        tested = metric == "log_odds"
        rows.append({
            "seed": seed, "regime": regime, "step": step, "anchor": anchor, "target": f"ablate:{mode}:1:layer:1", "family": "ablate",
            "mode": mode, "scope": "layer", "rank": 1, "lambda": 1.0, "metric": metric, "control": control, "value": delta, "baseline": 0.0,
            "delta": delta, "control_mean": mean, "delta_control": delta - mean, "lo": delta - mean - half, "hi": delta - mean + half,
            "n_prompts": 32, "n_controls": 8, "primary": True,
            "p_permutation": 0.01 if tested and control == "pooled" else np.nan,
            "p_holm": 0.03 if tested and control == "pooled" else np.nan,
            "p_smallest": 0.005 if tested and control == "pooled" else np.nan, "p_kind": 0.2 if tested else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows)


def sweep_pooled(metrics=("log_odds", "asr")) -> pd.DataFrame:
    """As `control_normalised`, over two seeds: half of its effects."""
    frame = control_normalised(metrics=metrics).query("control == 'pooled'").drop(columns=["seed", "step", "control"])
    halved = {name: frame[name] / 2 for name in ("delta", "control_mean", "delta_control", "lo", "hi")}
    return frame.assign(**halved, n_seeds=2, p_holm=frame["p_holm"] / 3, n_prompts=64).reset_index(drop=True)


def aligned_anchors(seeds=(42,), models=("sft_refusal:30", "qwen2.5-7b-instruct")) -> pd.DataFrame:
    rows = []
    for seed, model in product(seeds, models):
        row = {"model": model, "seed": seed, "layer_h": 14, "pos_h": "t_inst", "layer_r": 19, "pos_r": -1, "c_cos": 0.04,
               "angle_1": 84.0, "angle_2": 88.1, "angle_3": 89.5, "family": "ablate", "lambda": 1.0, "scope": "layer", "rank": 1, "n": 40}  # fmt: skip
        for name, value in (("baseline", 0.1), ("h_only", 0.15), ("r_only", 0.7), ("r_perp_h", 0.65)):
            row |= {f"asr_{name}": value, f"asr_{name}_lo": max(value - 0.12, 0.01), f"asr_{name}_hi": value + 0.14}
        rows.append(row | {"r_minus_h": 0.55, "r_minus_h_lo": 0.35, "r_minus_h_hi": 0.7, "r_minus_h_p": 0.0002})
    return pd.DataFrame(rows)


def follow_up(seeds=(42,)) -> pd.DataFrame:
    rng, rows = np.random.default_rng(6), []
    for seed, (regime, step, anchor) in product(seeds, CHECKPOINTS[2:]):
        for role, mode, index in [
            ("baseline", None, 0),
            *[(r, m, i) for m in PULL for r, i in (("target", 0), ("control", 0), ("control", 1))],
        ]:
            moved = role == "target" and mode.startswith("r")
            row = {
                "seed": seed, "regime": regime, "step": step, "anchor": anchor, "target": f"ablate:{mode}:1:layer:1" if mode else None,
                "family": "ablate" if mode else None, "mode": mode, "lambda": 1.0 if mode else np.nan, "scope": "layer" if mode else None,
                "rank": 1 if mode else np.nan, "role": role, "control": role if role != "control" else "random", "number": index,
                "chosen_delta": -PULL[mode] / 10 if role == "target" else np.nan,
            }  # fmt: skip
            values = (0.6, 0.3, 0.9, 0.2, 0.1) if moved else (0.1, 0.02, 1.4, 0.02, 0.6)
            for metric, value in zip(RATES, values, strict=True):
                value += rng.uniform(0, 0.08)
                row |= {metric: value, f"{metric}_lo": max(value - 0.1, 0), f"{metric}_hi": value + 0.12}
            rows.append(row | {"n_asr": 20, "n_usefulness": 12, "n_benign": 30, "n_degenerate": 62})
    return pd.DataFrame(rows)


def quadrants(seeds=(42,), where=CHECKPOINTS[2:]) -> pd.DataFrame:
    rng, rows = np.random.default_rng(7), []
    centres = {"harmful_refused": (1, 1.2, 60), "harmful_complied": (0.8, 0.1, 20), "benign_refused": (-0.3, 0.6, 12),
               "benign_complied": (-1, -1, 90), "benign_degenerate": (-1.2, -0.5, 5)}  # fmt: skip
    for seed, (regime, step, anchor), (quadrant, (x, y, n)) in product(seeds, where, centres.items()):
        for i in range(n):
            rows.append({
                "seed": seed, "regime": regime, "step": step, "anchor": anchor, "quadrant": quadrant, "id": f"{quadrant}-{i}",
                "proj_h": x + rng.normal(0, 0.35), "proj_r": y + rng.normal(0, 0.3), "available": n, "sampled": n,
            })  # fmt: skip
    return pd.DataFrame(rows)


def scan_with_controls(**sized) -> pd.DataFrame:
    """A layer scan whose controls move .2 everywhere; of each mode the cell that falls most is recommended."""
    frame = layer_scan(**sized)
    beyond = frame["log_odds_delta"] - 0.2
    best = beyond.groupby([frame["seed"], frame["regime"], frame["step"], frame["mode"]]).idxmin()
    return frame.assign(
        control_mean=0.2, delta_control=beyond, delta_control_lo=beyond - 0.1, delta_control_hi=beyond + 0.1,
        n_controls=4, max_kl=0.1, recommended=frame.index.isin(best),
    )  # fmt: skip


MADE = {
    "layer_scan": layer_scan, "causal_sweep": causal_sweep, "control_normalised": control_normalised,
    "aligned_anchors": aligned_anchors, "follow_up": follow_up, "quadrants": quadrants,
}  # fmt: skip
