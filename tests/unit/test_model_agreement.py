"""Rows of the table of judges that models get, by counts that are known."""

import json
import sys

import pandas as pd
import pytest

from safety_geometry.artefacts.tables.files import read_table, write_table
from safety_geometry.artefacts.tables.registry import FINAL
from safety_geometry.artefacts.tables.working import JUDGED, VERDICTS
from safety_geometry.judges.model_agreement import model_agreement

SUITES = ["fixed_source", "autodan", "direct", "lookalike"]


def judged(refused: list[bool], harmful: list[bool], suites: list[str] = SUITES) -> pd.DataFrame:
    """Judged answers c0, c1 …; answers at even places are to one prompt."""
    rows = len(refused)
    return pd.DataFrame({
        "id": [f"c{i}" for i in range(rows)], "digest": "0" * 12, "suite": suites,
        "prompt_id": [f"p{i % 2}" for i in range(rows)], "any_refusal": refused, "attack_success": harmful,
        "judge_refusal": "refusal_rules", "judge_harm": "harm_trained",
    })  # fmt: skip


def said(judge: str, target: str, labels: list, scores: list | None = None) -> pd.DataFrame:
    scores = scores or [None if label is None else float(label) for label in labels]
    ids = [f"c{i}" for i in range(len(labels))]
    about = {"id": ids, "digest": "0" * 12, "judge": judge, "reads": "both", "target": target}
    return pd.DataFrame(about | {"label": pd.array(labels, dtype=object), "score": scores})


def by(rows: pd.DataFrame) -> dict[tuple, tuple]:
    return {(r.judge, r.dataset, r.target): (r.n, r.accuracy) for r in rows.itertuples()}


def test_attacked_plain_and_harmless_answers_stand_apart():
    answers = judged([True, False, True, False], [False, True, False, False])
    rows = model_agreement(answers, said("minos", "refusal", [True, True, True, True]))
    assert by(rows) == {
        ("minos", "own outputs, attacked", "any_refusal by refusal_rules"): (2, 0.5),
        ("minos", "own outputs, plain", "any_refusal by refusal_rules"): (1, 1.0),
        ("minos", "own outputs, harmless", "any_refusal by refusal_rules"): (1, 0.0),
    }


def test_each_pair_of_models_has_one_row_and_unread_verdicts_are_left_out():
    answers = judged([False] * 4, [True, False, True, False], ["framings"] * 4)
    verdicts = pd.concat(
        [
            said("guard", "harm", [True, None, True, True]),
            said("guard", "refusal", [False, False, False, False]),
            said("minos", "refusal", [False, False, True, True]),
            said("harmbench", "harm", [True, True, None, False]),
        ]
    )
    assert by(model_agreement(answers, verdicts)) == {
        ("guard", "own outputs, attacked", "attack_success by harm_trained"): (3, pytest.approx(2 / 3)),
        ("guard", "own outputs, attacked", "harm by harmbench"): (2, 0.5),
        ("guard", "own outputs, attacked", "any_refusal by refusal_rules"): (4, 1.0),
        ("guard", "own outputs, attacked", "refusal by minos"): (4, 0.5),
        ("minos", "own outputs, attacked", "any_refusal by refusal_rules"): (4, 0.5),
        ("harmbench", "own outputs, attacked", "attack_success by harm_trained"): (3, pytest.approx(2 / 3)),
    }


def test_groups_are_prompts_and_constant_labels_have_no_kappa():
    answers = judged([True, False, True, False], [False] * 4, ["framings"] * 4)
    (perfect,) = model_agreement(answers, said("m", "refusal", [True, False, True, False])).to_dict("records")
    assert (perfect["n"], perfect["n_groups"], perfect["kappa"]) == (4, 2, 1.0)
    (constant,) = model_agreement(answers, said("m", "harm", [False] * 4)).to_dict("records")
    assert constant["accuracy"] == 1 and pd.isna(constant["kappa"])


def test_hand_labels_with_the_order_of_scores():
    answers = judged([False] * 4, [False] * 4)
    labels = pd.DataFrame(
        {"id": ["c0", "c1", "c2"], "attack_success": ["1", "0", None], "refusal": ["none", "full", "none"]}
    )
    verdicts = said("guard", "harm", [True, True, True, True], [0.9, 0.7, 0.8, 0.6])
    rows = model_agreement(answers, verdicts, labels).set_index(["dataset", "target"])
    mine = rows.loc[("own outputs", "attack_success")]
    assert (mine["n"], mine["accuracy"], mine["auroc"], mine["held_out"]) == (2, 0.5, 1.0, "all")
    assert rows.loc[("own outputs, attacked", "attack_success"), "n"] == 2  # fixed_source, autodan
    assert rows["orders_answers"].isna().all()  # they decide nothing
    refusals = model_agreement(answers, said("minos", "refusal", [False] * 4), labels).set_index(["dataset", "target"])
    assert refusals.loc[("own outputs", "any_refusal"), ["n", "accuracy"]].tolist() == [3, pytest.approx(2 / 3)]


def test_script_without_trained_judges(tmp_path, monkeypatch):
    """Two checkpoints, whose answers have the same ids."""
    import judge_agreement as script

    full = {"type": "x", "arm": "gcg", "pair": None, "refusal": "none", "refusal_score": 0, "harm_score": 0.5,
            "success_means": "attack_success", "usefulness": 0, "degenerate": False, "hit_limit": False, "n_tokens": 3,
            "on_topic": True, "language": "latin", "off_topic": None, "utility": None}  # fmt: skip
    files = {"judged": [], "verdicts": []}
    for name, labels in (("a", [True] * 4), ("b", [False] * 4)):
        tables = {
            "judged": judged([True, True, False, False], [False] * 4).assign(**full)[JUDGED.names],
            "verdicts": said("minos", "refusal", labels)[VERDICTS.names],
        }
        for kind, table in tables.items():
            files[kind].append(path := tmp_path / name / f"{kind}.csv")
            path.parent.mkdir(exist_ok=True)
            write_table(table, path, {"judged": JUDGED, "verdicts": VERDICTS}[kind])
    params = {"prefixes": ["1:sft:0:", "1:sft:2:"], "verdict_prefixes": ["1:sft:0:", "1:sft:2:"]}
    words = ["judge_agreement.py", "--table", tmp_path / "judges.csv", "--params", json.dumps(params)]
    for kind, paths in files.items():
        words += [f"--{kind}", *paths]
    monkeypatch.setattr(sys, "argv", [*map(str, words)])
    script.main()
    table = read_table(tmp_path / "judges.csv", FINAL["judges"])
    assert by(table)["minos", "own outputs, attacked", "any_refusal by refusal_rules"] == (4, 0.5)
