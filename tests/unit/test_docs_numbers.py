"""Numbers that the documentation quotes are those of docs/results."""

import json
import re
from itertools import dropwhile, takewhile
from pathlib import Path

import pandas as pd
import pytest

from safety_geometry.artefacts.tables.files import check_table, read_table
from safety_geometry.artefacts.tables.registry import TABLES

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS / "results"


def said(page: str, pattern: str) -> list[float]:
    """The groups of the only match of `pattern` in a page, line breaks as spaces."""
    text = " ".join((DOCS / page).read_text().split())
    found = re.findall(pattern, text)
    assert len(found) == 1, f"docs/{page}: {pattern!r} is there {len(found)} times"
    return [float(x) for x in ([found[0]] if isinstance(found[0], str) else found[0])]


def table_of(page: str, at: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the first table from the only place where a page has `at`, which may be how its header begins."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text.count(at) == 1, f"docs/{page}: {at!r} is there {text.count(at)} times"
    lines = dropwhile(lambda line: not line.startswith("|"), text[text.index(at) :].splitlines())
    lines = takewhile(lambda line: line.startswith("|"), lines)
    header, _, *rows = [
        [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")] for line in lines
    ]
    return header, rows


def test_monitor_refusals_of_the_reference_run():
    header, rows = table_of("hyperparameters.md", "**Confirmation on a fresh seed**")
    table = pd.read_csv(RESULTS / "tables/training.csv").set_index(["regime", "step"])
    steps = [int(re.search(r"\d+", cell).group()) for cell in header[1:]]
    assert [row[0] for row in rows] == ["r2d2", "sft_refusal"] and steps == [10, 15, 20, 30]
    for regime, *cells in rows:
        for step, cell in zip(steps, cells, strict=True):
            wanted = table.loc[(regime, step), ["refusal_harmful", "refusal_benign"]].tolist()
            assert bool(cell) == pd.notna(wanted[0]), (regime, step)
            if cell:
                assert [float(x) for x in cell.split(" / ")] == pytest.approx(wanted, abs=0.0051), (regime, step)


def test_trials_with_clean_rows_of_another_author():
    table = pd.read_csv(RESULTS / "trials.csv").set_index(["trial", "regime", "step"])
    header, rows = table_of("hyperparameters.md", "**Clean rows of another author**")
    steps, trial, compared = [int(re.search(r"\d+", cell).group()) for cell in header[3:]], 0, 0
    for number, _, regime, *cells in rows:
        trial = int(number or trial)
        for step, cell in zip(steps, cells, strict=True):
            if cell:
                wanted = table.loc[(trial, regime, step), ["refusal_harmful", "refusal_benign"]].tolist()
                assert [float(x) for x in cell.split(" / ")] == pytest.approx(wanted, abs=0.0051), (trial, regime, step)
                compared += 1
    assert compared == len(table.drop("sft", level="regime"))


def test_the_trial_of_the_inner_attack():
    table = pd.read_csv(RESULTS / "pool_trial.csv").set_index("variant")
    _, rows = table_of("hyperparameters.md", "| variant | differs by |")
    assert {row[0] for row in rows} == set(table.index)
    for variant, _, gain, seconds, per_second in rows:
        measured = table.loc[variant]
        assert [float(value) for value in gain.split(" ± ")] == pytest.approx(
            [measured["gain"], measured["gain_se"]], abs=0.00051
        )
        assert float(seconds) == pytest.approx(measured["spent_s"], abs=0.051)
        assert float(per_second) == pytest.approx(measured["gain_s"], abs=0.00051)
    assert table["gain_s"].idxmax() == "narrow"


def test_reference_anchors():
    rule = pd.read_csv(RESULTS / "tables/reference_anchors.csv").set_index("regime")
    refusing = rule.loc[["r2d2", "sft_refusal"]]
    *by_rule, configured = said("hyperparameters.md", r"it gives step (\d+) for R2D2 and (\d+) for `sft_refusal`, on the reference run's seed"
                                r" the same .*? Both take (\d+)")  # fmt: skip
    assert refusing["by_rule"].tolist() == by_rule and (refusing["configured"] == configured).all()
    assert said("protocol.md", r"(\d+) \(`sft_refusal`\), as the rule gives in the trial") == [configured]
    assert pd.isna(rule.loc["sft", "by_rule"])
    assert said("hyperparameters.md", r"SFT never refuses; its reference is step (\d+)") == [
        rule.loc["sft", "configured"]
    ]


def test_judges():
    table = pd.read_csv(RESULTS / "tables/judges.csv").set_index(["judge", "dataset", "target"])
    n = {}
    explicit, n["explicit_refusal"], all_labels, n["refusal"] = said(
        "protocol.md", r"rules agree with (\.\d+) of the (\d+) human labels .* only (\.\d+) of all (\d+) labels"
    )
    for target, value in (("explicit_refusal", explicit), ("refusal", all_labels)):
        row = table.loc[("refusal_rules", "pyrit refusal", target)]
        assert (round(row["accuracy"], 3), row["n"]) == (value, n[target])
    (topic,) = said("protocol.md", r"A judge of rules and topic reaches (\.\d+) on all labels")
    assert round(table.loc[("off_topic_trained", "pyrit refusal", "refusal"), "accuracy"], 3) == topic


def test_the_table_of_judges_fits_its_schema():
    """The smoke study trains no judges, so no run in the tests makes this table."""
    check_table(read_table(RESULTS / "tables/judges.csv"), TABLES["judges"])


def test_the_table_of_performance_is_that_of_the_benchmarks():
    made = {
        name: json.loads((RESULTS / f"{name}_benchmark.json").read_text())
        for name in ("gcg", "r2d2_step", "scoring", "sweep")
    }
    a, b, echo, c, sweep = (*(made["gcg"][part] for part in ("a", "b", "b_echo", "c")), made["sweep"])
    own, answers, step = sweep["readout"]["own"], sweep["generation"], made["r2d2_step"]
    answers_floor = answers["floor_steps_s"] + answers["floor_prompts_s"]
    rows = {
        "GCG, candidates": [a["nanogcg_s"], a["engine_s"], a["floor_s"], a["ratio"], 100 * a["floor_share"]],
        "GCG, to the loss": [b["nanogcg_median_s"], b["engine_median_s"], b["median_ratio"]],
        "the same with `echo`": [echo["nanogcg_median_s"], echo["engine_median_s"], echo["median_ratio"]],
        "GCG, eight cases": [c["alone_s"], c["together_s"], c["ratio"]],
        "one R2D2": [
            step["before"]["seconds"]["total"],
            step["seconds"]["total"],
            step["floor_s"]["total"],
            100 * step["floor_s"]["total"] / step["seconds"]["total"],
        ],
        "candidate scores": [*(made["scoring"][k] for k in ("naive_s", "engine_s", "floor_s", "ratio")), 100 * made["scoring"]["floor_share"]],
        "causal sweep, readout": [own["naive_s"], own["engine_s"], own["floor_s"], own["ratio"], 100 * own["floor_share"]],
        "causal sweep, answers": [answers["naive_s"], answers["engine_s"], answers_floor, answers["ratio"], 100 * answers["floor_share"]],
    }  # fmt: skip
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    lines = page.split("## One GPU")[0].splitlines()
    for name, values in rows.items():
        (line,) = [line for line in lines if line.startswith(f"| {name}")]
        numbers = re.findall(r"(?<![\d.])\d*\.?\d+(?= s\b| ×| %| of the time)", line.split("|", 2)[2])
        assert len(numbers) == len(values), (name, numbers)
        for word, value in zip(numbers, values, strict=True):
            digits = len(word.partition(".")[2])
            assert float(word) == pytest.approx(value, abs=0.5001 * 10**-digits), (name, word, value)


def test_the_variants_of_a_scoring_pass():
    made = json.loads((RESULTS / "gcg_variants_benchmark.json").read_text())
    seconds, two = made["seconds"], made["two_threads"]
    _, rows = table_of("performance.md", "| variant | seconds |")
    assert len(rows) == 6
    wanted = [seconds[name] for name in ("whole", "blocks", "fused", "int8", "bfloat16")]
    for (_, spent, times, _), measured in zip(rows, wanted, strict=False):
        assert float(spent) == pytest.approx(measured, abs=0.00501)
        assert float(times) == pytest.approx(seconds["whole"] / measured, abs=0.00501)
    assert [float(rows[5][1]), float(rows[5][2])] == pytest.approx(
        [two["rows"], two["operations"] / two["rows"]], abs=0.00501
    )
    assert f"operation: {two['operations']:.2f})" in rows[5][0]
    int8, half = made["ranking"]["int8"], made["ranking"]["bfloat16"]
    assert said("performance.md", r"better than chance \(mean correlation (\.\d+); the best was (\d+)rd\)") == [
        round(int8["mean_correlation"], 2), int8["worst_rank_of_the_best"] + 1
    ]  # fmt: skip
    assert said("performance.md", r"mean correlation (\.\d+), and the best of (\d+) steps' candidates") == [
        round(half["mean_correlation"], 2), half["steps"]
    ]  # fmt: skip
    assert half["worst_rank_of_the_best"] < 3
    a = json.loads((RESULTS / "gcg_benchmark.json").read_text())["a"]
    numbers = said("performance.md", r"in part a: ([\d.]+) s in place of ([\d.]+) s, ([\d.]+) times as fast")
    measured = [a["drafted_s"], a["engine_s"], a["drafted_ratio"]]
    assert numbers == [round(value, 2) for value in measured] and a["drafted_regret"] < 1e-5


def test_what_is_told_of_the_search_for_a_suffix():
    made = json.loads((RESULTS / "gcg_benchmark.json").read_text())
    a = made["a"]
    rows = said(
        "performance.md", r"For 20 suffix and (\d+) target tokens nanoGCG runs (\d+) tokens .*? it is (\d+) tokens on"
    )
    assert rows == [a["targets"], a["run_by_nanogcg"], round(a["tokens_a_candidate"])]
    floor = said("performance.md", r"The floor is .*? would be ([\d.]+) times nanoGCG, which itself reaches (\d+) %")
    allowed = a["width"] * a["run_by_nanogcg"] / made["forward_rate"]
    assert floor == [round(a["nanogcg_s"] / a["floor_s"], 1), round(100 * allowed / a["nanogcg_s"])]
    told = {
        "b": said(
            "performance.md", r"after (\.\d+) of its time \(median; (\.\d+) to (\.\d+), and one run was not there"
        ),
        "b_echo": said("performance.md", r"With `echo` it is (\.\d+) \((\.\d+) to (\.\d+), all reached\)"),
    }
    for part, numbers in told.items():
        found = made[part]
        ratios = [run["ratio"] for run in found["runs"] if run["reached"]]
        assert len(found["runs"]) == 16 and found["nanogcg_failed"] == 0
        assert len(ratios) == 16 - found["censored"] == {"b": 15, "b_echo": 16}[part]
        assert numbers == [round(x, 2) for x in (found["median_ratio"], min(ratios), max(ratios))]


def test_the_table_of_equal_operations():
    made = pd.read_csv(RESULTS / "attack_quality_summary.csv").set_index(["set", "variant", "budget"])
    _, rows = table_of("performance.md", "| variant | targets that choose |")
    names = ["nanogcg", *(re.match(r"\**(\w+)", row[0])[1] for row in rows[1:])]
    assert sorted(names) == sorted(made.index.unique("variant"))
    columns = [("choice", "loss"), ("heldout", "loss"), ("heldout", "loss_less_nanogcg")]
    assert not rows[0][3]  # nanoGCG's setting less itself
    for name, row in zip(names, rows, strict=True):
        for cell, (kind, value) in zip(filter(None, row[1:]), columns, strict=name != "nanogcg"):
            wanted = made.loc[(kind, name, 1e13), [value, f"{value}_lo", f"{value}_hi"]]
            numbers = [float(x) for x in re.findall(r"-?\d*\.\d+", cell.replace("−", "-"))]
            assert numbers == pytest.approx(wanted.tolist(), abs=0.00501), (name, cell)
    cases = pd.read_csv(RESULTS / "attack_quality.csv").query("budget == 1e13")
    means = cases.pivot_table("loss", ["set", "target"], "variant")
    gain = means["merge"] - means["lsgm"]
    assert (gain > 0).all() and made.xs("choice")["loss"].xs(1e13, level="budget").idxmin() == "lsgm"
    assert means.loc["heldout"].idxmin(axis=1).value_counts().to_dict() == {"lsgm": 2, "buffer": 1}
    told = said("performance.md", r"on every target, by ([\d.]+) nats on the former and ([\d.]+) on the latter")
    assert told == [round(gain[kind].mean(), 2) for kind in ("choice", "heldout")]


def test_performance():
    scoring, sweep = (json.loads((RESULTS / f"{name}_benchmark.json").read_text()) for name in ("scoring", "sweep"))
    cosines, kl = said("performance.md", r"Cosines agree within ([\de.-]+), the KL within ([\de.-]+) nats")
    assert max(scoring["difference_s_refuse"], scoring["difference_s_comply"]) <= cosines
    assert kl * 0.9 < scoring["difference_kl"] <= kl
    g = sweep["generation"]
    numbers = said(
        "performance.md",
        r"of the ([\d.]+) s, ([\d.]+) s \((\d+) %\) are the least time .*?, ([\d.]+) s \((\d+) %\) that of the prompts,"
        r" .*? and ([\d.]+) s \((\d+) %\) what the engine adds",
    )
    parts = [g["floor_steps_s"], g["floor_prompts_s"], g["engine_s"] - g["floor_steps_s"] - g["floor_prompts_s"]]
    assert numbers[0] == pytest.approx(g["engine_s"], abs=0.051)
    assert numbers[1::2] == pytest.approx(parts, abs=0.051)
    assert numbers[2::2] == pytest.approx([100 * part / g["engine_s"] for part in parts], abs=0.6)


def test_what_the_readme_says_of_the_reference_run():
    anchors = pd.read_csv(RESULTS / "tables/five_anchor.csv").set_index(["regime", "step"])
    claims = pd.read_csv(RESULTS / "tables/claims.csv").set_index("id")
    chosen = pd.read_csv(RESULTS / "tables/selection.csv").set_index(["regime", "step", "in_charge"])

    def three(row: pd.Series, *names: str, times: int = 1) -> list[float]:
        return [round(times * row[name], 2 if times == 1 else 0) for name in names]

    asked = [round(100 * anchors.loc[("r2d2", step), "any_refusal"]) for step in (10, 15, 30)]
    fall = three(claims.loc["r2d2_refusal_falls"], "estimate", "lo", "hi", times=100)
    said_so = said("../README.md", r"from (\d+) % at step 10 to (\d+) % at step 15 and (\d+) % at step 30 \(n 30\), a fall of"
                   r" (\d+) points \[(\d+), (\d+)\]")  # fmt: skip
    assert said_so == [*asked, *fall]
    (open_to,) = said("../README.md", r"it does not refuse (\d+) % of direct HarmBench requests from step 15 on")
    assert {round(100 * anchors.loc[("r2d2", step), "direct_asr"]) for step in (15, 20, 30)} == {open_to}
    assert set(claims["success_means"].dropna()) == {"not_refused"}
    assert anchors.loc["sft", "any_refusal"].max() == 0
    assert said("../README.md", r"SFT refuses none of the look-alikes and does not refuse (\d+) to (\d+) %") == [
        round(100 * f(anchors.loc["sft", "direct_asr"])) for f in (min, max)
    ]
    works = (8 * anchors["any_attack_asr"]).round()
    said_so = said("../README.md", r"refused for (\d) of 8 requests on SFT, for (\d) of 8 on R2D2 at step 20 and (\d) at step 30,"
                   r" for (\d) and (\d) on `sft_refusal`")  # fmt: skip
    assert said_so == [works["sft"].min(), *works["r2d2"][[20, 30]], *works["sft_refusal"]]
    judges = pd.read_csv(RESULTS / "tables/judges.csv").query("dataset == 'own outputs' and subset == 'answered'")
    labels = pd.read_csv(RESULTS / "judge_labels.csv", comment="#")
    assert said("../README.md", r"(\d+) answers labelled by hand deny .*? \(AUROC (\.\d+) \[(\.\d+), (\.\d+)\]") == [
        len(labels), *three(judges.iloc[0], "auroc", "auroc_lo", "auroc_hi")
    ]  # fmt: skip
    assert judges["orders_answers"].tolist() == [False]

    gain = chosen.loc[("r2d2", 20, True)]
    assert said("../README.md", r"gains (\.\d+) log-odds \[(\.\d+), (\.\d+)\] .* reach (\.\d+) \(95 %") == three(
        gain, "gain", "gain_lo", "gain_hi", "null_95"
    )
    assert not (chosen.xs(True, level="in_charge")["status"] == "own").any()
    mature = pd.read_csv(RESULTS / "aligned/tables/selection.csv").set_index("in_charge").loc[True]
    assert said("../README.md", r"gains (1\.\d+) \[(1\.\d+), (1\.\d+)\] against (\.\d+)") == three(
        mature, "gain", "gain_lo", "gain_hi", "null_95"
    )
    wide = pd.read_csv(RESULTS / "full/tables/selection.csv")
    with_r = wide.loc[wide["in_charge"] & (wide["status"] == "own"), "seed"].nunique()
    assert (with_r, wide["seed"].nunique()) == (2, 3)
    assert "finds one with two of its three seeds" in " ".join((DOCS.parent / "README.md").read_text().split())
    words, removed = (claims.loc[name] for name in ("h_beyond_words_r2d2", "sweep_h_removed_r2d2"))
    assert said("../README.md", r"AUROC lies (\.\d+) \[(\.\d+), (\.\d+)\]") == three(words, "estimate", "lo", "hi")
    assert said("../README.md", r"of a refusal by (\.\d+) \[−(\.\d+), (\.\d+)\]") == [
        abs(value) for value in three(removed, "estimate", "lo", "hi")
    ]
    counts = claims["verdict"].value_counts()
    decided = [counts[name] for name in ("holds", "no effect", "fails")]
    pattern = r"Of (\d+) claims (\d+) apply to this run; (\d+) of these are decided: (\d+) hold, (\d+) show no effect, (\d+) fail"
    assert said("../README.md", pattern) == [
        len(claims),
        len(claims) - counts["not applicable"],
        sum(decided),
        *decided,
    ]


def test_what_the_protocol_says_of_the_labels():
    judges = (
        pd.read_csv(RESULTS / "tables/judges.csv").query("dataset == 'own outputs'").set_index(["target", "subset"])
    )
    labels = pd.read_csv(RESULTS / "judge_labels.csv", comment="#")
    n, *agree, helpful = said("protocol.md", r"On (\d+) answers of the reference run.*? in (\.\d+) of the refusals, (\.\d+) of the"
                              r" degenerate and (\.\d+) of the helpful answers \(n (\d+)\)")  # fmt: skip
    assert n == len(labels) and helpful == judges.loc[("helpful", "all"), "n"]
    assert agree == [round(judges.loc[(name, "all"), "accuracy"], 2) for name in ("refusal", "degenerate", "helpful")]
    answered = judges.loc[("attack_success", "answered")]
    assert said("protocol.md", r"Of the (\d+) that are neither refused nor degenerate (\d+) are successes") == [
        answered["n"], round(answered["n"] * answered["accuracy"])  # every such answer counts as not refused
    ]  # fmt: skip
    auroc = [round(answered[name], 2) for name in ("auroc", "auroc_lo", "auroc_hi")]
    assert said("protocol.md", r"has an AUROC of (\.\d+) \[(\.\d+), (\.\d+)\]: it does not order") == auroc


def test_the_sizes_in_the_readme_are_of_the_pinned_torch():
    """Measure them anew when the pin changes: du of .venv, and the files of the wheels that pip would take."""
    pins = (DOCS.parent / "requirements/run.txt").read_text().splitlines()
    (version,) = (line.removeprefix("torch==") for line in pins if line.startswith("torch=="))
    text = " ".join((DOCS.parent / "README.md").read_text().split())
    assert f"(Torch {version}, Linux" in text and f"`{version}+cpu` meets the pin `torch=={version}`" in text


def test_the_figure_of_the_readme():
    """It is drawn from this table, which is of the same run as the numbers beside it."""
    assert "](docs/results/aligned/figures/aligned_anchors.png)" in (DOCS.parent / "README.md").read_text()
    row = pd.read_csv(RESULTS / "aligned/tables/aligned_anchors.csv").set_index("scope").loc["layer"]
    asked, *rates = said("../README.md", r"asked (\d+) harmful requests. It answers (\d+) % of them. Without R it answers"
                         r" (\d+) %, without H (\d+) %")  # fmt: skip
    assert asked == row["n"]
    assert rates == [round(100 * row[f"asr_{name}"]) for name in ("baseline", "r_only", "h_only")]
    assert said("../README.md", r"difference of (\d+) points \[(\d+), (\d+)\], so") == [
        round(100 * row[name]) for name in ("r_minus_h", "r_minus_h_lo", "r_minus_h_hi")
    ]


def test_the_aligned_reference():
    anchors = pd.read_csv(RESULTS / "aligned/tables/aligned_anchors.csv").set_index("scope").loc["layer"]
    inversion = pd.read_csv(RESULTS / "aligned/tables/reply_inversion.csv").iloc[0]
    text = (RESULTS / "README.md").read_text()
    for ends in [
        anchors[[f"refusal_{name}", f"refusal_{name}_lo", f"refusal_{name}_hi"]]
        for name in ("baseline", "h_only", "r_only")
    ] + [inversion[["auroc", "auroc_lo", "auroc_hi"]]]:
        value, lo, hi = (f"{end:.2f}".removeprefix("0") for end in ends)
        assert re.search(rf"{re.escape(value)}\s+\[{re.escape(lo)}, {re.escape(hi)}\]", text), (value, lo, hi)
    assert f"(layer {anchors['layer_r']}, position −{-int(anchors['pos_r'])})" in text
