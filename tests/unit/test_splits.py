"""Near-duplicates against brute force, roles against the promises of splits.py, leakage against planted overlaps."""

import hashlib
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from prompt_text import parse

from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.prompts.leakage import LeakageError, check_leakage, drop_leaks, find_leaks, leakage_table
from safety_geometry.prompts.splits import (
    RoleError,
    assign,
    assign_judges,
    clusters,
    content_words,
    draw_seed,
    read_roles,
    similar_pairs,
)

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdglmnrt"]


def sentences(n: int, seed: int, vocabulary: int = 480, length: int = 6) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[:vocabulary], length, replace=False)) for _ in range(n)]


def source(name: str, texts: list[str], label: str = "harmful") -> list[dict]:
    return [{"label": label, **row} for row in parse("lines", "\n".join(texts), name)]


def ids(rows) -> list[str]:
    return [row["id"] for row in rows]


def test_content_words():
    assert content_words("Write the poem about John's 3 kites!") == {"write", "poem", "john", "kites"}
    assert content_words("What is it?") == {"what", "is", "it"}  # stop words only: all of them
    assert content_words("42!") == {"42"}


def test_pairs_and_clusters_against_brute_force():
    texts = sentences(120, 0, vocabulary=14, length=5)
    sets = [content_words(text) for text in texts]
    for threshold in (0.4, 3 / 7, 0.6, 1.0):
        i, j, value = similar_pairs(texts, threshold)
        brute = {
            (a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b])
            for a, b in itertools.combinations(range(len(texts)), 2)
            if len(sets[a] & sets[b]) * 1e9 >= threshold * len(sets[a] | sets[b]) * 1e9 - 1e-3
        }
        assert dict(zip(zip(i.tolist(), j.tolist(), strict=True), value.tolist(), strict=True)) == pytest.approx(brute)
        parent = list(range(len(texts)))
        for a, b in brute:  # the plainest union: relabel everything
            old, new = parent[a], parent[b]
            parent = [new if p == old else p for p in parent]
        found = clusters(texts, threshold)
        assert all(
            (found[a] == found[b]) == (parent[a] == parent[b]) for a, b in itertools.combinations(range(len(texts)), 2)
        )
    assert 1 < len(set(clusters(texts, 0.6))) < len(texts)  # the case is neither empty nor trivial


def test_near_duplicates_in_scripts_without_blanks():
    texts = [
        "请写一首关于海的诗",
        "请写一首关于大海的诗",
        "怎样烤面包",
        "海について短い詩を書いて",
        "海について短い詩を書いてください",
    ]
    assert clusters(texts, 0.6).tolist() == [0, 0, 1, 2, 2]


def test_2500_prompts_in_two_seconds():
    texts = sentences(2500, 1)
    start = time.perf_counter()
    clusters(texts, 0.6)
    assert time.perf_counter() - start < 2


SOURCES = {
    "a": source("a", sentences(150, 2)),
    "b": source("b", sentences(150, 3)),
    "c": source("c", sentences(80, 4), label="benign"),
}
ROLES = {
    "pool": {"source": "a", "n": 30, "kind": "train"},
    "fit": {"source": ["a", "b"], "n": 30, "kind": "probe"},
    "suite": {"source": "a", "n": 20, "kind": "evaluation"},
    "clean": {"source": "c", "n": 40, "kind": "train"},
    "judged": {"source": "b", "n": "all", "kind": "judge"},
}


def with_n(name: str, n) -> dict:
    return {**ROLES, name: {**ROLES[name], "n": n}}


def test_roles_are_filled_disjoint_and_deterministic():
    first = assign(SOURCES, ROLES, seed=7, threshold=0.6)
    assert list(first.rows) == list(ROLES)
    assert {name: len(rows) for name, rows in first.rows.items() if name != "judged"} == {
        "pool": 30,
        "fit": 30,
        "suite": 20,
        "clean": 40,
    }
    taken = [i for rows in first.rows.values() for i in ids(rows)]
    assert len(taken) == len(set(taken))
    assert {row["role"] for row in first.rows["fit"]} == {"fit"} and {row["label"] for row in first.rows["clean"]} == {
        "benign"
    }
    assert list(first.rows["pool"][0])[:5] == ["id", "role", "label", "source", "prompt"]
    shuffled = {name: SOURCES[name][::-1] for name in reversed(SOURCES)}
    assert assign(shuffled, ROLES, seed=7, threshold=0.6).rows == first.rows  # the file's order does not matter
    assert ids(assign(SOURCES, ROLES, seed=8, threshold=0.6).rows["suite"]) != ids(first.rows["suite"])


def test_growing_a_role_keeps_its_first_prompts_and_disturbs_others_little():
    before = assign(SOURCES, ROLES, seed=7, threshold=0.6).rows
    after = assign(SOURCES, with_n("suite", 40), seed=7, threshold=0.6).rows
    assert ids(after["suite"])[:20] == ids(before["suite"])
    assert after["clean"] == before["clean"]
    new = set(ids(after["suite"])) - set(ids(before["suite"]))
    kept = [i for i in ids(before["pool"]) if i not in new]  # no near-duplicates here: only what the suite took is gone
    assert ids(after["pool"])[: len(kept)] == kept and len(kept) < 30
    grown = assign(SOURCES, with_n("fit", 45), seed=7, threshold=0.6).rows
    assert grown["suite"] == before["suite"] and grown["pool"] == before["pool"]  # served earlier: untouched
    assert ids(grown["fit"])[:30] == ids(before["fit"])


def test_a_cluster_serves_one_role():
    twins = [text + extra for text in sentences(30, 5) for extra in ("", " today", " today please!")]
    rows = {"a": source("a", twins)}
    roles = {
        "suite": {"source": "a", "n": 10, "kind": "evaluation"},
        "pool": {"source": "a", "n": "all", "kind": "train"},
    }
    result = assign(rows, roles, seed=0, threshold=0.6)
    words = {
        name: {frozenset(sorted(content_words(r["prompt"]) - {"today"})) for r in result.rows[name]} for name in roles
    }
    assert not words["suite"] & words["pool"] and len(words["suite"] | words["pool"]) == 30
    counts = result.counts["pool"]
    assert counts["dropped"] == 3 * len(words["suite"]) and counts["fitting"] == 60 + 30
    assert counts["taken"] == counts["fitting"] - counts["dropped"] - counts["repeated"]
    check_leakage(result.rows, read_roles(roles, rows), 0.6)


SHARED = {
    "a": source("a", sentences(20, 6)),
    "b": source("b", sentences(20, 13)),
    "j": source("j", sentences(20, 6)[:8] + sentences(20, 13)[:5] + sentences(10, 7)),  # 8 of a, 5 of b, 10 of its own
}
SEEDED = {
    "judged": {"source": "j", "n": "all", "kind": "judge"},
    "suite": {"source": "a", "n": 4, "kind": "evaluation"},
    "pool": {"source": "b", "n": 6, "kind": "train"},
}


def test_a_judge_keeps_out_of_what_evaluation_could_draw_and_training_out_of_what_the_judge_holds():
    result = assign(SHARED, SEEDED | {"pool": SEEDED["pool"] | {"n": "all"}}, seed=0, threshold=0.6)
    assert len(result.rows["judged"]) == 15 and result.counts["judged"]["dropped"] == 8  # though the suite took 4
    assert len(result.rows["pool"]) == 15 and result.counts["pool"]["dropped"] == 5
    with pytest.raises(RoleError, match=r"roles\.judged\.n is published, but a judge yields"):
        assign(SHARED, SEEDED | {"judged": SEEDED["judged"] | {"n": "published"}}, seed=0, threshold=0.6)


def test_each_run_draws_prompts_of_its_own_and_judges_are_trained_on_the_same():
    judges = assign_judges(SHARED, SEEDED, 7, 0.6).rows
    drawn = {run: assign(SHARED, SEEDED, draw_seed(7, run), 0.6, judges) for run in range(42, 72)}
    known = read_roles(SEEDED, SHARED)
    for result in drawn.values():
        assert result.rows["judged"] == judges["judged"] and "judged" not in result.counts
        assert {name: len(rows) for name, rows in result.rows.items()} == {"judged": 15, "suite": 4, "pool": 6}
        check_leakage(result.rows, known, 0.6)
    suites = {frozenset(ids(result.rows["suite"])) for result in drawn.values()}
    assert len(suites) == 30 and len(frozenset.union(*suites)) == 20  # all of the source in the end
    # Two draws of 4 of 20 share .8 on the average; 30 × 29 / 2 pairs.
    common = [len(a & b) for a, b in itertools.combinations(suites, 2)]
    assert 0.6 < np.mean(common) < 1.0
    assert draw_seed(7, 42) == draw_seed(7, 42) != draw_seed(8, 42)


def test_one_draw_for_all_runs_is_that_of_the_prompt_seed():
    """By its definition: the first of the source in the order of SHA-256 of seed, role and id."""
    rows = assign(SHARED, SEEDED, draw_seed(7, None), 0.6).rows
    order = sorted(ids(SHARED["a"]), key=lambda i: hashlib.sha256(f"7|suite|{i}".encode()).hexdigest())
    assert ids(rows["suite"]) == order[:4]


def test_filter_and_balance():
    texts = sentences(60, 8)
    rows = [{**row, "type": "xyz"[i % 10 // 4]} for i, row in enumerate(source("a", texts, "benign"))]  # 24, 24, 12
    picked = assign({"a": rows}, {"s": {"source": "a", "n": 9, "kind": "evaluation", "balance": "type"}}, 0, 0.6).rows[
        "s"
    ]
    assert sorted(row["type"] for row in picked) == ["x"] * 3 + ["y"] * 3 + ["z"] * 3
    only = {"s": {"source": "a", "n": "all", "kind": "evaluation", "filter": {"type": ["x", "z"]}}}
    assert len(assign({"a": rows}, only, 0, 0.6).rows["s"]) == 36


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": {"source": "a", "n": 140, "kind": "train"}}, r"roles\.pool: 140 prompts wanted, \d+ available \(150 in a.*held by .*suite \(20\).*lower roles\.pool\.n"),
        ({"pool": {"source": "a", "n": 3, "kind": "train", "filter": {"type": "q"}}}, r"0 fit the filter type=\['q'\] \(values: \['None'\]\)"),
        ({"pool": {"source": "z", "n": 3, "kind": "train"}}, r"roles\.pool\.source: no source z; there are \['a', 'b', 'c'\]"),
        ({"pool": {"source": "a", "n": 0, "kind": "train"}}, "positive number, all or published"),
        ({"pool": {"source": "a", "n": 3, "kind": "trian"}}, "kind is 'trian'"),
        ({"pool": {"source": "a", "n": 3, "kind": "train", "share": "suite"}}, "unknown setting share"),
        ({"pool": {"source": "a", "n": 3, "kind": "train", "shares": "who"}}, "which is no role"),
        ({"pool": {"source": "a", "n": 3, "kind": "train", "balance": "type"}}, "no prompt of a has a field type"),
    ],
)  # fmt: skip
def test_role_errors(changes, message):
    with pytest.raises(RoleError, match=message):
        assign(SOURCES, ROLES | changes, seed=7, threshold=0.6)


def test_unlabelled_source():
    with pytest.raises(RoleError, match=r"set sources\.a\.label"):
        assign({"a": parse("lines", "Bake a cake", "a")}, {"r": {"source": "a", "n": 1, "kind": "train"}}, 0, 0.6)


def leaky():
    """Published splits: `fit` repeats 3 prompts of `suite` and has 2 near ones; `pool` repeats 1 of `fit` and 1 of `suite`."""
    base = sentences(40, 9)
    texts = {
        "suite": base[:10],
        "fit": base[10:20] + [t.upper() + "!" for t in base[:3]] + [t + " today" for t in base[3:5]],
        "pool": [*base[20:30], base[10], base[9]],
    }
    kinds = {"suite": "evaluation", "fit": "probe", "pool": "train"}
    rows = {name: source(name, found) for name, found in texts.items()}
    roles = {name: {"source": name, "n": "published", "kind": kinds[name]} for name in texts}
    return assign(rows, roles, 0, 0.6).rows, read_roles(roles, rows)


def test_leakage_table_counts_planted_overlaps():
    rows, roles = leaky()
    table = leakage_table(rows, roles, 0.6).set_index(["role_a", "role_b"])
    assert len(table) == 6
    assert table.loc[("suite", "fit"), ["n_a", "n_b", "exact", "near"]].tolist() == [10, 15, 3, 2]
    assert table.loc[("suite", "pool"), ["exact", "near", "max_jaccard"]].tolist() == [1, 0, 1.0]
    assert table.loc[("fit", "pool"), ["exact", "near"]].tolist() == [1, 0]
    assert table.loc[("suite", "suite"), ["exact", "near", "status"]].tolist() == [0, 0, "within"]
    best = max(
        len(content_words(a["prompt"]) & content_words(b["prompt"]))
        / len(content_words(a["prompt"]) | content_words(b["prompt"]))
        for a, b in itertools.combinations(rows["pool"], 2)
    )
    assert table.loc[("pool", "pool"), "max_jaccard"] == pytest.approx(best)
    assert sum(leak.exact for leak in find_leaks(rows, 0.6)) == 5


def test_fail_names_roles_counts_and_ids_but_no_text():
    rows, roles = leaky()
    with pytest.raises(
        LeakageError, match=r"3 pair\(s\).*suite and fit: 3 exact, 2 near-duplicate pairs \(suite-\w{10} ~ fit-\w{10}"
    ) as caught:
        check_leakage(rows, roles, 0.6)
    assert not any(row["prompt"].lower() in str(caught.value).lower() for found in rows.values() for row in found)


def test_drop_takes_the_training_side():
    rows, roles = leaky()
    left, dropped = drop_leaks(rows, roles, 0.6)
    assert left["suite"] == rows["suite"]
    assert {name: len(found) for name, found in left.items()} == {"suite": 10, "fit": 10, "pool": 10}
    assert dropped == {("suite", "fit"): 5, ("suite", "pool"): 1, ("fit", "pool"): 1}
    check_leakage(left, roles, 0.6)
    table = leakage_table(left, roles, 0.6, dropped)
    assert table["dropped"].sum() == 7 and set(table["status"]) == {"within", "disjoint"}


def test_a_dropped_prompt_takes_no_other_with_it():
    words = WORDS[:9]  # suite ~ fit ~ pool at 6/8, but suite and pool only at 5/9
    chain = {"suite": words[:7], "fit": words[1:8], "pool": words[2:9]}
    rows = {
        name: source(name, [" ".join(found), " ".join(WORDS[k : k + 6])])
        for (name, found), k in zip(chain.items(), (20, 30, 40), strict=True)
    }
    kinds = {"suite": "evaluation", "fit": "probe", "pool": "train"}
    roles = {name: {"source": name, "n": "published", "kind": kinds[name]} for name in chain}
    found, read = assign(rows, roles, 0, 0.7).rows, read_roles(roles, rows)
    left, dropped = drop_leaks(found, read, 0.7)
    assert {name: len(kept) for name, kept in left.items()} == {"suite": 2, "fit": 1, "pool": 2}
    assert dropped == {("suite", "fit"): 1}


def test_shared_roles_may_meet():
    rows = {"a": source("a", sentences(12, 10))}
    settings = {
        "one": {"source": "a", "n": 8, "kind": "evaluation"},
        "two": {"source": "a", "n": 8, "kind": "evaluation"},
    }
    with pytest.raises(RoleError, match=r"roles\.two: 8 prompts wanted, 4 available"):
        assign(rows, settings, 0, 0.6)
    settings["two"]["shares"] = "one"
    found, roles = assign(rows, settings, 0, 0.6).rows, read_roles(settings, rows)
    check_leakage(found, roles, 0.6)
    table = leakage_table(found, roles, 0.6)
    assert table[table.role_a != table.role_b]["status"].tolist() == ["shared"] and table["exact"].max() >= 4


def test_script_writes_role_files_and_a_valid_table(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"Write a note about {text}" for text in sentences(20, 11)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/c.jsonl").write_text(
        "\n".join(json.dumps({"prompt": text, "type": "x"}) for text in sentences(10, 12))
    )
    params = {
        "sources": {
            "a": {"format": "lines", "label": "harmful", "path": 0},
            "c": {"format": "jsonl", "label": "benign", "path": 1, "files": "*.jsonl"},
        },
        "roles": {
            "suite": {"source": "a", "n": 5, "kind": "evaluation"},
            "pool": {"source": "a", "n": "all", "kind": "train"},
            "clean": {"source": "c", "n": 6, "kind": "train"},
        },
        "seed": 1, "run": 3, "per_seed": True, "threshold": 0.6, "on_leak": "fail", "target_words": 6,
    }  # fmt: skip
    private = tmp_path / "private"
    files = [str(private / f"{name}.jsonl") for name in params["roles"]]
    command = [
        sys.executable,
        str(SCRIPTS / "prompt_sets.py"),
        "--sources",
        str(tmp_path / "a.txt"),
        str(tmp_path / "folder"),
    ]
    command += ["--roles", *files, "--leakage", str(tmp_path / "leakage.csv"), "--params", json.dumps(params)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(SCRIPTS.parents[1] / "src")}
    )
    assert done.returncode == 0, done.stderr
    rows = {
        name: [json.loads(line) for line in (private / f"{name}.jsonl").read_text().splitlines()]
        for name in params["roles"]
    }
    assert {name: len(found) for name, found in rows.items()} == {"suite": 5, "pool": 15, "clean": 6}
    assert list(rows["suite"][0]) == ["id", "role", "label", "source", "prompt", "target"]
    assert rows["suite"][0]["target"] == "Sure, here is a note" and "target" not in rows["clean"][0]
    assert rows["clean"][0]["type"] == "x" and (private / "pool.jsonl.provenance.json").exists()
    leakage = read_table(tmp_path / "leakage.csv")
    assert len(leakage) == 6 and set(leakage["seed"]) == {3}
    assert not any(row["prompt"] in done.stdout + done.stderr for found in rows.values() for row in found)


def test_matches_of_drawn_prompts_are_drawn_and_prompts_with_a_match_come_first():
    texts = sentences(60, 5)
    safe = [row | {"key": f"s{i}", "type": "ab"[i % 2]} for i, row in enumerate(source("safe", texts[:40], "benign"))]
    harmful = [row | {"pair": f"s{i}"} for i, row in enumerate(source("harm", texts[40:]))]
    harmful[0]["prompt"] = harmful[0]["prompt"] + " " + " ".join(safe[0]["prompt"].split()[:1])  # alike, as matches are
    roles = {
        "look": {"source": "safe", "n": 12, "kind": "evaluation", "balance": "type"},
        "match": {"source": "harm", "n": "all", "kind": "evaluation", "pairs": "look"},
    }
    rows = assign({"safe": safe, "harm": harmful}, roles, seed=1, threshold=0.6).rows
    assert {row["pair"] for row in rows["match"]} == set(ids(rows["look"])) and len(rows["match"]) == 12
    assert sorted(row["type"] for row in rows["look"]) == ["a"] * 6 + ["b"] * 6
    more = assign({"safe": safe, "harm": harmful}, roles | {"look": roles["look"] | {"n": 30}}, 1, 0.6).rows
    assert ids(more["look"])[:12] == ids(rows["look"]) and len(more["match"]) == 20


def test_a_match_may_be_like_its_prompt_and_nothing_else():
    safe = [row | {"key": "s0"} for row in source("safe", ["fell an old oak tree"], "benign")]
    harmful = [row | {"pair": "s0"} for row in source("harm", ["fell an old oak neighbour"])]
    roles = {
        "look": {"source": "safe", "n": "all", "kind": "evaluation"},
        "match": {"source": "harm", "n": "all", "kind": "evaluation", "pairs": "look"},
    }
    rows = assign({"safe": safe, "harm": harmful}, roles, seed=1, threshold=0.5).rows
    check_leakage(rows, read_roles(roles, ["safe", "harm"]), 0.5)
    probe = {"probe": {"source": "other", "n": "all", "kind": "probe"}}
    other = {"other": source("other", ["fell an old oak rival", "unlike all that"])}
    found = assign({"safe": safe, "harm": harmful} | other, roles | probe, seed=1, threshold=0.5).rows
    assert [row["prompt"] for row in found["probe"]] == ["unlike all that"]


def test_pairs_need_an_earlier_role_of_their_kind():
    role = {"source": "harm", "kind": "evaluation", "pairs": "look"}
    look = {"source": "safe", "kind": "evaluation"}
    for roles in ({"match": role, "look": look}, {"look": look | {"kind": "probe"}, "match": role}):
        with pytest.raises(RoleError, match=r"roles\.match\.pairs is 'look'; it has to be a role of the same kind"):
            read_roles(roles, ["safe", "harm"])
    with pytest.raises(RoleError, match=r"roles\.match\.n is published"):
        read_roles({"look": look, "match": role | {"n": "published"}}, ["safe", "harm"])
