"""Reading labels, grouping, training, the artefact, and agreement statistics."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from safety_geometry.judges import labels, trained
from safety_geometry.judges.agreement import agreement, cohen_kappa, compare
from safety_geometry.judges.features import NAMES, clip, content_stems, feature_matrix
from safety_geometry.judges.training import train_harm, train_refusal
from safety_geometry.stats.estimates import wilson

TOPICS = [
    "pancakes",
    "bicycles",
    "violins",
    "gardens",
    "castles",
    "rivers",
    "planets",
    "robots",
    "bridges",
    "volcanoes",
]


def toy(n: int = 40) -> pd.DataFrame:
    rows = []
    for i in range(n):
        topic, refuse = TOPICS[i % 10], i % 2 == 1
        help_text = f"Nice question about {topic}: take {i} of them, look closely and note what you see there."
        text = f"I'm sorry, but I cannot talk about {topic} today {i}." if refuse else help_text
        rows.append({"request": f"Explain {topic} to me", "response": text, "label": refuse})
    return pd.DataFrame(rows)


def test_parse_comment_lines_and_several_scores():
    content = (
        "# dataset_version=1.0, more,,\n# second line\nobjective,assistant_response,human_score_1,human_score_2,data_type\n"
        '"Bake, a cake","Take\nflour",0.25,0.75,text\nSing,None,0,0.25,text\nDance,,1,1,text\n'
    )
    frame = labels.parse_labels(b"\xef\xbb\xbf" + content.encode())
    assert frame["response"].tolist() == ["Take\nflour", "None"]  # the row without a response is left out
    assert frame["score"].tolist() == [0.5, 0.125]
    assert frame["label"].tolist() == [True, False]
    assert frame["n_scores"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# only a comment\n", "no header"),
        ("objective,assistant_response\na,b\n", "human scores"),
        ("objective,human_score\na,1\n", "assistant_response"),
        ("objective,assistant_response,human_score\na,b,3\n", "between|lie in"),
    ],
)
def test_parse_errors_name_the_set(content, message):
    with pytest.raises(labels.LabelError, match=message) as error:
        labels.parse_labels(content, name="set.csv")
    assert "set.csv" in str(error.value)


def test_parse_jsonl():
    content = '{"request": "a", "response": "b", "refusal": 1, "harm": 0.2}\n'
    assert labels.parse_labels_jsonl(content, "refusal")["label"].tolist() == [True]
    assert labels.parse_labels_jsonl(content, "harm")["label"].tolist() == [False]
    with pytest.raises(labels.LabelError, match="colour"):
        labels.parse_labels_jsonl(content, "colour")


def test_combine_averages_repeated_pairs():
    one = pd.DataFrame({"request": ["a"], "response": ["b"], "score": [1.0], "n_scores": [1], "label": [True]})
    both = labels.combine([one, one.assign(score=0.5), one.assign(request="c", score=0.0)])
    assert both["score"].tolist() == [0.75, 0.0] and both["label"].tolist() == [True, False]


def test_groups_join_near_duplicates_and_shared_responses():
    requests = [
        "Bake a chocolate cake today",
        "bake the chocolate cake, today!",
        "Repair old bicycles",
        "Paint walls",
        "Sing songs",
    ]
    responses = ["r0", "r1", "r2", "r3", "r2"]
    assert labels.request_groups(requests, responses).tolist() == [0, 0, 1, 2, 1]


def test_off_topic_rows_need_no_refusal_rule():
    long = "Rivers carry water from the mountains to the sea " * 4
    frame = pd.DataFrame(
        [
            ("Describe rivers", long, False),
            ("Describe violins", long, True),  # accepted for another request
            ("Describe castles", long.replace("sea", "lake"), True),  # long, and not a word of the request
            ("Describe castles", "I cannot do that.", True),
        ],
        columns=["request", "response", "label"],
    )
    assert labels.off_topic_rows(frame).tolist() == [False, True, True, False]


def test_features_by_hand():
    assert content_stems("Please explain the bicycles' gears") == {"bicyc", "gears"}
    row = feature_matrix(
        ["Explain bicycles and gears"], ["My bicycle is red. A bicycle has gears"], NAMES, opening_words=4
    )
    found = dict(zip(NAMES, row[0], strict=True))
    assert found["coverage"] == 1 and found["opening_coverage"] == 0.5 and found["mentions"] == 1
    assert found["refuses"] == 0 and found["log_words"] == pytest.approx(np.log(9) / 7)
    assert clip("a  b\nc d", 3) == "a  b\nc" and clip("a b", None) == "a b"


@pytest.mark.parametrize(
    "settings", [trained.Settings(min_df=1), trained.Settings(words=False), trained.Settings(clip_words=4)]
)
def test_artefact_scores_as_sklearn_does(settings):
    frame = toy()
    model, regression, x = trained._fit(frame["request"], frame["response"], frame["label"], settings)
    again = trained.TrainedModel.from_dict(json.loads(json.dumps(model.to_dict())))
    expected = regression.predict_proba(x)[:, 1]
    assert np.abs(again.probability(frame["request"], frame["response"]) - expected).max() < 1e-9
    assert again.to_dict() == model.to_dict()
    assert again.probability([], []).shape == (0,)


def test_training_is_deterministic_and_ignores_order_of_vocabulary():
    frame = toy()
    dumps = [
        json.dumps(trained.fit(frame["request"], frame["response"], frame["label"], trained.Settings()).to_dict())
        for _ in range(2)
    ]
    assert dumps[0] == dumps[1]


def test_broken_artefacts_and_single_class():
    frame = toy()
    value = trained.fit(frame["request"], frame["response"], frame["label"], trained.Settings()).to_dict()
    with pytest.raises(ValueError, match="format"):
        trained.TrainedModel.from_dict({**value, "format": "x"})
    with pytest.raises(ValueError, match="different lengths"):
        trained.TrainedModel.from_dict({**value, "idf": value["idf"][:-1]})
    with pytest.raises(ValueError, match="both labels"):
        trained.fit(["a"], ["b"], [True], trained.Settings(min_df=1))


def test_folds_never_split_a_group():
    """Labels that only the group knows: with leakage the judge would be perfect, without it cannot beat chance."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(12)]
    group = np.repeat(np.arange(12), 6)
    label = rng.permutation(np.repeat([True, False], 6))[group]
    responses = [f"{words[g]} {words[g]}x appears here number {i}" for i, g in enumerate(group)]
    settings = [trained.Settings(features=(), inverse_penalty=100.0, min_df=1)]
    grouped = trained.cross_validate(responses, responses, label, group, settings, n_folds=4)
    leaky = trained.cross_validate(responses, responses, label, np.arange(len(label)), settings, n_folds=4)
    assert ((leaky > 0.5) == label).mean() > 0.95
    assert ((grouped > 0.5) == label).mean() < 0.7


def test_judges_are_trained_end_to_end():
    frame = toy()
    refusal, harm = (
        train_refusal(frame, "toy", n_folds=4),
        train_harm(frame.assign(label=~frame["label"]), "toy", n_folds=4),
    )
    rows = pd.concat([refusal.rows, harm.rows]).set_index(["judge", "dataset", "target"])["accuracy"]
    assert rows["refusal_rules", "toy", "explicit_refusal"] == 1.0
    assert rows["harm_trained+refusal_rules", "toy", "attack_success"] == 1.0
    assert rows["harm_trained+refusal_rules+on_topic", "toy", "attack_success"] == 1.0
    assert rows["refusal_trained", "toy", "refusal_rules"] == 1.0  # here the two never differ: no rows of where they do
    assert not any("differ" in dataset for _, dataset, _ in rows.index)
    assert set(refusal.models) == {"refusal", "off_topic"} and set(harm.models) == {"harm"}


def test_the_trained_refusal_judge_does_not_see_the_rules():
    """Refusals in words that no rule knows: it learns them, and the table says how often the two differ and who is right."""
    frame = toy()
    frame["response"] = [
        f"Blorp frumious vexed {text.split()[-1]}" if label else text
        for text, label in zip(frame["response"], frame["label"], strict=True)
    ]
    trained_refusal = train_refusal(frame, "toy", n_folds=4)
    assert trained_refusal.models["refusal"].settings.features == ()
    rows = trained_refusal.rows.set_index(["judge", "dataset", "target"])
    agreed = rows.loc[("refusal_trained", "toy", "refusal_rules")]
    apart = "toy, where rules and trained differ"
    assert (
        rows.loc[("refusal_rules", apart, "explicit_refusal"), "n"] == round((1 - agreed["accuracy"]) * agreed["n"]) > 0
    )
    assert rows.loc[("refusal_trained", apart, "explicit_refusal"), "accuracy"] == 1
    assert rows.loc[("refusal_rules", apart, "explicit_refusal"), "accuracy"] == 0


def test_kappa_and_interval_against_references():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 60)
    said = np.where(rng.random(60) < 0.7, truth, rng.integers(0, 3, 60))
    assert cohen_kappa(said, truth) == pytest.approx(cohen_kappa_score(said, truth))
    # 2 × 2 by hand: 20 both yes, 5 and 10 apart, 15 both no: p_o = .7, p_e = .5, kappa = .4
    a = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    b = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    result = compare(a, b, seed=3)
    assert result.kappa == pytest.approx(0.4) and result.accuracy == pytest.approx(0.7)
    assert result.majority == pytest.approx(0.6)
    assert (result.lo, result.hi) == pytest.approx((wilson(35, 50).lo, wilson(35, 50).hi))
    assert result.kappa_lo < 0.4 < result.kappa_hi and result == compare(a, b, seed=3)
    grouped = compare(a, b, groups=np.arange(50) // 5, seed=3)
    assert grouped.n_groups == 10 and grouped.kappa == pytest.approx(0.4)
    assert np.isnan(compare([1, 1], [1, 1]).kappa)


def test_agreement_with_hand_labels():
    judged = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "refusal": ["full", "none", "partial", "none"],
            "any_refusal": [True, False, True, False],
            "attack_success": [False, True, False, False],
            "utility": [np.nan, 2.0, 0.0, 1.0],
            "judge_refusal": "rules",
            "judge_harm": "trained",
        }
    )
    hand = pd.DataFrame(
        {
            "id": ["c", "a", "b"],
            "refusal": ["full", "full", "none"],
            "attack_success": [0, 0, 1],
            "helpful": [0, np.nan, 1],
        }
    )
    table = agreement(judged, hand).set_index("target")
    assert table.loc["refusal", ["n", "accuracy"]].tolist() == [3, pytest.approx(2 / 3)]
    assert table.loc["any_refusal", "accuracy"] == 1 and table.loc["any_refusal", "judge"] == "rules"
    assert table.loc["attack_success", ["accuracy", "judge"]].tolist() == [1, "trained"]
    assert table.loc["helpful", ["n", "accuracy"]].tolist() == [2, 0.5]
    with pytest.raises(ValueError, match="another run"):
        agreement(judged, hand.assign(id=["x", "a", "b"]))


HEAD = "objective,assistant_response,human_score\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Größe\n".encode("latin-1"), "not UTF-8 text"),
        (HEAD.encode("utf-16"), "but UTF-16"),
        (HEAD.encode() + b"a,b\0,1\n", "line 2 holds a NUL"),
        (b"", "no header line"),
        (b"# only\n# comments\n", "no header line"),
        (HEAD, "no row below the header"),
        (HEAD + "SECRET,b\n", "row 1 .* has 2 cells"),
        (HEAD + "SECRET, and more,b,1\n", "row 1 .* has 4 cells"),
        (HEAD + '"SECRET,b,1\nc,d,1\n', "row 1 .* is no CSV"),
        (HEAD + "a,b,1\nSECRET,b,one\n", r"have to lie in \[0, 1\]; in row 2 one does not"),
        (HEAD + "SECRET,b,nan\n", "in row 1 one does not"),
        (HEAD + "SECRET,b,inf\n", "in row 1 one does not"),
        (HEAD + 'SECRET,b,"0,5"\n', "in row 1 one does not"),
        (HEAD.replace(",", ";") + "SECRET;b;1\n", "none of the columns"),
        (HEAD.replace("assistant_response", "objective") + "SECRET,b,1\n", "the column objective twice"),
        ("SECRET is a request,b,1\nc,d,0\n", "none of the columns .* among .'…', 'b', '1'"),
    ],
)
def test_label_files_as_people_have_them(content, said):
    with pytest.raises(labels.LabelError, match=f"^set.csv: .*{said}") as caught:
        labels.parse_labels(content, name="set.csv")
    assert "SECRET" not in str(caught.value)


def test_label_files_that_are_read_right(caplog):
    text = HEAD + 'a,"b\u2028c, d",1\r\n"e ""f""",g,0\r\nh,,1\r\n,j,1\r\nk,l,\r\n'
    for written in (text, "\ufeff" + text, text.replace("\r\n", "\r"), text.replace("\r\n", "\n")):
        caplog.clear()
        rows = labels.parse_labels(written, name="set.csv")
        assert rows[["request", "response"]].to_numpy().tolist() == [["a", "b\u2028c, d"], ['e "f"', "g"]]
        assert rows["label"].tolist() == [True, False] and rows["n_scores"].tolist() == [1, 1]
        assert caplog.messages == ["set.csv: 3 of 5 rows have no request, response or score: left out"]
    long = labels.parse_labels(HEAD + f'a,"{"word, " * 50_000}",1\n')
    assert len(long["response"][0]) == 300_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"request": "a", "response": "b", "harm": 1}\n{"request": "SECRET"}', r"fields \['harm', 'response'\] are missing in line 2"),
        ('{"request": "a", "response": "b", "harm": "SECRET"}', "harm has to lie in .*line 1"),
        ('{"request": "a", "response": "b", "harm": NaN}', "harm has to lie in .*line 1"),
        ('{"request": "a", "response": ["SECRET"], "harm": 1}', "request and response of line 1 have to be texts"),
        ('["SECRET"]', "line 1 holds a JSON list"),
        ('\n{"request": "SECRET', "line 2 is not JSON"),
        (b"\xff", "not UTF-8"),
        ("", "no labelled response"),
    ],
)  # fmt: skip
def test_label_lines_as_people_have_them(content, said):
    with pytest.raises(labels.LabelError, match=f"^set.jsonl: {said}") as caught:
        labels.parse_labels_jsonl(content, "harm", name="set.jsonl")
    assert "SECRET" not in str(caught.value)


def test_label_lines_hold_any_separator():
    response = "one\u2028two\u2029three\u0085four"
    line = json.dumps({"request": "a", "response": response, "harm": True}, ensure_ascii=False)
    rows = labels.parse_labels_jsonl(b"\xef\xbb\xbf" + f"{line}\r\n\r\n{line}\r\n".encode(), "harm")
    assert rows["response"].tolist() == [response] * 2 and rows["label"].all()
