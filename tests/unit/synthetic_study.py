"""A made-up study in the paper's shape: judged completions and the tables of carriers, with known answers."""

import functools
from itertools import product

import numpy as np
import pandas as pd

from safety_geometry.claims.tables import (
    Checkpoint,
    behaviour_table,
    contrasts_table,
    five_anchor_table,
    stack,
    trajectory_table,
)
from safety_geometry.judges.attack_arms import attack_arms_table

REGIMES = ("sft", "r2d2", "sft_refusal")
ANCHORS = {5: "reference", 10: "10", 20: "20", 30: "30", 40: "40"}
SIZES = {
    "fixed_source": 24, "autodan": 24, "framings": 24, "universal": 24, "direct": 24, "usefulness": 16, "lookalike": 30,
    "counterpart": 20, "utility": 60,
}  # fmt: skip
ATTACKED = ("fixed_source", "autodan", "framings", "universal")  # suites of direct requests
# Share of prompts at each anchor: successful attacks, refused look-alikes, helpful answers.
SHAPE = {
    "sft": ((0.75, 0.1, 0.8),) * 5,
    "r2d2": ((0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.8, 0.2), (0.2, 0.5, 0.5), (0.5, 0.2, 0.7)),
    "sft_refusal": ((0.4, 0.5, 0.5),) * 5,
}
COUPLED = {"sft": (0.022,) * 5, "r2d2": (0.075, 0.078, 0.066, 0.021, 0.0205), "sft_refusal": (0.03,) * 5}
R_LAYER = {"sft": (23, 5, 5, 5, 5), "r2d2": (23, 23, 23, 5, 5), "sft_refusal": (23, 23, 23, 23, 23)}
RANK = {"sft": 1.24, "r2d2": 1.25, "sft_refusal": 1.26}
RULED = {"length": 0.6, "words": 0.95}
RULERS = {f"ruler_{name}_auroc": value for name, value in RULED.items()}
LAYERS, DEEPEST, WIDTH = (5, 10, 14, 19, 23), 30, 24


def judged(regime: str, place: int, limit: float = 0.25) -> pd.DataFrame:
    """Rows of judge.py; the first prompts of a suite are those that are refused, or that an attack succeeds on."""
    attacked, refused, helped = SHAPE[regime][place]
    rows = []

    def add(suite, number, success=False, refuses=False, utility=np.nan, arm=None, useful=0.0):
        count, prompt = SIZES[suite], f"{'direct' if suite in ATTACKED else suite}-{number:02d}"
        rows.append({
            "id": ":".join(filter(None, (suite, arm, prompt))), "suite": suite, "prompt_id": prompt,
            "pair": f"lookalike-{number:02d}" if suite == "counterpart" else None,
            "type": None, "arm": arm, "refusal": "full" if refuses and number % 2 else "partial" if refuses else "none",
            "any_refusal": refuses, "refusal_score": float(refuses), "harm_score": float(success), "attack_success": success,
            "usefulness": useful, "degenerate": False, "hit_limit": number >= (1 - limit) * count, "n_tokens": 20, "off_topic": np.nan,
            "utility": utility, "judge_refusal": "refusal_rules", "judge_harm": "harm_trained", "success_means": "attack_success",
        })  # fmt: skip

    for suite, count in SIZES.items():
        for number in range(count):
            share = (number + 0.5) / count
            if suite == "fixed_source":
                add(suite, number, success=share < attacked, refuses=share >= attacked, arm="gcg")
                add(suite, number, success=share < attacked / 8, refuses=share >= attacked / 8, arm="gcg_init")
            elif suite == "framings":  # two templates, of which the second succeeds where the first does not
                add(suite, number, success=share < attacked / 2, arm="t1")
                add(suite, number, success=attacked / 2 <= share < attacked, arm="t2")
            elif suite in ("autodan", "universal"):
                add(suite, number, success=share < attacked / 4, refuses=share >= attacked / 4, arm=suite)
            elif suite in ("direct", "lookalike"):
                add(suite, number, success=suite == "direct" and share >= refused, refuses=share < refused)
            elif suite == "counterpart":
                add(suite, number, refuses=share < (1 + refused) / 2)
            elif suite == "usefulness":
                add(suite, number, refuses=share < refused, useful=0.0 if share < refused else 0.3 + 0.4 * share)
            else:
                add(
                    suite,
                    number,
                    utility=2.0 if share < helped / 2 else 1.0 if share < helped else 0.0,
                    refuses=share >= helped,
                )
    return pd.DataFrame(rows)


def identity(seed, regime, step):
    return {"seed": seed, "regime": regime, "step": step, "anchor": ANCHORS.get(step)}


def carriers(seed: int, regime: str, saves: tuple[int, ...]) -> dict[str, pd.DataFrame]:
    """coupling, geometry, coupling_controls, profile and selection of one regime."""
    rng = np.random.default_rng([seed, REGIMES.index(regime)])
    names = ("coupling", "geometry", "coupling_controls", "profile", "selection", "separability")
    out = {name: [] for name in names}
    for number, step in enumerate(saves):
        place = max(i for i, s in enumerate(sorted(ANCHORS)) if s <= max(step, 5))
        me, value, layer = identity(seed, regime, step), COUPLED[regime][place], R_LAYER[regime][place]
        value, own = value * (1 + 0.02 * rng.random()), me["anchor"] is not None
        here = {"layer_h": 29, "pos_h": "t_inst", "layer_r": layer, "pos_r": -4}
        row = (
            me
            | {"selection": "own" if own else "frozen", "r_status": "own", "r_reason": None}
            | here
            | {"admissible": True if own else None, "c_layer": 0.1}
        )
        for name, factor in (("c_cos", 1.2), ("c_sub", 0.8), ("hrci", 1.1), ("hrci_repr", 1.0)):
            middle = value * factor
            row |= {name: middle, f"{name}_lo": middle * 0.93, f"{name}_hi": middle * 1.07}
            spread = {"lo": middle * 0.93, "hi": middle * 1.07, "n": 100}
            out["coupling_controls"].append(
                me | {"companion": "own_sites"} | here | {"quantity": name, "value": middle} | spread
            )
            out["coupling_controls"].append(
                me
                | {"companion": "isotropic"}
                | here
                | {"quantity": name, "value": 0.006, "lo": None, "hi": None, "n": 0}
            )
            out["coupling_controls"].append(
                me
                | {"companion": "shuffled"}
                | here
                | {"quantity": name, "value": 0.008, "lo": 0.002, "hi": 0.012, "n": 200}
            )
            out["coupling_controls"].append(
                me
                | {"companion": "cross_fitted"}
                | here
                | {"quantity": name, "value": middle, "lo": middle * 0.8, "hi": middle * 1.2, "n": 50}
            )
        for name, top in (("reliability_h", 0.97), ("reliability_r", 0.94), ("ceiling", 0.955)):
            bounds = {"lo": top - 0.02, "hi": top + 0.02} if name != "ceiling" else {"lo": None, "hi": None}
            out["coupling_controls"].append(
                me | {"companion": "split_half"} | here | {"quantity": name, "value": top, **bounds, "n": 50}
            )
        for common in LAYERS:
            site = here | {"layer_h": common, "layer_r": common}
            fixed = {
                "quantity": "c_cos",
                "value": 0.3 + common / 100,
                "lo": 0.29 + common / 100,
                "hi": 0.31 + common / 100,
                "n": 100,
            }
            out["coupling_controls"].append(me | {"companion": "fixed_layer"} | site | fixed)
            out["coupling_controls"].append(me | {"companion": "fixed_layer_cross_fitted"} | site | fixed)
        score = 1.9 if layer == 23 else 1.1
        scores = {
            "s_total": score,
            "s_refuse": 0.97,
            "s_comply": score - 0.92,
            "kl": 0.05,
            "s_total_lo": score - 0.1,
            "s_total_hi": score + 0.05,
            "site_share": 0.9,
            "none_share": 0.0,
        }
        row |= scores if own else dict.fromkeys(scores)
        row |= {f"{name}_frozen": row[name] for name in ("hrci", "hrci_repr", "c_cos", "c_sub")}
        out["coupling"].append(row | {"h_score": 3.0} | RULERS | {"n_harmful": 48, "n_benign": 48})
        later = step - 5
        angle = {"sft": 1.2, "r2d2": 0.7, "sft_refusal": 0.8}[regime] * later
        shape = me | {
            "selection": row["selection"],
            "r_status": "own",
            "r_reason": None,
            "reference": 5,
            "erank": RANK[regime] + 0.01 * (number % 2),
            "pr": 1.1,
            "k90": 1,
            "k95": 1,
            "angle_1": angle / 20,
            "angle_2": angle / 2,
            "angle_3": angle,
        }
        for kind in "hr":
            drift = min(1.0, 0.012 * later)
            shape |= {
                f"norm_{kind}": 4.0,
                f"drift_{kind}_ref": drift,
                f"cos_fixed_{kind}_ref": 1 - drift,
                f"drift_{kind}_prev": 0.02 if number else None,
                f"cos_fixed_{kind}_prev": 0.98 if number else None,
            }
        change = {"s_total_drift": score - 1.9, "s_refuse_drift": 0.0}
        out["geometry"].append(shape | (change if own else dict.fromkeys(change)))
        for ell in range(DEEPEST):
            for q, v in (("dprime", 3 * np.exp(-(((ell - 29) / 12) ** 2))), ("auroc", 0.9), ("gap", ell / 10)):
                out["profile"].append(
                    me
                    | {
                        "carrier": "H",
                        "layer": ell,
                        "position": "t_inst",
                        "quantity": q,
                        "value": v,
                        "admissible": None,
                        "selected": ell == 29 and q == "dprime",
                    }
                )
        for selector in ("effect", "cosmic") if own else ():
            out["selection"].append(
                me | {"selector": selector, "in_charge": selector == "effect"} | selected(layer, score)
            )
        for carrier, ruler in product("HR", RULED) if own else ():
            site = {
                "carrier": carrier,
                "layer": layer if carrier == "R" else 29,
                "position": "-4" if carrier == "R" else "t_inst",
            }
            out["separability"].append(me | site | {"ruler": ruler} | beside(RULED[ruler]))
        for ell in LAYERS if own else ():
            for position in (-5, -4, -3, -2, -1):
                chosen, top = (ell, position) == (layer, -4), score if ell == layer else score - 0.5
                for q, v in (("effect", top - 0.05 * abs(position + 4)), ("s_total", top), ("kl", 0.05)):
                    out["profile"].append(
                        me
                        | {
                            "carrier": "R",
                            "layer": ell,
                            "position": str(position),
                            "quantity": q,
                            "value": v,
                            "admissible": (ell + position) % 3 != 0 or chosen,
                            "selected": chosen and q == "effect",
                        }
                    )
    out["profile"] = [row | RULERS for row in out["profile"]]
    return {name: pd.DataFrame(rows) for name, rows in out.items()}


def beside(ruler: float) -> dict:
    """What the table separability says of a carrier with an AUROC of .99 beside a ruler."""
    gap = 0.99 - ruler
    ends = {"difference": gap, "difference_lo": gap - 0.04, "difference_hi": gap + 0.03}
    return {"auroc": 0.99, "ruler_auroc": ruler} | ends | {"changed": 20, "n_harmful": 24, "n_benign": 24}


def selected(layer: int, gain: float) -> dict:
    """What the table selection says of a site that is R."""
    return {
        "status": "own", "reason": None, "layer": layer, "position": -4, "admissible": True, "gain": gain - 0.1,
        "gain_lo": gain - 0.4, "gain_hi": gain + 0.2, "fall": 1.8 - (gain - 0.1), "fall_lo": 1.6 - (gain - 0.1),
        "fall_hi": 2.0 - (gain - 0.1), "fall_n": 20, "gain_all": gain, "no_op": 0.0, "null_95": 0.3, "null_sets": 20,
        "null_sites": 6, "null_cos": 0.1, "min_gain": 0.5, "runner_up_layer": 14, "runner_up_position": -1, "margin": 0.2,
        "ties": 1, "site_share": 0.9, "none_share": 0.0, "kl": 0.05, "kl_all_layers": 0.08, "inverted": False,
        "openings": "own", "opening_tokens": 2, "auroc": 0.95, "auroc_configured": 0.9, "n_refused": 20, "n_answered": 22,
        "n_harmful": 24, "n_benign": 24, "n_screen": 4,
    }  # fmt: skip


def training(seed: int, regime: str, last: int) -> pd.DataFrame:
    rows, rng = [], np.random.default_rng([seed, 7])
    for step in range(1, last + 1):
        pool, due = regime != "sft", step % 5 == 0
        before = 1.5 + 0.03 * step + 0.2 * rng.random() if pool else None
        rows.append({
            "seed": seed, "regime": regime, "step": step, "lr": 1e-3, "loss": 2.0 / step**0.5, "clean": 0.9 / step**0.1,
            "away": 1.2 / step**0.5 if pool else None, "toward": 2.0 / step if pool else None, "pool_before": before,
            "pool_after": before - (0.3 if regime == "r2d2" else 0) if pool else None, "rejected": 0, "attack_tokens": 1000 if pool else 0,
            "cases": f"a-{step % 4} a-{(step + 1) % 4}" if pool else None,
            "updates_min": step // 4 * (regime == "r2d2") if pool else None, "updates_max": step * (regime == "r2d2") if pool else None,
            "grad_norm": 0.4, "refusal_harmful": (min(1.0, step / 10) if pool else 0.0) if due else None,
            "refusal_benign": (max(0.0, 0.5 - step / 80) if pool else 0.0) if due else None,
        })  # fmt: skip
    return pd.DataFrame(rows)


def attacks(seed: int) -> pd.DataFrame:
    rows = [
        {
            "seed": seed,
            "id": f"{i:012x}",
            "attack": "gcg",
            "kind": "fixed",
            "source": "sft_refusal:40",
            "behaviour": f"b{i}",
            "behaviours": 1,
            "budget_steps": 10,
            "width": 24,
            "steps": 10,
            "loss_start": 2.0,
            "loss": 1.0,
            "candidates": 240,
            "rejected": 3,
            "tokens": 5000,
            "operations": 1.35e12,
            "batch_size": 48,
            "stopped": "steps",
            "success": i % 3 == 0,
            "success_start": False,
        }
        for i in range(24)
    ]
    other = {"source": "sft:40", "kind": "adaptive", "id": "f" * 12}  # which stands first must not matter
    return pd.DataFrame([rows[0] | other, *rows])


def study(seeds=(1,), saves=(5, 10, 15, 20, 30, 40), regimes=REGIMES) -> dict[str, pd.DataFrame]:
    """Every table by name, put together by the library."""
    parts = [carriers(seed, regime, saves) for seed in seeds for regime in regimes]
    tables = {name: stack([part[name] for part in parts], regimes) for name in parts[0]}
    tables["training"] = stack([training(s, r, saves[-1]) for s in seeds for r in regimes], regimes)
    tables["attacks"] = stack([attacks(seed) for seed in seeds], regimes)
    frames = {
        Checkpoint(s, r, step, ANCHORS[step]): judged(r, place)
        for s in seeds for r in regimes for place, step in enumerate(sorted(ANCHORS))
    }  # fmt: skip
    tables["behaviour"] = behaviour_table(frames, seed=3, draws=200)
    tables["contrasts"] = contrasts_table(frames, regimes, seed=3, draws=200)
    tables["attack_arms"] = attack_arms_table(frames)
    tables["trajectory"] = trajectory_table(tables["coupling"], tables["behaviour"])
    tables["five_anchor"] = five_anchor_table(tables["trajectory"])
    return tables


@functools.cache
def study_once() -> dict[str, pd.DataFrame]:
    """One study for all tests; they must not change its frames."""
    return study()
