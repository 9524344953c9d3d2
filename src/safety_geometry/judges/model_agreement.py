"""How far judges that are models agree: with what a study decides, with each other, and with hand labels.

Apart for answers under attack, where judges are known to fall towards chance, for plain harmful requests, and for
harmless ones."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from safety_geometry.artefacts.tables.checks import JUDGES
from safety_geometry.judges.agreement import compare, row
from safety_geometry.judges.ordering import UNKNOWN, ordering

SUITES = {
    "attacked": ("fixed_source", "autodan", "framings", "universal"),
    "plain": ("direct", "usefulness", "counterpart"),
    "harmless": ("lookalike", "utility"),
}
DECIDED = {"refusal": ("any_refusal", "judge_refusal"), "harm": ("attack_success", "judge_harm")}
"""What a verdict is of -> column of the judged answers that decides the same, and that names who decided."""


def model_agreement(
    judged: pd.DataFrame, verdicts: pd.DataFrame, labels: pd.DataFrame | None = None, *, seed: int = 0
) -> pd.DataFrame:
    """Rows of tables/judges.csv.

    judged: table `judged`, verdicts: table `verdicts`, of several checkpoints, their ids made unique in the same way.
    labels: hand labels by these ids, with `any_refusal` (or `refusal`) and `attack_success`. Answers without a readable
    verdict are left out. Groups are prompts: what is repeated over checkpoints and seeds counts once.
    """
    rows: list[dict] = []
    tables = _by_judge(judged, verdicts)
    for name, suites in SUITES.items():
        asked = judged[judged["suite"].isin(suites)].set_index("id")
        for (judge, target), said in tables.items():
            mine = said.reindex(asked.index).dropna(subset="label")
            for other, theirs in _others(asked, tables, judge, target).items():
                both = mine.index.intersection(theirs.index)
                if len(both):
                    groups = asked.loc[both, "prompt_id"]
                    result = compare(_whole(mine["label"][both]), _whole(theirs[both]), groups, seed=seed)
                    rows.append(row(judge, f"own outputs, {name}", other, result))
    if labels is not None:
        rows += _by_hand(judged.set_index("id"), tables, labels, seed)
    return pd.DataFrame(rows, columns=JUDGES.names)


def _by_judge(judged: pd.DataFrame, verdicts: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """(judge, target) -> its label and score by id, in the order of the verdicts."""
    known = verdicts[verdicts["id"].isin(judged["id"])]
    return {pair: table.set_index("id") for pair, table in known.groupby(["judge", "target"], sort=False)}


def _others(asked: pd.DataFrame, tables: Mapping, judge: str, target: str) -> dict[str, pd.Series]:
    """What a judge is compared with -> labels by id: what the study decided, and each judge that follows in order."""
    column, by = DECIDED[target]
    decided = {f"{column} by {name}": part[column] for name, part in asked.groupby(by, sort=False)}
    pairs = list(tables)
    after = [pair for pair in pairs[pairs.index((judge, target)) + 1 :] if pair[1] == target and pair[0] != judge]
    known = {name: tables[name, target]["label"].reindex(asked.index).dropna() for name, _ in after}
    return decided | {f"{target} by {name}": said for name, said in known.items()}


def _by_hand(judged: pd.DataFrame, tables: Mapping, labels: pd.DataFrame, seed: int) -> list[dict]:
    """Rows on hand labels: all that are labelled, and those under attack."""
    labels = labels.set_index("id")
    if "any_refusal" not in labels and "refusal" in labels:
        labels = labels.assign(any_refusal=labels["refusal"].map({"none": 0, "partial": 1, "full": 1}))
    rows = []
    for name, suites in {"own outputs": None, "own outputs, attacked": SUITES["attacked"]}.items():
        for (judge, target), said in tables.items():
            column = DECIDED[target][0]
            if column not in labels:
                continue
            truth = pd.to_numeric(labels[column]).dropna()
            both = said.dropna(subset="label").index.intersection(truth.index)
            if suites is not None:
                both = both[judged.loc[both, "suite"].isin(suites)]
            if len(both):
                result = compare(_whole(said["label"][both]), _whole(truth[both]), seed=seed)
                order = ordering(said["score"][both], _whole(truth[both]) == 1, seed=seed)
                rows.append(row(judge, name, column, result, order=order if len(both) > 1 else UNKNOWN))
    return rows


def _whole(values: pd.Series) -> np.ndarray:
    return values.astype(float).astype(int).to_numpy()
