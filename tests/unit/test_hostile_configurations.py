"""Configurations that lie, all in one process: each is refused before any job, with the key, what stands there and what to do."""

import copy
import datetime
import functools
import json
import re
from pathlib import Path

import pytest
import yaml
from pipeline import strict_yaml
from pipeline.combinations.names import reads_as_value
from pipeline.config_file import checked_study, overlay_of, read_config, read_study, results_folder

ROOT = Path(__file__).parents[2]
WORD = "a name of at most 64 letters, digits, _ and -"
REGIME = "a name of at most 40 small letters, digits and _"
TAKEN = "call it something else"
FINITE = "has to be a finite number"
WHOLE = "has to be a whole number"
NAN, INF = float("nan"), float("inf")
OWN = {"source": None, "format": "jsonl", "label": "harmful"}
PATH_SOURCE = {"kind": "path", "path": "data"}
REGIME_SPEC = {"kind": "sft", "reference": 1}
LABELS = {kind: {"source": None, "files": ["data/smoke_labelled.jsonl"], "name": kind} for kind in ("refusal", "harm")}
JUDGE_ROLE = {"set": "harmful", "n": 3, "kind": "judge"}


@functools.cache
def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@functools.cache
def smoke() -> dict:
    return read_config(ROOT / "configs/smoke.yaml")


def edited(changes: dict) -> dict:
    config = copy.deepcopy(smoke())
    for key, value in changes.items():
        *parents, last = key if isinstance(key, tuple) else key.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config


VALUES = [
    # changes; key, value and fix in the message
    # ------------------------------------------------------------------------------ names that reach a path or a shell
    ({("sources", "x$(touch PWN)"): PATH_SOURCE}, "sources = 'x$(touch PWN)'", WORD),
    ({("sources", "`id`"): PATH_SOURCE}, "sources = '`id`'", WORD),
    ({("sources", "../../../X"): PATH_SOURCE}, "sources = '../../../X'", WORD),
    ({("sources", "a b"): PATH_SOURCE}, "sources = 'a b'", WORD),
    ({("sources", "-rf"): PATH_SOURCE}, "sources = '-rf'", WORD),
    ({("sources", ""): PATH_SOURCE}, "sources = ''", WORD),
    ({("sources", "x\n"): PATH_SOURCE}, r"sources = 'x\n'", WORD),
    ({("sources", "x" * 300): PATH_SOURCE}, "sources = 'xxxx", WORD),
    ({("sources", "no"): PATH_SOURCE}, "sources = 'no'", TAKEN),
    ({("sources", "1e5"): PATH_SOURCE}, "sources = '1e5'", TAKEN),
    ({("sources", True): PATH_SOURCE}, "sources.True = ", "YAML reads this one as True"),
    ({("sources", 7): PATH_SOURCE}, "sources.7 = ", "YAML reads this one as 7"),
    ({("sources", None): PATH_SOURCE}, "sources.None = ", "YAML reads this one as None"),
    ({("sources", "hub"): PATH_SOURCE, ("sources", "Hub"): PATH_SOURCE}, "sources = ['hub', 'Hub']", "capitals"),
    ({("prompts", "roles", "a;b"): JUDGE_ROLE}, "prompts.roles = 'a;b'", WORD),
    ({("prompts", "roles", "a/../b"): JUDGE_ROLE}, "prompts.roles = 'a/../b'", WORD),
    ({("prompts", "roles", "fixed_source"): JUDGE_ROLE}, "prompts.roles = 'fixed_source'", TAKEN),
    ({("prompts", "roles", "Off"): JUDGE_ROLE}, "prompts.roles = 'Off'", TAKEN),
    ({("prompts", "sets", "{seed}"): OWN | {"files": ["a"]}}, "prompts.sets = '{seed}'", WORD),
    ({("regimes", "sft\n"): REGIME_SPEC}, r"regimes = 'sft\n'", REGIME),
    ({("regimes", "SFT"): REGIME_SPEC}, "regimes = 'SFT'", REGIME),
    ({("regimes", "r" * 41): REGIME_SPEC}, "regimes = 'rrrr", REGIME),
    ({("regimes", "nan"): REGIME_SPEC}, "regimes = 'nan'", TAKEN),
    ({("regimes", False): REGIME_SPEC}, "regimes.False = ", "YAML reads this one as False"),
    ({("aligned", "models", "a b"): {"source": "x", "format": "gguf"}}, "aligned.models = 'a b'", REGIME),
    ({"study": "smoke\n"}, r"study = 'smoke\n'", WORD),
    ({"study": ".."}, "study = '..'", WORD),
    ({"study": 7}, "study = 7", "has to be text"),
    ({"study": "7"}, "study = '7'", TAKEN),
    ({"study": "2024-01-02"}, "study = '2024-01-02'", TAKEN),
    ({"study": False}, "study = False", "write it in quotes"),
    ({"study": datetime.date(2024, 1, 2)}, "study = 2024-01-02", "write it in quotes"),
    ({"quadrants.harmful": ["direct", "nobody"]}, "quadrants.harmful = 'nobody'", "no such suite; there are"),
    ({"quadrants.harmful": [True]}, "quadrants.harmful[0] = True", "write it in quotes"),
    ({"quadrants.benign": ["direct"]}, "quadrants.benign = 'direct'", "quadrants.harmful has this suite"),
    ({"prompts.roles.clean.shares": "nobody"}, "prompts.roles.clean.shares = 'nobody'", "no such role"),
    # ------------------------------------------------------------------------------------------------ paths and sources
    ({"prompts.sets.harmful.files": [""]}, "prompts.sets.harmful.files[0] = ''", "the name of a file or folder"),
    ({"prompts.sets.harmful.files": ["a\nb"]}, r"prompts.sets.harmful.files[0] = 'a\nb'", "in one line"),
    ({"prompts.sets.harmful.files": ["a\0b"]}, r"prompts.sets.harmful.files[0] = 'a\x00b'", "NUL"),
    ({"prompts.sets.harmful.files": ["my {x}.jsonl"]}, "prompts.sets.harmful.files = 'my {x}.jsonl'", "rename the file"),
    ({"prompts.sets.harmful.files": ["--help"]}, "prompts.sets.harmful.files = '--help'", "write it in full"),
    ({"prompts.sets.harmful.files": ["~/a.jsonl"]}, "prompts.sets.harmful.files = '~/a.jsonl'", "write it in full"),
    ({"model.chat_template": "{a}/t"}, "model.chat_template = '{a}/t'", "rename the file"),
    (
        {"sources.s": PATH_SOURCE, "prompts.sets.harmful": OWN | {"source": "s", "files": ["../a"]}},
        "prompts.sets.harmful.files = '../a'", "within the source",
    ),
    ({"sources.s": PATH_SOURCE | {"members": ["/etc/*"]}}, "sources.s.members = '/etc/*'", "within the source"),
    ({"sources.s": PATH_SOURCE | {"members": [{"sha256": "0" * 64}]}}, "sources.s.members[0].path is missing", "add it"),
    ({"sources.s": PATH_SOURCE | {"members": [{"path": "a", "sha256": "0" * 63}]}}, "sources.s.members[0].sha256 = ", "64"),
    ({"sources.s": PATH_SOURCE | {"members": [{"path": "a", "size": 3}]}}, "sources.s.members[0].size = 3", "no such key"),
    ({"sources.s": {"kind": "url", "url": "file:///etc/passwd", "sha256": "0" * 64}}, "sources.s.url = ", "http://"),
    (
        {"sources.s": {"kind": "package", "name": "--index-url=x", "version": "1", "sha256": "0" * 64, "members": ["*"]}},
        "sources.s.name = '--index-url=x'", "the name of a package",
    ),
    ({"sources.s": {"kind": "hub", "repo": "../me", "revision": "main"}}, "sources.s.repo = '../me'", "OWNER/NAME"),
    # ------------------------------------------------------------------------------------------- numbers that are none
    ({"train.learning_rate": NAN}, "train.learning_rate = nan", FINITE),
    ({"refusal.kl_max": INF}, "refusal.kl_max = inf", FINITE),
    ({"refusal.beta_kl": -INF}, "refusal.beta_kl = -inf", FINITE),
    ({"sweep.ablate": [1.0, NAN]}, "sweep.ablate[1] = nan", FINITE),
    ({"pool.reset_share": NAN}, "pool.reset_share = nan", FINITE),
    ({"pool.away_threshold": -INF}, "pool.away_threshold = -inf", FINITE),
    ({"prompts.near_duplicate": NAN}, "prompts.near_duplicate = nan", FINITE),
    ({"coupling.tau": INF}, "coupling.tau = inf", FINITE),
    ({"attacks.gcg.stop_loss": NAN}, "attacks.gcg.stop_loss = nan", FINITE),
    ({"prompts.roles.clean.filter": {"score": NAN}}, "prompts.roles.clean.filter.score = nan", FINITE),
    ({"prompts.roles.clean.filter": {"on": None}}, "prompts.roles.clean.filter.on = None", "text or a number"),
    ({"sweep.steer": [1e308]}, "sweep.steer[0] = 1e+308", "too large"),
    ({"seeds": [4.0]}, "seeds[0] = 4.0", f"{WHOLE}; write 4"),
    ({"seeds": ["4"]}, "seeds[0] = '4'", f"{WHOLE} (YAML takes it for text; write 4)"),
    ({"seeds": [True]}, "seeds[0] = True", WHOLE),
    ({"seeds": [2**32]}, "seeds[0] = 4294967296", "at most 4294967295"),
    ({"seeds": [2**63]}, "seeds[0] = 9223372036854775808", "too large"),
    ({"model.threads": 2.0}, "model.threads = 2.0", f"{WHOLE}; write 2"),
    ({"train.saves": [1, 2.0, 4]}, "train.saves[1] = 2.0", f"{WHOLE}; write 2"),
    ({"prompts.roles.clean.n": 12.0}, "prompts.roles.clean.n = 12.0", "a whole number or all or published; write 12"),
    ({"prompts.roles.clean.n": 0}, "prompts.roles.clean.n = 0", "at least 1"),
    ({"attacks.gcg.steps": "1e1"}, "attacks.gcg.steps = '1e1'", f"{WHOLE} (YAML takes it for text; write 10)"),
    ({"train.learning_rate": "nan"}, "train.learning_rate = 'nan'", "has to be a number"),
    ({"train.share_prefix": 1}, "train.share_prefix = 1", "true or false"),
    ({"sweep.permutations": 0}, "sweep.permutations = 0", "at least 1"),
    ({"sweep.permutations": 19}, "sweep.permutations = 19", "1 primary cells of r2d2 could not reach p < .05"),
    ({"refusal.layers": [1.0, 3]}, "refusal.layers[0] = 1.0", f"{WHOLE}; write 1"),
    ({"transfer.sources": {"sft": [4.0]}}, "transfer.sources.sft[0] = 4.0", "reference or a whole number; write 4"),
    ({"statistics.bootstrap": 10**12}, "statistics.bootstrap = 1000000000000", "at most"),
    ({"attacks.gcg.probe": {"draft": "head"}}, "attacks.gcg.probe.layers = None", "the draft head needs layers"),
    ({"pool.gcg.probe": {"draft": "bfloat16", "layers": 2}}, "pool.gcg.probe.layers = 2", "takes no layers"),
    (
        {"attacks.gcg.probe": {"draft": "bfloat16"}, "model.dtype": "bfloat16"},
        "attacks.gcg.probe.draft = 'bfloat16'",
        "is the dtype of the model",
    ),
    # ------------------------------------------------------------------------- what is known before a model is run
    ({"coupling.fixed_layers": [2, 9]}, "coupling.fixed_layers has 9", "model base has 6 blocks, 0 to 5"),
    ({"refusal.layers": [6]}, "refusal.layers has 6", "take out what is beyond"),
    ({"attacks.gcg.probe": {"layers": 6}}, "attacks.gcg.probe.layers has 6", "model base has 6 blocks"),
    ({"attacks.gcg.top_k": 601}, "attacks.gcg.top_k is 601", "model base has 600 tokens"),
    ({"pool.gcg.top_k": 9999}, "pool.gcg.top_k is 9999", "model base has 600 tokens"),
    ({"activations.positions": [-512, -1]}, "activations.positions is 512", "the context of model base is 512 tokens"),
    ({"completions.max_new_tokens.direct": 600}, "completions.max_new_tokens.direct is 600", "lower it"),
    ({"model.tiny.heads": 7}, "model base has 7 heads in a width of 64", "choose others"),
    ({"model.tiny.hidden": 36}, "model base has 4 heads in a width of 36", "choose others"),
    ({"model.tiny": smoke()["model"]["tiny"] | {"hidden": 80, "heads": 5}}, "model base has 5 heads for 2", "evenly"),
    ({"lora.targets": ["q_proj", "W_pack"]}, "lora.targets = 'W_pack'", "q_proj, k_proj, v_proj"),
    ({"attacks.gcg.width": 65}, "attacks.gcg.width = 65", "gives only 64 candidates"),
    ({"pool.gcg.merge": 5}, "pool.gcg.merge = 5", "4 positions"),
    ({"attacks.autodan.seeds": 25}, "attacks.autodan.seeds = 25", "data/autodan_seeds.jsonl has 24"),
    ({"harmfulness.position": -5}, "harmfulness.position = -5", "add it there"),
    ({"train.monitor.prompts": 3}, "train.monitor.prompts = 3", "role monitor_harmful has only 2 prompts"),
    (
        {"judges.labelled": LABELS | {"folds": 4}, "prompts.roles.judge_train": JUDGE_ROLE},
        "judges.labelled.folds = 4", "role judge_train has only 3 prompts",
    ),
    ({"judges.decision": "trained"}, "judges.decision = 'trained'", "needs judges.labelled"),
    ({"model.device": "cuda:01"}, "model.device = 'cuda:01'", "cuda:N"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "shown", "fix"), VALUES, ids=[f"{n}-{shown[:40]}" for n, (_, shown, _) in enumerate(VALUES)]
)
def test_a_value_is_refused_with_its_key_and_what_to_do(changes, shown, fix):
    with pytest.raises(SystemExit) as refused:
        checked_study(edited(changes))
    lines = str(refused.value).split("\n")
    assert all(line.startswith(("config error: ", "... and ")) for line in lines)
    assert any(line.startswith(f"config error: {shown}") and fix in line for line in lines), lines


def test_nothing_of_this_refuses_what_is_fine():
    checked_study(edited({
        ("sources", "2b-model_v1"): PATH_SOURCE | {"members": ["**/*.json", {"path": "a.csv", "sha256": "0" * 64}]},
        "study": "135M-second", "prompts.roles.clean.shares": "train_pool", "sweep.ablate": [1, 1.5],
        "prompts.sets.harmful.files": ["data/it's {} mine [1] $x.jsonl"], "model.chat_template": "/a folder/{a-b}.jinja",
        "prompts.roles.clean.filter": {"type": ["a", "b"], "n": 3, "checked": True}, "lora.targets": ["self_attn.q_proj", "lm_head"],
        "judges.labelled": LABELS | {"folds": 3}, "prompts.roles.judge_train": JUDGE_ROLE,
        "attacks.gcg.width": 64, "model.system": "You are {name}:\n\tkind",
    }))  # fmt: skip


@pytest.mark.parametrize(
    "name", ["no", "On", "y", "TRUE", "null", "None", "NaN", "inf", "7", "0x1f", "1_0", "1e5", ".5", "NA"]
)
def test_words_that_some_reader_takes_for_a_value(name):
    assert reads_as_value(name)
    assert not reads_as_value(f"{name}_a"[-4:].replace(".", "x").replace("_a", "_za"))


TEXTS = [
    # file, what stands there, what is written; what the message has
    ("config.yaml", "  learning_rate: 1.0e-3\n", "  learning_rate: 1.0e-3\n  learning_rate: 0.5\n", "train.learning_rate is given twice"),
    ("config.yaml", "lora: {rank: 64,", "lora: {alpha: 2, rank: 64,", "lora.alpha is given twice"),
    ("config.yaml", "study: default", "study: default\nstudy: other", "study is given twice"),
    ("config.yaml", "    - {regime: r2d2, anchor: 30, ", "    - {regime: r2d2, anchor: 30, anchor: 30, ", "sweep.primary[0].anchor is given twice"),
    ("config.yaml", "seeds: [42]", "seeds: [042]", "seeds[0] = 042"),
    ("config.yaml", "saves: [10, 15,", "saves: [010, 15,", "write 10"),
    ("config.yaml", "seeds: [42]", "seeds: [0x2a]", "YAML reads this as 42; write 42, or '0x2a' if it is text"),
    ("config.yaml", "seeds: [42]", "seeds: [0b11]", "YAML reads this as 3"),
    ("config.yaml", "seeds: [42]", "seeds: [1:30]", "seeds[0] = 1:30"),
    ("config.yaml", "tau: 4.0", "tau: 1:30.5", "coupling.tau = 1:30.5"),
    ("config.yaml", "seeds: [42]", "seeds: [09]", "seeds[0] = '09': has to be a whole number"),
    ("config.yaml", "study: default", "study: 010", "or '010' if it is text"),
    ("config.yaml", "  sft: {kind: sft,", "  on: {kind: sft,", "regimes.True"),
    ("config.yaml", "kl_max: 0.10", "kl_max: .nan", "refusal.kl_max = nan"),
    ("config.yaml", "kl_max: 0.10", "kl_max: 1.0e+999", "refusal.kl_max = inf"),
    ("config.yaml", "seeds: [42]", "seeds: &a [*a]", "holds itself"),
    ("config.yaml", "seeds: [42]", "seeds: !!python/object/apply:os.system [id]", "is not YAML"),
    ("config.yaml", "seeds: [42]", "? [1, 2]\n: 3", "a key is a word"),
    ("config.yaml", "study: default", "__use_yte__: true\nstudy: default", "__use_yte__ = True: there is no such key"),
    ("config.yaml", "study: default", "study: 2024-13-45", "is not YAML"),
    ("config.yaml", "model:\n  source", "model:\n\tsource", "indent with blanks, not with tabs"),
    ("config.yaml", "seeds: [42]", "seeds: [42]\n---\n", "is not YAML"),
    ("config.yaml", "seeds: [42]", "seeds: " + 5000 * "[" + 5000 * "]", "nested too deeply"),
    ("configs/checkpoints.yaml", "      20: {source: r2d2_20", "      0x14: {source: r2d2_20", "checkpoints.adversarial.steps.0x14 = 0x14"),
    ("configs/checkpoints.yaml", "      20: {source: r2d2_20", "      30: {source: r2d2_20", "checkpoints.adversarial.steps.30 is given twice"),
    ("configs/checkpoints.yaml", "      20: {source: r2d2_20", "      \"20\": {source: r2d2_20", "checkpoints.adversarial.steps = '20'"),
    ("configs/checkpoints.yaml", "      20: {source: r2d2_20", "      1.5: {source: r2d2_20", "checkpoints.adversarial.steps.1.5 = "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "fault"), TEXTS, ids=[f"{n}-{t[3][:40]}" for n, t in enumerate(TEXTS)])
def test_a_text_is_refused(name, old, new, fault, tmp_path):
    assert text(name).count(old) >= 1
    file = tmp_path / "study.yaml"
    file.write_text(text(name).replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SystemExit) as refused:
        read_study(file)
    assert str(refused.value).startswith("config error: ") and fault in str(refused.value)
    assert "\n" not in str(refused.value) or "no such key" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("study: caf\u00e9\n".encode("latin-1"), r"is not YAML in UTF-8 \(byte 0xe9 in line 1\); save it as UTF-8"),
        ("study: x\n".encode("utf-16"), "is not YAML in UTF-8"),
        (b"", "holds no keys"), (b"# nothing\n", "holds no keys"), (b"- a\n", "holds no keys"), (b"7\n", "holds no keys"),
        (b"study: x\0\n", "is not YAML"), (b'{"study": "a", "study": "b"}', "study is given twice"),
        (b'{"study": "\\ud800"}', "half of a pair"), (b"null", "holds no keys"),
    ],
)  # fmt: skip
def test_a_file_is_refused_in_one_sentence(content, fault, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_bytes(content)
    with pytest.raises(SystemExit, match=fault) as refused:
        read_study(file)
    assert "\n" not in str(refused.value)


def test_no_file(tmp_path):
    for path, fault in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.yaml", "no configuration"),
        (tmp_path / "a\0", "cannot be read"),
    ):
        with pytest.raises(SystemExit, match=fault):
            read_study(path)


def test_the_same_in_other_writings(tmp_path):
    """A byte-order mark, Windows line ends, JSON, and mappings that stand in several places."""
    plain = read_study(ROOT / "configs/smoke.yaml").config
    for name, content in (
        ("bom", b"\xef\xbb\xbf" + text("configs/smoke.yaml").encode()),
        ("windows", text("configs/smoke.yaml").replace("\n", "\r\n").encode()),
        ("json", json.dumps(yaml.safe_load(text("configs/smoke.yaml")), indent="\t").encode()),
        (
            "anchors",
            re.sub("controls: {random: 2, (.*)}", r"controls: &c {random: 2, \1}", text("configs/smoke.yaml")).encode(),
        ),
    ):
        (tmp_path / name).write_bytes(content)
        assert read_study(tmp_path / name).config == plain
    (tmp_path / "merged").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\n", encoding="utf-8")
    assert strict_yaml.read_keys(tmp_path / "merged") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize("pair", ["seeds", "seeds=[42", "a={b"])
def test_what_is_no_key_and_value_is_told(pair):
    assert overlay_of(["seeds=[42]", "model={device: cpu}", "x="]) == {
        "seeds": [42],
        "model": {"device": "cpu"},
        "x": None,
    }
    with pytest.raises(SystemExit, match=r"^config error: --config .*not KEY=VALUE"):
        overlay_of(["study=x", pair])


@pytest.mark.parametrize("pair", ["study=../x", "study=no", "study=7", "study=a b", "study="])
def test_an_overlaid_name_is_checked_as_well(pair):
    with pytest.raises(SystemExit, match=r"^config error: study = "):
        results_folder(ROOT / "configs/smoke.yaml", [pair])
