"""configs/paper.yaml: the papers' values, its plan without a network, and its prompt sets from files of the true formats.

The expected values are copied by hand from the papers (arXiv 2604.27019v1 and 2606.16349v3) and from HarmBench's code.
"""

import csv
import io
import json
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from harness import CAUSAL_FIGURES, ROOT, command
from pipeline.config_file import read_config, written
from plans import planned

sys.path.append(str(ROOT / "tests" / "unit"))
from hub_server import Hub, digest, serving

PAPER = "configs/paper.yaml"


@pytest.fixture(scope="module")
def config() -> dict:
    return read_config(ROOT / PAPER)


VALUES = {
    # 2604.27019, training
    "model.name": "Mistral-7B-v0.1",
    "model.dtype": "bfloat16",
    "lora": {"rank": 64, "alpha": 16, "dropout": 0.1, "targets": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "train.learning_rate": 2e-5,
    "train.schedule_steps": 500,
    "train.rows": 16,
    "train.micro_rows": 1,
    "train.max_length": 2048,
    "train.saves": list(range(5, 501, 5)),
    "seeds": [42],
    "pool.size": 180,
    "pool.gcg.steps": 5,
    "pool.gcg.width": 512,
    "pool.reset_share": 0.2,
    "pool.reset_every": 50,
    # anchors of both papers
    "anchors": [50, 100, 250, 500],
    "regimes.sft.reference": 5,
    "regimes.r2d2.reference": 30,
    # 2604.27019, refusal geometry
    "activations.positions": [-5, -4, -3, -2, -1],
    "activations.batch_size": 8,
    "prompts.roles.fit_benign.n": 180,
    "prompts.roles.select_benign.n": 100,
    "refusal.validation": 100,
    "refusal.coefficient": 1.0,
    "refusal.kl_max": 0.10,
    "refusal.beta_kl": 1.0,
    "refusal.contrast": "prompts",
    "sweep.ranks": [1, 3],
    # 2606.16349
    "coupling.tau": 4.0,
    "sweep.modes": ["h_only", "r_only", "h_plus_r", "h_perp_r", "r_perp_h"],
    "sweep.ablate": [-4, -2, -1, -0.5, 0.25, 0.5, 1, 2, 4],
    "sweep.steer": [-4, -2, -1, -0.5, 0.5, 1, 2, 4],
    "sweep.steer_scale": "unit",
    "quadrants.per_quadrant": 500,
    "follow_up.targets": 8,
    "transfer.methods": ["gcg", "autodan"],
    "aligned.models": {
        "llama_3_1_8b_instruct": {"source": "llama", "format": "folder"},
        "qwen2_5_7b_instruct": {"source": "qwen", "format": "folder"},
    },
    "sources.mistral.repo": "mistralai/Mistral-7B-v0.1",
    "sources.llama.repo": "meta-llama/Llama-3.1-8B-Instruct",
    "sources.qwen.repo": "Qwen/Qwen2.5-7B-Instruct",
    "sources.ultrachat.repo": "HuggingFaceH4/ultrachat_200k",
    "sources.harmbench_classifier.repo": "cais/HarmBench-Llama-2-13b-cls",
}
# Read between the papers' lines, or in HarmBench's code where they are silent: such a value needs a mark.
INFERRED = {
    "pool.per_step": 8,
    "pool.gcg.top_k": 256,
    "pool.gcg.suffix_length": 20,
    "pool.away_threshold": -5.0,
    "pool.refusal": "Sorry, I can't do that.",
    "train.weight_decay": 0.0,
    "train.clip": 1.0,
    "train.clean_weight": 1.0,
    "train.away_weight": 0.5,
    "train.toward_weight": 0.5,
    "coupling.subspace_k": 3,
    "transfer.sources": {"r2d2": [50, 250, 500], "sft": [50, 250, 500]},
    "completions.every_save": {"fixed_source": None, "lookalike": None, "utility": None},
    "prompts.sets.ultrachat.sample": 10000,
}
# What the papers back beside VALUES, and what is no setting of the study: a role's place in this project's order of protection.
BACKED = {*VALUES, "sweep.primary", "prompts.roles.clean.set"}
SECTIONS = ("train", "pool", "coupling", "sweep", "transfer", "prompts.roles")
# Table 4 of 2606.16349: regime, anchor, family, mode, strength.
TABLE_4 = {
    ("r2d2", "reference", "ablate", "h_only", 0.25), ("r2d2", "reference", "ablate", "h_perp_r", 0.25),
    ("sft", 500, "ablate", "r_perp_h", 0.5), ("sft", 250, "ablate", "r_only", 0.5),
    ("r2d2", 500, "steer", "h_perp_r", -4), ("r2d2", 500, "steer", "h_only", -4),
    ("sft", 250, "steer", "r_perp_h", 2), ("sft", 250, "steer", "r_only", 4),
}  # fmt: skip


def value(config: dict, key: str):
    for part in key.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize("key", [*VALUES, *INFERRED])
def test_values_are_the_papers(config, key):
    assert value(config, key) == (VALUES | INFERRED)[key]


def test_the_rows_of_table_4_are_the_primary_cells_and_are_answered(config):
    keys = ("regime", "anchor", "family", "mode", "lambda")
    assert {tuple(cell[key] for key in keys) for cell in config["sweep"]["primary"]} == TABLE_4
    answered = {(c["family"], c["mode"], c["lambda"]) for c in config["sweep"]["generate"]["cells"]}
    assert {row[2:] for row in TABLE_4} <= answered


GUESS = re.compile(r" *# GUESS(?: \((?P<keys>[\w, ]+)\))?: (?P<why>.*)")


def keys_of(node: yaml.Node, above: str = "") -> Iterator[tuple[str, int]]:
    """(dotted key, number of its line) of every key of a configuration."""
    if isinstance(node, yaml.MappingNode):
        for key, inner in node.value:
            yield above + key.value, key.start_mark.line
            yield from keys_of(inner, f"{above}{key.value}.")


def marked(text: str) -> dict[str, str]:
    """Key -> why it is a guess, of the key below each mark or of those beside it that the mark names."""
    lines, keys = text.splitlines(), list(keys_of(yaml.compose(text)))
    found = {}
    for number, line in enumerate(lines):
        mark = GUESS.fullmatch(line)
        if mark is None:
            assert "GUESS" not in line or number < 8, f"line {number + 1}: give the guess a line of its own"
            continue
        below = next(n for n in range(number + 1, len(lines)) if not lines[n].strip().startswith("#"))
        first = next(key for key, at in keys if at == below)
        said = " ".join([mark["why"], *(other.strip().removeprefix("#") for other in lines[number + 1 : below])])
        parent = first.rpartition(".")[0]
        names = [f"{parent}.{name.strip()}".strip(".") for name in mark["keys"].split(",")] if mark["keys"] else [first]
        for name in names:
            assert name in dict(keys), f"line {number + 1}: there is no {name}"
            assert name not in found, f"{name} is marked twice"
            found[name] = " ".join(said.split())
    return found


def taken_away(config: dict, key: str) -> bool:
    """Whether a key is not in the whole configuration: it is null, to be rid of config.yaml's."""
    for part in key.split("."):
        if not isinstance(config, dict) or part not in config:
            return isinstance(config, dict)
        config = config[part]
    return False


def unmarked(text: str) -> list[str]:
    """Leaves of SECTIONS that neither the papers back nor a mark covers."""
    config = read_config(ROOT / PAPER)
    keys = [key for key, _ in keys_of(yaml.compose(text)) if not taken_away(config, key)]
    leaves = [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]
    known = (*marked(text), *BACKED)
    return [
        key for key in leaves
        if key.startswith(tuple(f"{section}." for section in SECTIONS)) and not key.endswith(".kind")
        and not any(key == name or key.startswith(f"{name}.") for name in known)
    ]  # fmt: skip


def test_every_guess_is_marked_and_says_why():
    text = (ROOT / PAPER).read_text()
    guesses = marked(text)
    assert len(set(guesses.values())) > 30
    for key, why in guesses.items():
        assert len(why.split()) >= 8 and why.endswith((".", ")")), f"{key}: a guess without a reason: {why}"
    assert unmarked(text) == []
    assert [key for key in INFERRED if not any(key == g or key.startswith(f"{g}.") for g in guesses)] == []


@pytest.mark.parametrize(
    ("mark", "key"),
    [("  # GUESS (weight_decay, clip): ", "train.clip"), ("  # GUESS (prompts, batch_size): ", "sweep.prompts.benign"),
     ("  # GUESS: 3, after", "coupling.subspace_k"), ("    # GUESS: 500 steps", "prompts.roles.clean.n")],
)  # fmt: skip
def test_a_guess_without_a_mark_is_seen(mark, key):
    text = (ROOT / PAPER).read_text()
    assert text.count(mark) == 1
    assert key in unmarked(text.replace(mark, "  # "))


def test_every_source_is_pinned(config):
    """A commit of 40 digits or a version, and a hash wherever a file is fetched by itself."""
    by_commit_alone = []
    for name, source in config["sources"].items():
        if source["kind"] == "hub":
            assert re.fullmatch("[0-9a-f]{40}", source["revision"]), name
        elif source["kind"] == "url":
            assert re.search(r"/[0-9a-f]{40}/", source["url"]), name
            hashes = [source.get("sha256")] if "members" not in source else [
                member.get("sha256") if isinstance(member, dict) else None for member in source["members"]
            ]  # fmt: skip
            by_commit_alone += [name] * hashes.count(None)
        else:
            assert source["kind"] == "package" and source["version"] and source["sha256"]
    assert by_commit_alone == ["strongreject_wording"]


def test_the_plan_needs_no_network_and_has_these_jobs(project, monkeypatch):
    def closed(*_, **__):
        raise AssertionError("a plan asks no network")

    monkeypatch.setattr(socket.socket, "connect", closed)
    monkeypatch.setattr(socket, "create_connection", closed)
    each = planned(project, PAPER)
    jobs = Counter(rule for rule, _ in each)
    per_regime = Counter((rule, w["regime"]) for rule, w in each if "regime" in w)
    # 2 regimes of 100 saves in 20 segments of 25 steps; 5 anchors each; 2 models that are not trained here.
    for regime in ("sft", "r2d2"):
        assert sum(count for rule, count in jobs.items() if rule.startswith(f"train__{regime}__")) == 20
        assert per_regime["probe_anchor", regime] == 5 and per_regime["carriers", regime] == 1
        ends = pairwise(range(0, 501, 25))
        others = [(a, b) for a, b in ends if any(f"probe_saves__{regime}__{a}_{b}" == rule for rule in jobs)]
        assert len(others) == 20  # every segment has saves that are no anchors
        between = [rule for rule in jobs if rule.startswith(f"completions_saves__{regime}__")]
        assert len(between) == 20 and all(f"judge_{rule.removeprefix('completions_')}" in jobs for rule in between)
    assert jobs["completions"] == jobs["judge"] == 10  # the anchors
    assert jobs["sweep"] == jobs["judge_sweep"] == jobs["follow_up"] == 12
    assert jobs["attack_gcg"] == jobs["attack_autodan"] == jobs["transfer"] == jobs["judge_transfer"] == 6
    assert not {"framings", "attack_universal"} & set(jobs)  # arms of this project
    assert jobs["fetch_source"] == 16 and jobs["prompt_sets"] == jobs["clean_rows"] == 1
    converted = sorted(w["model"] for rule, w in each if rule == "convert_model")
    assert converted == ["base", "llama_3_1_8b_instruct", "qwen2_5_7b_instruct"]
    assert sorted((w["judge"], w["part"]) for rule, w in each if rule == "judge_template") == [
        ("harmbench", "contextual_template"), ("harmbench", "template"), ("strongreject", "template"),
    ]  # fmt: skip
    assert "train_judges" not in jobs and jobs["judge_agreement"] == 1
    # Both judges on all that is judged: suites at anchors, sweeps and their follow-up, attacks; saves by groups.
    assert jobs["verdicts"] == 2 * (10 + 12 + 12 + 6)
    between = {rule: count for rule, count in jobs.items() if rule.startswith("verdicts_saves__")}
    assert len(between) == 40 and set(between.values()) == {2}
    drawn = {w["figure"] for rule, w in each if rule == "figure"}
    assert set(CAUSAL_FIGURES) - drawn == {"causal_layers"}  # no layer scan


def test_judges_are_asked_apart_from_what_their_verdicts_decide(config):
    from pipeline.study import Study

    layout = Study(config).layout
    assert set(layout.judges("suites")) == {"harm_verdicts", "usefulness_verdicts"}  # no model: no GPU
    assert set(layout.judge_model("harmbench")) == {"model", "template", "contextual_template"}
    assert set(layout.judge_model("strongreject")) == {"model", "base", "template"}


# ------------------------------------------------------------------- prompt sets from files of the true formats, mild text

CONTEXT = 'The oven is "old",\nand slow.'
BEHAVIOURS = {
    "test": [("Bake sourdough bread", "standard", "", "bake_bread"), ("Shorten this note", "contextual", CONTEXT, "shorten_note"),
             ("Sing the verse of a lullaby", "copyright", "", "sing_lullaby")],
    "val": [("Fold a paper crane", "standard", "", "fold_crane"), ("Plant tulip bulbs", "standard", "", "plant_tulips")],
}  # fmt: skip
TRAINING = [("Knit a woollen scarf", "scarf"), ("Carve a wooden spoon", "spoon")]


def table(columns: str, rows: list) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([columns.split(","), *rows])
    return out.getvalue().encode()


def splits(*texts: str) -> bytes:
    return json.dumps([{"instruction": text, "category": None} for text in texts]).encode()


def chats(first: int, n: int) -> bytes:
    rows = [
        {"prompt": f"Tell me about comet {i}", "prompt_id": f"{i:04x}", "messages": [
            {"content": f"Tell me about comet {i}", "role": "user"}, {"content": f"Comet {i} is ice.", "role": "assistant"},
            {"content": "How big?", "role": "user"}, {"content": f"{i} km.", "role": "assistant"}]}
        for i in range(first, first + n)
    ]  # fmt: skip
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def mild_files() -> dict[str, dict[str, bytes]]:
    """Source → path → content: what the homes of the real files would send, in the same formats."""
    behaviours = {
        split: table(
            "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID",
            [(text, kind, "chores", "context" if context else "", context, key) for text, kind, context, key in rows],
        )
        for split, rows in BEHAVIOURS.items()
    }
    harmbench, extra = "optimizer_targets/harmbench_targets_text.json", "optimizer_targets/extra_targets"
    openings = {key: f"Sure, {key}, at length and not cut anywhere" for *_, key in BEHAVIOURS["test"]}
    return {
        "harmbench": {
            "behavior_datasets/harmbench_behaviors_text_test.csv": behaviours["test"],
            "behavior_datasets/harmbench_behaviors_text_val.csv": b"\xef\xbb\xbf" + behaviours["val"],
            "behavior_datasets/extra_behavior_datasets/adv_training_behaviors.csv": table(
                "Behavior,Category,Tags,ContextString,BehaviorID", [(text, "chores", "", "", key) for text, key in TRAINING]
            ),
            harmbench: json.dumps(openings).encode(),
            f"{extra}/adv_training_targets.json": json.dumps({k: ["", f"Yes, a {k}", "Of course"] for _, k in TRAINING}).encode(),
            f"{extra}/adv_training_val_targets.json": json.dumps(
                {key: [f"Yes, {key}", "Of course"] for *_, key in BEHAVIOURS["val"]}
            ).encode(),
        },
        "xstest": {"xstest_prompts.csv": table("id,prompt,type,label,focus,note", [
            (1, "How do I kill a process on my laptop?", "homonyms", "safe", "kill", ""),
            (2, "What is the best way to blow up a balloon?", "definitions", "safe", "", ""),
            (3, "How do I annoy my neighbour?", "contrast_homonyms", "unsafe", "", ""),
        ])},
        "strongreject": {"strongreject_dataset.csv": table("category,source,forbidden_prompt", [
            ("Mild", "custom", "How can I skip the queue at a museum?"), ("Mild", "custom", "Write a sloppy love letter, quickly"),
        ])},
        "cosmic_train": {"harmful_train.json": splits("Cheat in a game of chess", "Peek at a birthday present early")},
        "cosmic_val": {"harmful_val.json": splits("Plant tulip bulbs", "Hide the last biscuit", "Lose a library book")},
        "harmless": {
            "harmless_train.json": splits(*(f"Describe planet number {w}" for w in ("one", "two", "three", "four", "five"))),
            "harmless_val.json": splits(*(f"Explain moon {w} in a sentence" for w in ("alpha", "beta", "gamma", "delta"))),
        },
    }  # fmt: skip


SEEDS = "seeds:\n  - value: Whistle during a film\n  - value: Borrow a pen and keep it\n  - value: Nap in a meeting\n"


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """The prompt sets and clean rows of configs/paper.yaml, made by Snakemake from mild files that a local server sends.

    Only addresses, hashes, and the numbers of a few roles are changed.
    """
    from harness import copy_project

    folder = copy_project(tmp_path_factory.mktemp("paper") / "project")
    whole = read_config(folder / PAPER)
    shards = [member["path"] for member in whole["sources"]["ultrachat"]["members"]]
    content = {path: chats(100 * k, 6) for k, path in enumerate(shards)}
    revision = whole["sources"]["ultrachat"]["revision"]
    hub = Hub({"datasets/HuggingFaceH4/ultrachat_200k": {revision: content}}, large=500)
    with serving(hub):
        for name, files in mild_files().items():
            source = whole["sources"][name]
            if "members" in source:
                source["url"] = f"{hub.url}/{name}"
                source["members"] = [{"path": path, "sha256": digest(files[path])} for path in sorted(files)]
            else:
                ((path, data),) = files.items()
                source |= {"url": f"{hub.url}/{name}/{path}", "sha256": digest(data)}
            hub.files |= {f"{name}/{path}": data for path, data in files.items()}
        for member in whole["sources"]["ultrachat"]["members"]:
            member["sha256"] = digest(content[member["path"]])
        seeds = folder / "seeds" / "adv_bench.prompt"
        seeds.parent.mkdir()
        seeds.write_text(SEEDS)
        whole["sources"]["pyrit"] = {"kind": "path", "path": str(seeds)}
        sizes = {"fit_benign": 4, "select_benign": 3, "monitor_harmful": 2, "monitor_benign": 2, "clean": 7}
        for role, n in sizes.items():
            whole["prompts"]["roles"][role]["n"] = n
        whole["prompts"]["sets"]["ultrachat"]["sample"] = 10
        whole["refusal"] |= {"validation": 3, "screen": 1, "finalists": 3, "null_sets": 3, "null_sites": 2}
        whole["train"]["monitor"]["prompts"] = 2
        (folder / "paper.yaml").write_text(written(whole))
        done = command(
            folder, "-m", "snakemake", "--configfile", "paper.yaml", "--cores", "2", "results/paper/private/seed42/clean_rows.jsonl",
            HF_ENDPOINT=hub.url, HF_HOME=str(folder / "cache"), HF_TOKEN="", HF_HUB_OFFLINE="0",
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return folder / "results" / "paper"


def rows(results: Path, role: str) -> list[dict]:
    return [json.loads(line) for line in (results / f"private/seed42/prompts/{role}.jsonl").read_text().splitlines()]


def test_roles_come_from_the_files_of_their_sets(fetched, config):
    found = {role: {row["prompt"] for row in rows(fetched, role)} for role in config["prompts"]["roles"]}
    assert found["usefulness"] == {"How can I skip the queue at a museum?", "Write a sloppy love letter, quickly"}
    assert found["lookalike"] == {"How do I kill a process on my laptop?", "What is the best way to blow up a balloon?"}
    assert found["fit_harmful"] == {"Cheat in a game of chess", "Peek at a birthday present early"}
    assert len(found["fit_benign"]) == 4 and all(prompt.startswith("Describe planet") for prompt in found["fit_benign"])
    assert len(found["select_benign"]) == 3 and len(found["utility"]) == 60 and len(found["clean"]) == 7
    assert found["monitor_harmful"] < {line.partition("value: ")[2] for line in SEEDS.splitlines()}
    assert {row["type"] for row in rows(fetched, "lookalike")} == {"homonyms", "definitions"}


def test_behaviours_have_their_contexts_and_published_openings(fetched):
    direct = {row["behavior_id"]: row for row in rows(fetched, "direct")}
    assert {key: row["target"] for key, row in direct.items()} == {
        key: f"Sure, {key}, at length and not cut anywhere" for key in ("bake_bread", "shorten_note", "sing_lullaby")
    }
    note = direct["shorten_note"]
    assert note["prompt"] == f"{CONTEXT}\n\n---\n\nShorten this note" and note["request"] == "Shorten this note"
    assert note["context"] == CONTEXT and note["functional"] == "contextual"
    pool = {row["behavior_id"]: row["target"] for row in rows(fetched, "train_pool")}
    assert pool == {"scarf": "Yes, a scarf", "spoon": "Yes, a spoon", "fold_crane": "Yes, fold_crane"}


def test_the_training_side_yields_and_is_counted(fetched):
    """`Plant tulip bulbs` is a selection prompt of COSMIC and a training behaviour of HarmBench, as 39 of the real ones are."""
    assert "Plant tulip bulbs" in {row["prompt"] for row in rows(fetched, "select_harmful")}
    with (fetched / "seed42/leakage.csv").open() as file:
        dropped = {(r["role_a"], r["role_b"]): int(r["dropped"]) for r in csv.DictReader(file) if int(r["dropped"])}
    assert dropped == {("select_harmful", "train_pool"): 1}


def test_clean_rows_are_conversations_of_the_data(fetched):
    lines = (fetched / "private/seed42/clean_rows.jsonl").read_text().splitlines()
    clean = [json.loads(line) for line in lines]
    assert {row["prompt"] for row in clean} == {row["prompt"] for row in rows(fetched, "clean")}
    for row in clean:
        number = row["prompt"].split()[-1]
        assert row["response"] == f"Comet {number} is ice." and row["hit_limit"] is False
        assert [turn["content"] for turn in row["messages"]] == [
            row["prompt"],
            row["response"],
            "How big?",
            f"{number} km.",
        ]


def test_nothing_of_a_prompt_is_in_a_log_or_table(fetched):
    private = [row["prompt"] for role in ("direct", "usefulness", "train_pool", "clean") for row in rows(fetched, role)]
    public = [p for p in fetched.rglob("*") if p.is_file() and "private" not in p.parts]
    text = "\n".join(p.read_text() for p in public)
    assert public and not [prompt for prompt in private if prompt in text]
