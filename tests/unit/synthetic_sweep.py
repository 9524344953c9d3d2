"""A made-up sweep of one checkpoint: cells, readout and judged answers, with effects that are put in by hand."""

import numpy as np
import pandas as pd

NUMBERS = {"random": 6, "covariance": 2, "shuffled": 2, "wrong_layer": 2, "norm_matched": 1}
SUITES = {"direct": 12, "lookalike": 8, "utility": 6, "usefulness": 5}
CLEAN_LOG_ODDS, CLEAN_ASR, CLEAN_UTILITY = 1.0, 0.25, 1.0


def operation(mode: str, strength: float, **changes) -> dict:
    return {"family": "ablate", "mode": mode, "scope": "layer", "rank": 1, "lambda": strength} | changes


def cells(modes=("h_only", "r_only"), numbers=None, primary=("r_only",), strength=1.0) -> pd.DataFrame:
    """One target per mode; the random controls are shared by all targets, the other kinds belong to one."""
    numbers, rows = NUMBERS if numbers is None else numbers, []
    common = {
        "control_seed_h": np.nan,
        "control_seed_r": np.nan,
        "layer_h": np.nan,
        "layer_r": np.nan,
        "source_layer_h": np.nan,
        "source_layer_r": np.nan,
        "source_position_h": None,
        "source_position_r": None,
    }

    def add(cell, target, control, number, doing, **more):
        rows.append({"cell": cell, "target": target, **doing, "control": control, "number": number} | common
                    | {"abs_cos": 0.1, "energy": 0.02, "lambda_matched": doing["lambda"], "capped": False, "dose": np.nan}
                    | {"primary": False, "generated": True} | more)  # fmt: skip

    nothing = dict.fromkeys(("family", "mode", "scope", "rank", "lambda"))
    add("clean", "", "baseline", 0, nothing, abs_cos=np.nan, energy=0.0)
    for mode in modes:
        doing, main = operation(mode, strength), mode in primary
        target = f"ablate:{mode}:{strength:g}"
        layers = {"layer_h": 3} if mode == "h_only" else {"layer_r": 5}
        add(target, target, "target", 0, doing, abs_cos=1.0, energy=0.1, primary=main, **layers)
        for kind, count in numbers.items():
            for i in range(count):
                seeds = {"control_seed_h" if mode == "h_only" else "control_seed_r": i}
                owner = "shared" if kind == "random" else target
                add(f"{owner}/{kind}/{i}", target, kind, i, doing, primary=main, **seeds, **layers)
    return pd.DataFrame(rows)


def readout(frame: pd.DataFrame, effects=None, n: int = 10, seed: int = 0, kl: bool = True) -> pd.DataFrame:
    """Log-odds (and KL) of every cell; `effects` shifts the log-odds of named cells."""
    rng, rows = np.random.default_rng(seed), []
    prompts = CLEAN_LOG_ODDS + rng.normal(size=n)
    for cell in sorted(set(frame["cell"])):
        noise = 0 if cell == "clean" else rng.normal(size=n) * 0.3
        values = prompts + noise + (effects or {}).get(cell, 0.0)
        rows += [(cell, "log_odds", f"direct-{i:02d}", v) for i, v in enumerate(values)]
        if kl and cell != "clean":
            rows += [(cell, "kl", f"benign-{i:02d}", v) for i, v in enumerate(rng.exponential(0.1, size=4))]
    return pd.DataFrame(rows, columns=["cell", "quantity", "prompt_id", "value"])


def judged(frame: pd.DataFrame, asr=None, seed: int = 1, suites=None) -> pd.DataFrame:
    """Answers of every cell to every suite; `asr` gives named cells their share of attacked direct prompts."""
    rng, rows = np.random.default_rng(seed), []
    for cell in sorted(set(frame["cell"])):
        for suite, count in (SUITES if suites is None else suites).items():
            success = np.arange(count) < round((asr or {}).get(cell, CLEAN_ASR) * count)
            for i in range(count):
                rows.append({
                    "id": f"{suite}:{cell}:{suite}-{i:02d}", "suite": suite, "prompt_id": f"{suite}-{i:02d}", "arm": cell,
                    "any_refusal": bool(not success[i] and rng.random() < 0.7), "attack_success": bool(success[i] and suite == "direct"),
                    "degenerate": bool(rng.random() < 0.2), "usefulness": round(rng.random(), 3),
                    "utility": float(rng.integers(0, 3)) if suite == "utility" else np.nan, "success_means": "attack_success",
                })  # fmt: skip
    return pd.DataFrame(rows)


def named(frame: pd.DataFrame, seed=1, regime="r2d2", step=30, anchor="30") -> pd.DataFrame:
    """With the columns that the caller adds in front."""
    identity = pd.DataFrame({"seed": seed, "regime": regime, "step": step, "anchor": anchor}, index=frame.index)
    return pd.concat([identity, frame], axis=1)
