"""Every number in docs/findings.md is that of a table of docs/results/full or docs/results/aligned.

Claims stand there as value [low, high] (`id`: verdict), other results as the patterns below say, and no other digit is on the
page but in names, seeds, steps, layers and settings.
"""

import functools
import re
from pathlib import Path

import pandas as pd
import pytest

RESULTS = Path(__file__).resolve().parents[2] / "docs/results"
TEXT = " ".join((RESULTS.parent / "findings.md").read_text().split())
NUMBER = r"−?(?:\d*\.)?\d+"
BETWEEN = r"(?: on a scale of 0 to 2| log-odds)?"
CLAIM = re.compile(rf"({NUMBER}){BETWEEN} \[({NUMBER}), ({NUMBER})\]{BETWEEN} \(`(\w+)`(, aligned)?: ([a-z ]+)\)")
VERDICT = re.compile(r"\(`\w+`(?:, aligned)?: [a-z ]+\)")
PLAIN = re.compile(
    r"\]\([^)]*\)|`[^`]*`|SmolLM2-135M-Instruct|Qwen2\.5-Coder-0\.5B-Instruct|R2D2|SmolLM2|95 %|steps? \d+(?: (?:to|and) \d+)?"
    r"|seeds \d+(?:, \d+)*(?: and \d+)?|seed 4\d|layer 14|rank 64|\(95 % point of 20 sets\)|0 to 2|where \.1 is admissible"
    r"|at most \.1 on|75 degrees|135 million|40 steps|7 billion|GCG of 12 steps"
)
OF_SEEDS = (  # pattern, claim, seeds
    (rf"labels \(({NUMBER}) with seed 43, ({NUMBER}) with seed 44\)", "c_cos_above_chance", (43, 44)),
    (rf"seed 43 alone \(({NUMBER}); ({NUMBER}) with seed 44\)", "dense_c_cos_any_refusal", (43, 44)),
    (
        rf"with seed 43 they are, by ({NUMBER}), with seed 44 they are not, by ({NUMBER})\.",
        "aligned_orthogonal",
        (43, 44),
    ),
)


@functools.cache
def table(study: str, name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / study / "tables" / f"{name}.csv")


def row(study: str, name: str, **where: object) -> pd.Series:
    """The mean over the seeds of the rows in question."""
    of = table(study, name)
    for column, value in where.items():
        of = of[of[column] == value]
    assert len(of) >= 1, (study, name, where)
    return of.mean(numeric_only=True)


def value(text: str) -> float:
    return float(text.replace("−", "-"))


def claim(name: str, aligned: bool = False) -> pd.Series:
    return table("aligned" if aligned else "full", "claims").set_index("id").loc[name]


def three(of: pd.Series, name: str) -> list[float]:
    return [of[name], of[f"{name}_lo"], of[f"{name}_hi"]]


def by_seed(name: str, *seeds: int) -> list[float]:
    """A claim's estimates with these seeds."""
    values = dict(part.split(": ") for part in claim(name)["by_seed"].split("; "))
    return [float(values[str(seed)]) for seed in seeds]


def quoted() -> list[tuple[str, list[float]]]:
    """Pattern, and the values of its groups."""
    anchors, coupled, found = table("full", "five_anchor"), row("aligned", "coupling"), table("full", "selection")
    mature = row("aligned", "selection", in_charge=True)
    layer = row("aligned", "aligned_anchors", scope="layer")
    r2d2 = anchors[anchors["regime"] == "r2d2"].groupby("step").mean(numeric_only=True)
    sft = anchors[anchors["regime"] == "sft"].groupby("step").mean(numeric_only=True)
    losses = table("full", "training").query("regime == 'sft'").groupby("step")["loss"].mean()
    moved = table("full", "geometry").query("regime == 'sft' and step == 40")
    at_15 = anchors.query("regime == 'r2d2' and step == 15").set_index("seed")["any_refusal"]
    counts = {study: table(study, "claims")["verdict"].value_counts() for study in ("full", "aligned")}
    over_seeds = table("full", "claims")["verdict_over_seeds"].value_counts()
    names = ("holds", "fails", "no effect", "inconclusive")
    chosen = found[found["in_charge"]].set_index(["seed", "regime", "step"])
    has = anchors[anchors["hrci_repr"].notna()].set_index("seed")["hrci_repr"]
    best = candidates("full").sort_values("effect").iloc[-1]
    controls = claim("sweep_r_removed_sft_refusal")
    source = table("full", "source_choice").query("role == 'source'")
    own = chosen.index[chosen["status"] == "own"].tolist()
    assert own == [
        (43, "r2d2", 20),
        (43, "sft_refusal", 20),
        (44, "r2d2", 20),
        (44, "r2d2", 30),
        (44, "sft_refusal", 20),
    ]
    assert best["regime"] == "sft_refusal" and best["seed"] == 42 and best["layer"] == 14 and len(own) == len(has)
    gain = rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\] against ({NUMBER})"
    return [
        *(
            (rf"\| {study} \| (\d+) of (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|",
             [of.sum() - of["not applicable"], of.sum(), *(of.get(name, 0) for name in names)])
            for study, of in counts.items()
        ),
        (rf"falls from ({NUMBER}) at the first step to ({NUMBER}) at step 40", [losses[1], losses[40]]),
        (r"rise from (\d+) % at step 10 to (\d+) % at step 40", [100 * sft.loc[step, "direct_asr"] for step in (10, 40)]),
        (r"at these two steps is (\d+) to (\d+) degrees", [moved["angle_3"].min(), moved["angle_3"].max()]),
        (rf"at the two steps is ({NUMBER}) or more", [moved["cos_fixed_h_ref"].min()]),
        (r"At step 15 R2D2 refuses (\d+) % of the safe look-alikes \((\d+) % with seed 42, (\d+) % with seed 43, (\d+) % with"
         r" seed 44\)", [100 * at_15.mean(), *(100 * at_15)]),
        (r"which (\d+) % of the requests get past R2D2 with at step 20 and (\d+) % at step 40",
         [100 * r2d2.loc[step, "framing_asr"] for step in (20, 40)]),
        (rf"gains ({NUMBER}) log-odds \[({NUMBER}), ({NUMBER})\] of a refusal .*? reaches ({NUMBER})",
         [*three(mature, "gain"), mature["null_95"]]),
        *(
            (begin + gain, [*three(chosen.loc[where], "gain"), chosen.loc[where, "null_95"]])
            for begin, where in (
                ("which gains ", (43, "r2d2", 20)), ("with seed 44, ", (44, "r2d2", 20)),
                ("`sft_refusal` too, ", (43, "sft_refusal", 20)), (r" and (?=1\.27 \[1\.17)", (44, "sft_refusal", 20)),
            )
        ),
        (rf"their null, ({NUMBER}) against ({NUMBER}) and ({NUMBER}) against ({NUMBER})\.",
         [chosen.loc[(42, regime, 20), name] for regime in ("r2d2", "sft_refusal") for name in ("gain", "null_95")]),
        (rf"the best gains ({NUMBER}) log-odds with seed 42.*? a KL of ({NUMBER}) nats", [best["effect"], best["kl"]]),
        (rf"Of (\d+) checkpoints trained here that have both, HRCI_repr is ({NUMBER}) and ({NUMBER}) with seed 43 .*? and"
         rf" ({NUMBER}) to ({NUMBER}) with seed 44", [len(has), *has[43], has[44].min(), has[44].max()]),
        (r"Over the (\d+) saves C_cos", [claim("dense_c_cos_any_refusal")["n"]]),
        *((pattern, by_seed(name, *seeds)) for pattern, name, seeds in OF_SEEDS),
        (rf"HRCI_repr is ({NUMBER}) \[({NUMBER}), ({NUMBER})\]: C_cos ({NUMBER}) \[({NUMBER}), ({NUMBER})\], C_sub"
         rf" ({NUMBER}) \[({NUMBER}), ({NUMBER})\]",
         [*three(coupled, "hrci_repr"), *three(coupled, "c_cos"), *three(coupled, "c_sub")]),
        (rf"is ({NUMBER}) or more at every save", [table("full", "geometry")["cos_fixed_h_ref"].min()]),
        (r"(\d+) % of (\d+) harmful requests are answered, without R at its own layer (\d+) %, without H (\d+) %",
         [100 * layer["asr_baseline"], layer["n"], 100 * layer["asr_r_only"], 100 * layer["asr_h_only"]]),
        (rf"many of (\d+) controls \(p ({NUMBER}) after Holm\)",
         [int(re.search(r"beyond (\d+) controls", controls["reason"])[1]), controls["p"]]),
        (r"of (\d+) claims it decides (\d+)\.",
         [counts["full"].sum() - counts["full"]["not applicable"], sum(over_seeds.get(name, 0) for name in names[:3])]),
        (r"In (\d+) of the claims two seeds' own intervals have no value in common",
         [table("full", "claims")["reason"].str.contains("the seeds lie apart").sum()]),
        (rf"refuse enough to be attacked \(({NUMBER}), ({NUMBER}) and ({NUMBER})\)", source["direct_asr"].tolist()),
    ]  # fmt: skip


def candidates(study: str) -> pd.DataFrame:
    """Gain and KL of every candidate of R, a row each."""
    at = ["seed", "regime", "step", "layer", "position"]
    of = table(study, "profile").query("carrier == 'R' and quantity in ('effect', 'kl')")
    return of.pivot_table(index=at, columns="quantity", values="value").reset_index()


def test_claims_have_their_numbers_and_verdicts():
    found = CLAIM.findall(TEXT)
    assert len(found) == len(VERDICT.findall(TEXT)) >= 20  # each verdict has its numbers
    for estimate, low, high, name, aligned, verdict in found:
        wanted = claim(name, bool(aligned))[["estimate", "lo", "hi"]].astype(float).tolist()
        assert [value(estimate), value(low), value(high)] == pytest.approx(wanted, abs=0.00501), name
        assert claim(name, bool(aligned))["verdict"] == verdict, name


@pytest.mark.parametrize(("pattern", "values"), quoted(), ids=lambda x: x[:40] if isinstance(x, str) else "")
def test_what_else_is_quoted(pattern, values):
    (groups,) = re.findall(pattern, TEXT)
    for text, wanted in zip([groups] if isinstance(groups, str) else groups, values, strict=True):
        places = len(text.partition(".")[2])
        assert value(text) == pytest.approx(wanted, abs=0.501 * 10**-places), (pattern, values)


def test_no_other_number_is_on_the_page():
    rest = CLAIM.sub("", TEXT)
    for pattern, _ in quoted():
        rest = re.sub(pattern, "", rest)
    assert re.findall(r".{20}\d.{0,20}", PLAIN.sub("", rest)) == []


def test_seeds_are_those_of_the_tables():
    seeds = re.search(r"seeds (\d+(?:, \d+)*(?: and \d+)?)", TEXT)[1]
    assert [int(seed) for seed in re.findall(r"\d+", seeds)] == sorted(table("full", "five_anchor")["seed"].unique())
