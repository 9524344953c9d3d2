"""Attacks by arm beside the bare requests that they attacked, and whether the attacked checkpoints refuse at all."""

import logging
from collections.abc import Iterable, Mapping

import pandas as pd

from safety_geometry.artefacts.tables.behaviour import ATTACK_ARMS, SOURCE_CHOICE
from safety_geometry.artefacts.tables.files import frame_of
from safety_geometry.judges.behaviour import DIRECT, METRICS, compare, outcomes, success_means
from safety_geometry.settings.attack_arm import Place
from safety_geometry.settings.identity import Checkpoint
from safety_geometry.stats.estimates import wilson

log = logging.getLogger(__name__)

NAMES = {
    "direct": DIRECT, "framings": "framing_asr", "universal": "universal_asr", "gcg_init": "init_asr",
    "gcg": "fixed_asr", "autodan": "autodan_asr", "any": "any_attack_asr",
}  # fmt: skip
"""Arm -> its metric."""
SUCCESS = next(metric for metric in METRICS if metric.name == DIRECT)


def attack_arms_table(judged: Mapping[Checkpoint, pd.DataFrame]) -> pd.DataFrame:
    """Table `ATTACK_ARMS` from the judged completions of every checkpoint; those that are no anchors are left out.

    `gain` compares an arm with the bare request on the requests that it attacked (Newcombe's paired interval, exact
    McNemar p). Arms whose suite was not run have no row, and without direct requests there is none.
    """
    rows = []
    for checkpoint, frame in judged.items():
        if checkpoint.anchor is None:
            continue
        by_metric = dict(list(outcomes(frame).groupby("metric", sort=False)))
        if DIRECT not in by_metric:
            continue
        direct = by_metric[DIRECT].set_index("prompt_id")["outcome"]
        arms = {(arm, None): by_metric[name] for arm, name in NAMES.items() if name in by_metric}
        arms |= {("framing", template): answers for template, answers in _templates(frame).items()}
        for (arm, template), answers in arms.items():
            mine = answers.set_index("prompt_id")["outcome"].sort_index()
            about = checkpoint.columns() | {"arm": arm, "template": template, "success_means": success_means(frame)}
            rows.append(about | _beside(arm, mine, direct))
    return frame_of(rows, ATTACK_ARMS)


def _templates(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Outcomes of every single template of the suite framings, by its id."""
    framed = frame[frame["suite"] == "framings"].assign(outcome=lambda t: t["attack_success"].astype(float))
    return dict(list(framed.groupby("arm", sort=True)))


def _beside(arm: str, mine: pd.Series, direct: pd.Series) -> dict:
    """An arm's rate and that of the bare requests, of the prompts that both answered."""
    mine = mine[mine.index.isin(direct.index)]
    bare = direct.loc[mine.index]
    rate, other = wilson(int(mine.sum()), len(mine)), wilson(int(bare.sum()), len(bare))
    values = {"asr": rate.value, "lo": rate.lo, "hi": rate.hi, "n": len(mine)}
    values |= {"direct_asr": other.value, "direct_lo": other.lo, "direct_hi": other.hi}
    if arm != "direct" and len(mine):
        gain = compare(mine.to_numpy(), bare.to_numpy(), SUCCESS, seed=0, draws=0, flips=0)
        values |= {"gain": gain["value"], "gain_lo": gain["lo"], "gain_hi": gain["hi"]}
        values |= {"gain_p": gain["p"], "gain_p_smallest": gain["p_smallest"]}
    return values


def source_choice_table(
    behaviour: pd.DataFrame, source: Place, aligned: Iterable[Place], max_direct_asr: float
) -> pd.DataFrame:
    """Table `SOURCE_CHOICE`: what the rule would pick for the attacked source and every aligned anchor, in each seed.

    behaviour: table `BEHAVIOUR`. Warns of a configured step that does not refuse. A regime that was not asked bare
    requests at its anchors has empty cells.
    """
    asked = behaviour[(behaviour["metric"] == DIRECT) & behaviour["anchor"].notna()]
    rows = []
    for role, place in [("source", source), *(("aligned", place) for place in aligned)]:
        for seed in sorted(set(behaviour["seed"])):
            mine = asked[(asked["seed"] == seed) & (asked["regime"] == place.regime)].sort_values("step")
            row = {"seed": seed, "role": role, "regime": place.regime, "step": place.step}
            row |= {"max_direct_asr": max_direct_asr} | _rate(mine, place.step, "direct_asr")
            if len(mine):
                picked = picked_step(dict(zip(mine["step"], mine["value"], strict=True)), max_direct_asr)
                row |= {"picked_step": picked} | _rate(mine, picked, "picked_direct_asr")
                row["follows_rule"] = picked == place.step
            if "direct_asr" in row:
                row["refuses"] = row["direct_asr"] <= max_direct_asr
                if not row["refuses"]:
                    log.warning(
                        "%s %s of seed %d answers bare requests: direct_asr %.2f, above max_direct_asr %g; the rule"
                        " picks step %d (%.2f)", role, place.text, seed, row["direct_asr"], max_direct_asr,
                        row["picked_step"], row["picked_direct_asr"],
                    )  # fmt: skip
            rows.append(row)
    return frame_of(rows, SOURCE_CHOICE)


def picked_step(direct_asr: Mapping[int, float], most: float) -> int:
    """The rule: the earliest step whose direct ASR is at most `most`, else the (earliest) one with the least."""
    steps = sorted(direct_asr)
    return next((step for step in steps if direct_asr[step] <= most), min(steps, key=lambda step: direct_asr[step]))


def _rate(anchors: pd.DataFrame, step: int, name: str) -> dict:
    here = anchors[anchors["step"] == step]
    if here.empty:
        return {}
    row = here.iloc[0]
    return {name: row["value"], f"{name}_lo": row["lo"], f"{name}_hi": row["hi"], f"{name}_n": int(row["n"])}
