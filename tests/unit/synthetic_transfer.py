"""Made-up transfer of attacks in the paper's shape: how open a target is decides, coupling falls where targets open."""

from itertools import product

import numpy as np
import pandas as pd

STEPS = (10, 20, 30, 40, 50)
OPEN = {"r2d2": (0.0, 0.1, 0.3, 0.5, 0.7), "sft": (0.6, 0.6, 0.5, 0.65, 0.55)}
COUPLED = {"r2d2": (0.08, 0.075, 0.05, 0.03, 0.02), "sft": (0.022, 0.021, 0.0205, 0.02, 0.019)}
BEHAVIOURS = 20
REACH = {"gcg": 1.0, "autodan": 0.8, "gcg_init": 0.1, "seeds": 0.25}


def judged(
    seeds=(1,), regimes=("sft", "r2d2"), steps=STEPS, attacks=tuple(REACH), cross=False, opened=OPEN
) -> pd.DataFrame:
    """Every attack on every pair of checkpoints; GCG's unoptimised arm on each target once. On its own source an attack does best."""
    places, rows = list(product(regimes, steps)), []
    for seed, attack, source, target in product(seeds, attacks, places, places):
        if (attack == "gcg_init" and source != target) or (source[0] != target[0] and not cross):
            continue
        rate = opened[target[0]][steps.index(target[1])] * REACH[attack] - 0.01 * steps.index(source[1]) * (
            source != target
        )
        rows += [
            {"seed": seed, "attack": attack, "source_regime": source[0], "source_step": source[1], "target_regime": target[0],
             "target_step": target[1], "behaviour": f"b{i:02d}", "success": (i + 0.5) / BEHAVIOURS < rate,
             "success_means": "attack_success"}
            for i in range(BEHAVIOURS)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def attacks(judged: pd.DataFrame) -> pd.DataFrame:
    """What the table of attacks says of them: success on their own source, before and after optimisation."""
    own = judged[
        (judged["source_regime"] == judged["target_regime"]) & (judged["source_step"] == judged["target_step"])
    ]
    own = own.assign(source=own["source_regime"] + ":" + own["source_step"].astype(str))
    wide = own.set_index(["seed", "source", "behaviour", "attack"])["success"].unstack("attack")  # noqa: PD010
    parts = [
        pd.DataFrame({"success": wide[name], "success_start": wide.get(arm, pd.NA)}).reset_index().assign(attack=name)
        for name, arm in (("gcg", "gcg_init"), ("autodan", "seeds"))
        if name in wide
    ]
    return pd.concat(parts, ignore_index=True)


def carriers(
    seeds=(1,), regimes=("sft", "r2d2"), steps=STEPS, coupled=COUPLED, opened=OPEN, fixed=None
) -> dict[str, pd.DataFrame]:
    """trajectory, coupling and geometry of these checkpoints, the columns that predictors need; `fixed` are the fixed ASRs where they
    are not how open a checkpoint is."""
    rows = []
    for seed, regime, (i, step) in product(seeds, regimes, enumerate(steps)):
        value = coupled[regime][i]
        rows.append({"seed": seed, "regime": regime, "step": step, "hrci": 0.9 * value, "hrci_repr": value,
                     "fixed_asr": (fixed or opened)[regime][i], "s_total": 1.9 - 0.1 * i, "s_total_drift": -0.1 * i,
                     "drift_h_ref": 0.02 * i, "norm_h": (3.0, 5.0, 4.0, 6.0, 2.0, 5.5)[i]})  # fmt: skip
    frame = pd.DataFrame(rows)
    key = ["seed", "regime", "step"]
    return {
        "trajectory": frame[[*key, "hrci", "hrci_repr", "fixed_asr"]],
        "coupling": frame[[*key, "s_total"]],
        "geometry": frame[[*key, "s_total_drift", "drift_h_ref", "norm_h"]],
    }


def saves(n=40, change=16, noise=0.004, seed=0, regime="r2d2", run=1) -> pd.DataFrame:
    """A trajectory of n saves, every five steps: coupling falls at `change`, behaviour follows."""
    rng = np.random.default_rng([seed, n, change])
    late = np.arange(n) >= change
    value = np.where(late, 0.02, 0.075) + noise * rng.normal(size=n)
    frame = pd.DataFrame(
        {"seed": run, "regime": regime, "anchor": None, "step": 5 * (np.arange(n) + 1), "hrci_repr": value}
    )
    frame = frame.assign(
        hrci_repr_lo=value * 0.95,
        hrci_repr_hi=value * 1.05,
        hrci=value * 1.1,
        c_cos=value * 1.3,
        c_sub=value * 0.7,
        layer_h=29,
        pos_h="t_inst",
        pos_r=-4,
    )
    frame["layer_r"] = np.where(late, 5, 23)
    for name in ("hrci_repr", "hrci", "c_cos", "c_sub"):
        frame[f"{name}_frozen"] = frame[name] + 0.1
    frame["fixed_asr"] = np.clip(np.where(late, 0.3, 0.02) + 0.03 * rng.normal(size=n), 0, 1).round(2)
    frame["any_refusal"] = np.clip(np.where(late, 0.3, 0.95) + 0.03 * rng.normal(size=n), 0, 1).round(2)
    return frame.assign(direct_asr=np.nan, benign_refusal=0.1, benign_mean=np.nan, usefulness=np.nan)
