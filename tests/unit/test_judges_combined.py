"""The common interface, the combined decision, and the rule scripts."""

import importlib
import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.judges.judging import Judge, available_judges, judge_completions, make_judge, register_judge
from safety_geometry.judges.quality import count_words
from safety_geometry.judges.utility import UtilityItem

ROOT = Path(__file__).parents[2]
HELP = "Take two eggs and some flour, stir well and bake the dough until it is golden."


class Fixed:
    """A judge with given scores."""

    def __init__(self, scores, name="fixed"):
        self.scores, self.name = np.array(scores), name

    def __call__(self, requests, responses):
        assert len(requests) == len(responses) == len(self.scores)
        return pd.DataFrame({"label": self.scores >= 0.5, "score": self.scores})


def completions() -> pd.DataFrame:
    texts = [
        "Sorry, I can't do that.",
        HELP,
        "no no no no no",
        HELP,
        f"Sorry, I can't do that. {HELP} {HELP[:-1]} or brown.",
        "",
    ]
    return pd.DataFrame(
        {"id": list("abcdef"), "request": ["Bake bread"] * 6, "completion": texts, "hit_limit": [0, 0, 1, 1, 0, 0]}
    )


def test_registry():
    assert {"refusal_rules", "refusal_trained", "harm_trained", "classifier", "next_word", "guard"} <= set(
        available_judges()
    )
    assert isinstance(make_judge("refusal_rules"), Judge)
    with pytest.raises(ValueError, match=r"known: .*refusal_rules"):
        make_judge("refusal_rulez")
    with pytest.raises(ValueError, match="exists already"):
        register_judge("refusal_rules", Fixed)


def test_combination():
    items = {"b": UtilityItem.of([["flour"], ["eggs"]], 5), "a": UtilityItem.of([["flour"]], 5)}
    out = judge_completions(completions(), harm=Fixed([0.9, 0.8, 0.9, 0.2, 0.9, 0.9]), utility_items=items)
    assert out["refusal"].tolist() == ["full", "none", "none", "none", "partial", "none"]
    assert out["any_refusal"].tolist() == [True, False, False, False, True, False]
    assert out["degenerate"].tolist() == [False, False, True, False, False, True]
    assert out["attack_success"].tolist() == [False, True, False, False, False, False]
    assert out["usefulness"].tolist() == [0, 0.8, 0, 0.2, 0, 0]  # the length limit (row d) takes nothing away
    assert out["hit_limit"].tolist() == [False, False, True, True, False, False]
    assert out["utility"].tolist()[:2] == [0, 2] and out["utility"].isna().tolist() == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]
    assert "completion" not in out and "request" not in out


def short_answers(must: list[list[str]]) -> list[str]:
    """Answers of one to a few words: the words of an item's expressions, alone and one of each group together."""
    words = [
        [w for e in group for w in re.findall(r"[A-Za-z]{2,}|\d+", re.sub(r"\\[a-zA-Z]|\(\?[^)]*\)", " ", e))]
        for group in must
    ]
    alone = [w for group in words for w in group]
    return [*alone, *(" ".join(pair) for pair in itertools.product(*(group[:3] for group in words))), *RIGHT]


RIGHT = ["len(x)", '<a href="x">', "x[::-1]", "Lena, engineer", "Owls, 5", "10 40", "Titanic, iceberg", "Ines: tea"]


def test_no_answer_is_helpful_and_degenerate_at_once():
    """On all 60 items; of the 22 that one or two words can answer, most are answered by so few here."""
    rows = [json.loads(line) for line in (ROOT / "data/benign_utility.jsonl").read_text().splitlines()]
    assert len(rows) == 60
    asked = [(row, answer) for row in rows for answer in short_answers(row["must"])]
    frame = pd.DataFrame({
        "id": range(len(asked)), "request": [row["prompt"] for row, _ in asked], "completion": [a for _, a in asked], "hit_limit": False,
    })  # fmt: skip
    items = {i: UtilityItem.of(row["must"], row["min_words"], row["id"]) for i, (row, _) in enumerate(asked)}
    out = judge_completions(frame, utility_items=items)
    assert not (out["degenerate"] & (out["utility"] > 0)).any()
    brief = frame["completion"].map(count_words) < 3
    helped = {asked[i][0]["id"] for i in out.index[brief & (out["utility"] == 2)]}
    assert len(helped) > 10 and {row["min_words"] for row, _ in asked if row["id"] in helped} == {1, 2}
    long = brief & ~out["any_refusal"] & frame["id"].map(lambda i: items[i].min_words >= 3)
    assert long.sum() > 1000 and out["degenerate"][long].all() and out["utility"][long].eq(0).all()


def test_decisions():
    seen = Fixed([0.1, 0.9, 0.1, 0.1, 0.9, 0.1])
    either = judge_completions(completions(), refusal=seen, decision="either")
    assert either["refusal"].tolist() == ["full", "full", "none", "none", "partial", "none"]
    assert either["refusal_score"].tolist() == seen.scores.tolist()
    rules = judge_completions(completions(), refusal=seen)
    assert rules["refusal"].tolist() == ["full", "none", "none", "none", "partial", "none"]
    trained = judge_completions(completions(), refusal=seen, decision="trained")
    assert trained["refusal"].tolist() == ["none", "full", "none", "none", "partial", "none"]
    with pytest.raises(ValueError, match="choose one of"):
        judge_completions(completions(), decision="both")
    with pytest.raises(ValueError, match="needs a trained"):
        judge_completions(completions(), decision="either")
    with pytest.raises(ValueError, match="unique"):
        judge_completions(pd.concat([completions()] * 2))


@pytest.fixture
def run(monkeypatch):
    """Runs a rule script's main() in this process."""

    def call(script: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        importlib.import_module(script).main()

    return call


def role_of(folder, requests: list[str]):
    """A role file of these requests."""
    path = folder / "judge_train.jsonl"
    path.write_text("".join(json.dumps({"id": f"labelled-{i}", "prompt": r}) + "\n" for i, r in enumerate(requests)))
    return path


def test_judges_learn_from_their_role_only(tmp_path, run, capsys):
    """What another role holds is not seen: the judges are those of files without these answers."""
    data = ROOT / "data/smoke_labelled.jsonl"
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    out = [row["request"] for row in rows[::5]]
    assert len(set(out)) == 12 == sum(row["request"] in out for row in rows)
    less = tmp_path / data.name  # the name goes into no judge
    less.write_text("".join(json.dumps(row) + "\n" for row in rows if row["request"] not in out))
    role = role_of(tmp_path, [f"  {row['request'].upper()}?!" for row in rows if row["request"] not in out])

    def judges(name: str, file) -> list[str]:
        files = [tmp_path / name / f"{kind}.json" for kind in ("refusal", "harm")]
        run("train_judges", "--refusal-labels", file, "--harm-labels", file, "--judge-train", role, "--refusal", files[0],
            "--harm", files[1], "--table", tmp_path / name / "judges.csv", "--params", '{"n_folds": 3}')  # fmt: skip
        return [file.read_text() for file in files]

    assert judges("all", data) == judges("less", less)
    said = capsys.readouterr().err
    for option in ("--refusal-labels", "--harm-labels"):
        assert f"{option}: 12 of 60 labelled answers left out" in said
        assert f"{option}: 0 of 48 labelled answers left out" in said
    assert not any(row["request"] in said for row in rows)
    assert set(pd.read_csv(tmp_path / "all/judges.csv")["n"]) <= set(range(49))

    role = role_of(tmp_path, ["Something else"])
    with pytest.raises(SystemExit, match=r"--refusal-labels: none of the 60 .*prompts\.roles\.judge_train\.set"):
        judges("none", data)


def test_scripts_from_labels_to_agreement(tmp_path, run, caplog):
    data, refusal, harm, table = (
        ROOT / "data/smoke_labelled.jsonl",
        *(tmp_path / n for n in ("r.json", "h.json", "t/judges.csv")),
    )
    role = role_of(tmp_path, [row["request"] for row in map(json.loads, data.read_text().splitlines())])
    run("train_judges", "--refusal-labels", data, "--harm-labels", data, "--judge-train", role, "--refusal", refusal, "--harm", harm,
               "--table", table, "--params", '{"n_folds": 3, "refusal_dataset": "toy", "harm_dataset": "toy"}')  # fmt: skip
    assert set(json.loads(refusal.read_text())) == {"refusal", "off_topic"}

    rows = [
        {"id": f"c{i}", "suite": "direct", "prompt_id": f"p{i}", "prompt": "Bake the finest bread", "completion": text,
         "n_tokens": 9, "hit_limit": i == 1, "bucket": "everyday", "must": [["flour"]], "min_words": 3}
        for i, text in enumerate(completions()["completion"])
    ]  # fmt: skip
    file, judged = tmp_path / "completions.jsonl", tmp_path / "judged.csv"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("judge", "--completions", file, "--refusal", refusal, "--harm", harm, "--judged", judged)
    out = pd.read_csv(judged)
    assert out["refusal"].tolist() == ["full", "none", "none", "none", "partial", "none"]
    assert out["type"].eq("everyday").all() and out["utility"].tolist() == [0, 2, 0, 2, 2, 0]
    assert not any(text and text in judged.read_text() for text in [*completions()["completion"], "finest bread"])

    hand, final = tmp_path / "hand.csv", tmp_path / "final/judges.csv"
    hand.write_text("# labelled by hand\nid,refusal,helpful\nc0,full,0\nc1,none,2\nc4,full,1\n")
    run("judge_agreement", "--trained", table, "--judged", judged, "--hand-labels", hand, "--table", final)
    own = pd.read_csv(final).query("dataset == 'own outputs'").set_index("target")
    assert own["n"].to_dict() == {"refusal": 3, "any_refusal": 3, "helpful": 3}
    assert own.loc["any_refusal", "accuracy"] == 1

    assert out["language"].eq("latin").all() and out["on_topic"].tolist() == [False, True, False, True, True, False]

    file.write_text(json.dumps(rows[0] | {"completion": "Λυπάμαι, αλλά δεν μπορώ να βοηθήσω"}) + "\n")
    run("judge", "--completions", file, "--judged", judged)
    assert "1 of 1 answers not judged, in a language" in caplog.text
    assert pd.read_csv(judged)[["language", "refusal", "attack_success"]].to_numpy().tolist() == [
        ["other", "none", False]
    ]

    file.write_text('{"id": "c0"}\n')
    with pytest.raises(ArtefactError, match="row 1: missing suite"):
        run("judge", "--completions", file, "--judged", judged)
