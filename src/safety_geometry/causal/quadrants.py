"""The four quadrants: harmful or benign input, refusal or compliance as output (arXiv 2606.16349), and the carriers'
view."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from safety_geometry.artefacts.activations import CLASSES, Activations
from safety_geometry.artefacts.carriers import CarrierPair
from safety_geometry.artefacts.prompt_activations import PromptActivations
from safety_geometry.stats.seeds import generator

QUADRANTS = ("harmful_refused", "harmful_complied", "benign_refused", "benign_complied", "benign_degenerate")
IDENTITY = ("seed", "regime", "step", "arm", "id")


def quadrants(judged: pd.DataFrame, harmful_suites: Collection[str], benign_suites: Collection[str]) -> pd.Series:
    """Quadrant of each row of judge.py, indexed as `judged`; missing for other suites.

    A full or partial refusal is refused, broken or not. An answer that does not refuse has complied, unless it is empty
    or nonsensical: that is benign_degenerate for a benign input and no quadrant for a harmful one, where nothing was
    complied with. Raises ValueError when a suite is in both lists.
    """
    if both := set(harmful_suites) & set(benign_suites):
        raise ValueError(f"suites {sorted(both)} are named as harmful and as benign")
    refused, broken = judged["any_refusal"].astype(bool), judged["degenerate"].astype(bool)
    label = pd.Series(None, index=judged.index, dtype=object)
    for side, suites in (("harmful", harmful_suites), ("benign", benign_suites)):
        of_side = judged["suite"].isin(list(suites))
        label[of_side & refused] = f"{side}_refused"
        label[of_side & ~refused & ~broken] = f"{side}_complied"
        if side == "benign":
            label[of_side & ~refused & broken] = "benign_degenerate"
    return label


def sample(frame: pd.DataFrame, per_quadrant: int, seed: int) -> pd.DataFrame:
    """At most `per_quadrant` rows of each quadrant, drawn without replacement, with `available` and `sampled` counts.

    frame: rows with `quadrant` (rows without one are left out) and those of seed, regime, step, arm and id that name a
    row. The draw depends on the seed and on which rows there are, not on their order; a quadrant's draw does not depend
    on the others. Rows come back by quadrant, then by their names. Raises ValueError for a quadrant that is not one.
    """
    present = frame[frame["quadrant"].notna()]
    if unknown := set(present["quadrant"]) - set(QUADRANTS):
        raise ValueError(f"unknown quadrants {sorted(unknown)}; choose from {', '.join(QUADRANTS)}")
    keys = [name for name in IDENTITY if name in frame]
    if present.duplicated(["quadrant", *keys]).any():
        raise ValueError(f"answers are not unique in {', '.join(keys)}; name the cell in `arm`")
    parts = []
    for quadrant in QUADRANTS:
        rows = present[present["quadrant"] == quadrant].sort_values(keys, kind="stable")
        taken = min(per_quadrant, len(rows))
        drawn = generator(seed, quadrant).choice(len(rows), taken, replace=False) if taken else []
        parts.append(rows.iloc[np.sort(drawn)].assign(available=len(rows), sampled=taken) if taken else rows.iloc[:0])
    table = pd.concat([part for part in parts if len(part)] or [present.assign(available=0, sampled=0)])
    return table.reset_index(drop=True)


def projections(prompts: PromptActivations, activations: Activations, carriers: CarrierPair) -> dict[str, np.ndarray]:
    """`proj_h` and `proj_r` [n] of the asked prompts on a checkpoint's carriers, each at its site, −1 and +1 at the
    means of the classes that it contrasts in the fit set. NaN where the checkpoint has no such carrier."""
    columns = {}
    for carrier, classes in ((carriers.h, CLASSES), (carriers.r, activations.r_classes())):
        if carrier is None:
            columns["proj_r"] = np.full(len(prompts), np.nan)
            continue
        site = activations.index(carrier.position), carrier.layer
        means = [activations.mean(label)[site] for label in classes]
        values = prompts.read(carrier.position, carrier.layer)
        columns[f"proj_{carrier.kind.lower()}"] = projection(values, *means, carrier.direction)
    return columns


def projection(
    values: np.ndarray, harmful_mean: np.ndarray, benign_mean: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    """Where activations lie along a carrier: −1 at the benign class mean, +1 at the harmful one.

    values [n, d] and the class means [d] of the fit prompts, all at the carrier's site; direction [d]. Returns [n]: the
    inner product with the direction, less the means' midpoint, over half their distance. Raises ValueError when the
    direction does not tell the means apart.
    """
    projected, high, low = (
        np.asarray(a, np.float64) @ np.asarray(direction, np.float64) for a in (values, harmful_mean, benign_mean)
    )
    half = (high - low) / 2
    scale = np.linalg.norm(direction) * max(np.linalg.norm(harmful_mean), np.linalg.norm(benign_mean))
    if not abs(half) > 1e-9 * scale:
        raise ValueError("the class means have the same projection on the direction; it cannot be scaled by them")
    return (projected - (high + low) / 2) / half
