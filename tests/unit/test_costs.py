"""The cost model against known models, files, and the measured times of the reference run."""

import copy
import csv
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from conftest import make_model
from pipeline.config_file import read_config
from pipeline.costs import check, sizes
from pipeline.costs.facts import CONVERSATION, PREFIX, REQUEST, WORD, Facts, Need
from pipeline.costs.rates import Rates, RatesError, Work, read_rates
from pipeline.costs.resources import RESOURCES, stated
from pipeline.costs.shapes import KNOWN, fetched, given, named, shape_of, tiny
from pipeline.identity import Job
from pipeline.stages import Stages
from pipeline.stages.causal import share, sweep
from pipeline.study import Study

from safety_geometry.causal.plan import SweepPlan
from safety_geometry.models import graphs

ROOT = Path(__file__).parents[2]
CPU = read_rates("cpu", ROOT, files=[ROOT / "docs/results/cost_rates.json"])
H100 = read_rates("cuda", ROOT, "H100", files=[ROOT / "docs/results/cost_rates.json"])
# Parameters as the models' pages tell them.
PUBLISHED = {
    "smollm2-135m": 134_515_008, "smollm2-360m": 361_821_120, "smollm2-1.7b": 1_711_376_384, "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304, "qwen2.5-7b": 7_615_616_512, "gemma-2b": 2_506_172_416, "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984, "llama-3.2-1b": 1_235_814_400, "mistral-7b": 7_241_732_096, "zephyr-7b": 7_241_732_096,
    "llama-2-7b": 6_738_415_616, "llama-2-13b": 13_015_864_320, "llama-3-8b": 8_030_261_248, "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-tulu-3-8b": 8_030_326_784,
    "qwen3guard-gen-0.6b": 596_049_920, "llama-guard-3-8b": 8_030_261_248, "garak-refusal-detector": 149_000_000, "minos": 395_000_000,
    "olmo-2-0425-1b": 1_484_916_736, "olmo-2-1124-7b": 7_298_617_344, "olmo-3-7b": 7_298_011_136,
    "smollm3-3b": 3_075_098_624, "gemma-3-270m": 268_098_176, "gemma-3-1b": 999_885_952,
    "gemma-3-4b": 3_880_263_168,  # of its text
    "phi-3-mini": 3_821_079_552, "phi-3.5-mini": 3_821_079_552, "phi-4-mini": 3_836_021_760, "phi-4": 14_659_507_200,
}  # fmt: skip


def config(name: str = "config.yaml") -> dict:
    return read_config(ROOT / name)


def facts(of: dict | None = None, rates: Rates = CPU) -> Facts:
    return Facts(Study(of or config()), rates)


def need(f: Facts, rule: str, at: dict[str, str]) -> Need:
    return Stages(f.study, f, ROOT).need(rule, at)


def of_7b(saves: int = 100, keep: str = "anchors") -> dict:
    """The wide study on a 7B model with the paper's probe sets: as many saves of each regime, its anchors where they are."""
    c = config("configs/full.yaml")
    c["model"] |= {"name": "Mistral-7B-v0.1", "dtype": "bfloat16", "device": "cuda"}
    c["train"] |= {
        "saves": sorted({*range(5, 5 * saves + 1, 5)} | {10, 20, 30, 40}),
        "segment_length": 50,
        "keep": keep,
    }
    del c["regimes"]["sft"]["saves"]  # as many as of R2D2
    c["activations"] |= {"keep": keep, "dtype": "bfloat16"}
    for role, n in {"fit_harmful": 180, "fit_benign": 180, "select_harmful": 100, "select_benign": 100}.items():
        c["prompts"]["roles"][role]["n"] = n
    return c


# -------------------------------------------------------------------------------------------------------------- shapes


def test_known_shapes_have_the_published_number_of_parameters():
    assert set(PUBLISHED) == set(KNOWN)
    for name, count in PUBLISHED.items():
        assert KNOWN[name].parameters == pytest.approx(count, rel=1e-3), name  # biases and extra norms are left out


def test_a_shape_counts_the_parameters_of_a_real_model_and_of_its_adapter(tmp_path):
    from safety_geometry.models.loading import add_lora

    for tied in (False, True):
        model = make_model("llama", tie_word_embeddings=tied)
        model.save_pretrained(tmp_path)
        shape = fetched(tmp_path)
        assert shape.parameters == sum(p.numel() for p in model.parameters())
        targets = ["q_proj", "v_proj", "down_proj"]
        lora = add_lora(model, 4, 8.0, 0.0, targets, 0)
        assert shape.lora(4, targets) == sum(p.numel() for p in lora.parameters() if p.requires_grad)
    targets = ["qkv_proj", "gate_up_proj", "o_proj"]
    lora = add_lora(make_model("phi3"), 4, 8.0, 0.0, targets, 0)
    assert shape.lora(4, targets) == sum(p.numel() for p in lora.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("name", "like"),
    [("SmolLM2-135M-Instruct", "smollm2-135m"), ("mistralai/Mistral-7B-v0.1", "mistral-7b"),
     ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"), ("allenai/Llama-3.1-Tulu-3-8B-SFT", "llama-3.1-tulu-3-8b"), ("google/gemma-2-2b-it", "gemma-2-2b"),
     ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"), ("allenai/OLMo-2-0425-1B-SFT", "olmo-2-0425-1b"),
     ("allenai/Olmo-3-7B-Think", "olmo-3-7b"), ("microsoft/Phi-4-mini-instruct", "phi-4-mini")],
)  # fmt: skip
def test_shapes_by_name(name, like):
    found = named(name)
    assert found.parameters == KNOWN[like].parameters and like in found.origin


def test_an_unknown_model_is_taken_by_the_size_in_its_name():
    for name, size in (("nobody/Thing-3B-chat", 3e9), ("thing_70b", 70e9), ("thing-500m", 500e6)):
        assert named(name).parameters == pytest.approx(size, rel=0.15)
        assert "guessed" in named(name).origin
    assert named("a-thing", "without-size") is None
    assert shape_of({"name": "a-thing"}).origin.startswith("not known")


def test_what_the_configuration_says_comes_first_then_what_was_fetched(tmp_path):
    values = {"layers": 3, "hidden": 64, "intermediate": 128, "heads": 4, "vocabulary": 99}
    make_model("llama").save_pretrained(tmp_path)
    model = {"name": "Mistral-7B-v0.1"}
    assert shape_of(model | {"shape": values}, folder=tmp_path) == given(values)
    assert (given(values).kv_heads, given(values).head_dim, given(values).tied) == (4, 16, False)
    assert shape_of(model, folder=tmp_path).layers == 4
    assert shape_of(model, folder=tmp_path / "none").layers == 32
    assert shape_of({"name": "x"}, {"repo": "mistralai/Mistral-7B-v0.1"}).layers == 32
    smoke = config("configs/smoke.yaml")["model"]
    assert shape_of(smoke) == tiny(smoke["tiny"])


# --------------------------------------------------------------------------------------------------------------- disk


def test_two_hundred_checkpoints_of_a_7b_model_fit_into_the_stated_budget():
    """docs/cluster.md states it: 100 saves of two regimes, of which only anchors keep adapters and every prompt's activations."""
    c = of_7b()
    c["regimes"] = {name: c["regimes"][name] for name in ("sft", "r2d2")}
    c["seeds"] = [42]
    f = facts(c)
    saves, anchors = [], []
    for regime in c["regimes"]:
        steps = f.study.anchor_steps(regime)
        anchors += [sizes.cache(f.base, f.positions, "bfloat16", *f.probes, True)] * len(steps)
        saves += [sizes.cache(f.base, f.positions, "bfloat16", *f.probes, False)] * (
            len(f.study.steps(regime)) - len(steps)
        )
    assert len(saves) + len(anchors) == 200
    text = (ROOT / "docs/cluster.md").read_text()
    assert f"{(sum(saves) + sum(anchors)) / 1e9:.1f} GB" in text and sum(saves) + sum(anchors) < 25e9
    by_rules = sum(
        need(f, f"probe_saves__{s.regime}__{s.start}_{s.stop}", {}).disk
        for r in c["regimes"]
        for s in f.study.segments(r)
    )
    assert by_rules * 1e6 == pytest.approx(sum(saves))
    everything = 200 * sizes.cache(f.base, f.positions, "bfloat16", *f.probes, True)
    assert everything > 5 * (sum(saves) + sum(anchors))


def test_adapters_that_pass_are_not_counted_among_what_stays():
    kept, passing = (facts(of_7b(keep=keep)) for keep in ("all", "anchors"))
    rule = "train__sft__50_100"  # no anchor in it
    adapter = sizes.adapter(kept.base, 64, config()["lora"]["targets"]) / 1e6
    assert adapter == pytest.approx(218, rel=0.01)  # 54.5 million parameters in float32
    assert need(kept, rule, {}).disk - need(passing, rule, {}).disk == pytest.approx(10 * adapter)
    assert need(passing, rule, {}).passing == pytest.approx(10 * adapter) and need(kept, rule, {}).passing == 0


# ------------------------------------------------------------------------------------------------------------- memory


def test_memory_grows_with_model_batch_and_attempt():
    answered = {"clean_rows": {"roles": ["clean"], "answers": "model", "max_new_tokens": 40, "batch_size": 40}}
    small, large = facts(config() | answered), facts(of_7b() | answered)
    at = {"regime": "r2d2", "step": "30", "seed": "42"}
    for rule in ("train__r2d2__0_15", "probe_anchor", "completions", "sweep", "clean_rows"):
        other = rule.replace("_0_15", "_0_50")
        assert need(large, other, at).gpu > 14_483 > need(small, rule, at).memory  # bfloat16 weights alone
    c = of_7b()
    c["completions"]["batch_size"] *= 2
    assert need(facts(c), "completions", at).gpu > need(large, "completions", at).gpu
    first, third = (stated(need(large, "sweep", at), attempt) for attempt in (1, 3))
    assert set(first) == set(RESOURCES)
    assert (third["mem_mb"], third["runtime"]) == (3 * first["mem_mb"], 3 * first["runtime"])
    assert third["disk_mb"] == first["disk_mb"] and third["gpu_mem_mb"] == first["gpu_mem_mb"]
    assert stated(need(small, "sweep", at), 1)["gpu_mem_mb"] == 0


def test_a_brought_7b_checkpoint_is_attacked_with_the_memory_of_its_own_model():
    """Whatever the study's own model is."""
    c = config()
    c["sources"]["big"] = {"kind": "path", "path": "big"}
    steps = {step: {"source": "big", "format": "folder"} for step in (1, 2)}
    c["checkpoints"] = {"mistral_7b": {"reference": 1, "steps": steps}}
    c["attacks"] |= {"source": {"regime": "mistral_7b", "step": 1}, "require_refusal": True}
    c["transfer"]["sources"] = {"mistral_7b": ["reference"]}
    weights = KNOWN["mistral-7b"].parameters * 4 / 1e6
    f = facts(c)
    assert f.base.parameters * 4 / 1e6 < weights / 10
    for rule in ("attacked_behaviours", "attack_gcg", "attack_autodan", "transfer"):
        said = need(f, rule, {"regime": "mistral_7b", "step": "1", "seed": "42"})
        assert weights < said.memory < 3 * weights, rule
    own = need(f, "attack_autodan", {"regime": "sft_refusal", "step": "30", "seed": "42"})
    assert own.memory < weights / 4


def test_a_model_whose_name_begins_like_another_s_is_not_taken_for_it():
    c = config()
    folder = {"source": "big", "format": "folder"}
    c["sources"] |= {"big": {"kind": "path", "path": "big"}}
    c["aligned"]["models"] = {"mistral": folder, "mistral_7b": folder}
    shape = {"layers": 2, "hidden": 64, "intermediate": 128, "heads": 4, "vocabulary": 99}
    c["checkpoints"] = {"small": {"reference": 1, "shape": shape, "steps": {1: folder}},
                        "small_7b": {"reference": 1, "steps": {1: folder}, "base": folder}}  # fmt: skip
    f = facts(c)
    root = f.study.layout.root
    for name in ("mistral_7b", "small_7b/step1", "small_7b/base"):
        assert f.shape_in(f"{root}/models/{name}").parameters == f.shape(name.split("/")[0]).parameters > 6e9, name
    assert f.shape_in(f"{root}/models/small/step1") == f.shape("small")
    assert f.shape_in(f.study.layout.base) == f.base


def test_jobs_state_more_memory_than_a_run_of_the_default_study_took():
    """docs/results/cost_check.csv: the largest resident memory of each rule's jobs there, from Snakemake's benchmark files."""
    f, rows = facts(), list(csv.DictReader((ROOT / "docs/results/cost_check.csv").open()))
    assert len(rows) > 15 and sum(int(row["jobs"]) for row in rows) > 30
    for row in rows:
        at = {
            "regime": "sft_refusal" if "attack" in row["rule"] else "r2d2",
            "step": "30",
            "seed": "42",
            "model": "base",
        }
        said, taken = need(f, row["rule"], at), float(row["memory_mb"])
        assert taken < stated(said, 1)["mem_mb"], row["rule"]
        if said.model:
            assert 0.75 < said.memory / taken < 1.6, row["rule"]


def test_decoding_with_graphs_holds_two_caches_of_whole_slots():
    """50 tokens fill 64 slots of two caches, where 1.75 caches of 50 are held without graphs."""
    f = facts()
    assert (sizes.KEPT, sizes.SLOTS) == (graphs.CACHES, graphs.SLOTS)
    plain, static = (sizes.decoding(f.base, 4, 8, 40, 10, each) for each in (False, True))
    assert static - plain == sizes.key_values(f.base, 4, 8, 2 * 64) - sizes.key_values(f.base, 4, 8, 1.75 * 50)
    said = [f.decoding(f.base, 8, 10)]
    f.config["model"]["graphs"] = True
    assert [*said, f.decoding(f.base, 8, 10)] == [
        sizes.decoding(f.base, f.size, 8, PREFIX + REQUEST, 10, each) for each in (False, True)
    ]


def test_a_run_beside_what_was_said_of_it(tmp_path):
    f = facts()
    completions, jobs = Stages(f.study, f, ROOT)["completions"], []
    for regime, step, seconds, memory in (
        ("r2d2", 10, 40.0, 1000.0),
        ("r2d2", 30, 60.0, 900.0),
        ("sft", 30, None, None),
    ):
        at = {"regime": regime, "step": str(step), "seed": "42"}
        file = tmp_path / completions.benchmark.format(**at)
        log = file.with_suffix(".log")
        jobs.append((completions.rule, completions.need(at), file, log))
        file.parent.mkdir(parents=True, exist_ok=True)
        if seconds is not None:  # the last one has not run
            file.write_text(f"s\tmax_rss\n{seconds}\t{memory}\n")
            log.write_text(f"answers: 10/10\nGPU memory at its peak: {15 * step} MB\n")
    (row,) = check.compare(jobs)
    said = need(f, "completions", {"regime": "r2d2", "step": "10", "seed": "42"})
    assert (row["rule"], row["jobs"], row["seconds"]) == ("completions", 2, 100.0)
    assert row["memory_mb"] == pytest.approx(1048.576) and row["said_seconds"] == pytest.approx(2 * said.seconds)
    assert row["gpu_mb"] == 450 and row["said_gpu_mb"] == 0


def test_gpu_memory_is_read_from_a_job_s_log(tmp_path):
    """`test_devices` has jobs tell it."""
    (tmp_path / "job.log").write_text("something\nGPU memory at its peak: 12346 MB\n")
    assert check.gpu_peak(tmp_path / "job.log") == 12346 and check.gpu_peak(tmp_path / "none.log") == 0


# --------------------------------------------------------------------------------------------------------------- time


def test_work_adds_up_by_hand():
    shape = given({"layers": 2, "hidden": 4, "intermediate": 8, "heads": 1, "vocabulary": 10})
    block = 4 * 4 * 4 + 3 * 4 * 8
    assert shape.block == block
    work = Work(shape, 4)
    work.forward(10, passes=2, logits=3)
    work.train(5)
    work.answers(rows=3, prompt=7, limit=4, batch=2, answered=0.5)
    assert work.forward_flop == 2 * (10 * 2 * block + 3 * 40) + 2 * (21 * 2 * block + 3 * 40)
    assert work.train_flop == 4 * 5 * 2 * block
    assert work.decode_flop == 2 * (6 * 2 * block + 6 * 40)
    assert work.passes == 2 + 2 + 2 + 2 * 4
    rates = Rates("test", "cpu", True, 1e3, 2e3, 4e3, 1e4, 0.01, 5.0, 1e2)
    by_hand = 5 + work.forward_flop / 1e3 + work.train_flop / 2e3 + work.decode_flop / 4e3
    by_hand += shape.parameters * 4 / 1e2 + 14 * (2 * 0.01 + 2 * block * 4 / 1e4)
    assert work.seconds(rates) == pytest.approx(by_hand)


@pytest.mark.parametrize("regime", ["sft", "r2d2"])
def test_several_processes_take_less_time_and_more_memory(regime):
    """Rows and candidates are shared; every process reads the model, and each has a GPU of its own."""
    one, four, spread = (config("configs/paper.yaml") for _ in range(3))
    four["train"]["processes"] = 4
    spread["train"] |= {"processes": 4, "sharding": "full"}
    alone, shared, thin = (need(facts(c, H100), f"train__{regime}__0_25", {}) for c in (one, four, spread))
    assert 0.25 < shared.seconds / alone.seconds < 0.6  # reading, gradients of attacks and monitoring are repeated
    assert (shared.processes, alone.processes) == (4, 1)
    assert shared.memory == pytest.approx(4 * alone.memory) and shared.gpu == alone.gpu and shared.disk == alone.disk
    of_blocks = 32 * 2 * KNOWN["mistral-7b"].block / 1e6
    assert 0.6 * of_blocks < alone.gpu - thin.gpu < 0.75 * of_blocks  # a quarter stays, and the blocks at work


def timings() -> list[tuple[str, float, float]]:
    """(rule, seconds of all its jobs, what the cost model says) of the reference run."""
    f, out = facts(), []
    places = {"fetch_source": [{"name": name} for name in f.config["sources"]], "convert_model": [{"model": "base"}]}
    anchors = [(r, s) for r in f.study.regimes for s in f.study.anchor_steps(r)]
    points = {"completions": anchors, "judge": anchors, "sweep": [p[1:] for p in f.study.swept()],
              "attack_gcg": f.study.attack_sources, "attack_universal": f.study.attack_sources, "attack_autodan": f.study.at_anchors(f.config["transfer"]["sources"]),
              "transfer": f.study.attack_sources}  # fmt: skip
    points["probe_anchor"] = anchors
    points["attacked_behaviours"] = f.study.attack_sources
    points["carriers"] = [(r, 0) for r in f.study.regimes]
    points["judge_transfer"] = points["transfer"]
    for name in ("follow_up", "judge_sweep", "judge_follow_up"):
        points[name] = points["sweep"]
    for rule, found in points.items():
        places[rule] = [{"regime": r, "step": str(s), "seed": "42"} for r, s in found]
    for row in csv.DictReader((ROOT / "docs/timings.csv").open()):
        if row["rule"] != "all":
            each = places.get(row["rule"], [{}])
            mean = sum(need(f, row["rule"], at).seconds for at in each) / len(each)
            out.append((row["rule"], float(row["total"]), mean * int(row["jobs"])))
    return out


def test_the_reference_run_took_about_as_long_as_the_cost_model_says():
    found, title = timings(), Stages(facts().study, facts(), ROOT).title
    assert 0.5 < sum(said for *_, said in found) / sum(took for _, took, _ in found) < 2
    stages: dict[str, list[float]] = {}
    for rule, took, said in found:
        total = stages.setdefault(title(rule), [0.0, 0.0])
        total[0], total[1] = total[0] + took, total[1] + said
    far = {name: said / took for name, (took, said) in stages.items() if took > 60 and not 0.5 < said / took < 2}
    chosen = pd.read_csv(ROOT / "docs/results/tables/selection.csv")
    if not (chosen["in_charge"] & (chosen["status"] == "own")).any():  # without an R most cells of a sweep are left out
        assert far.pop("causal sweeps") > 2
    assert far == {}


def test_more_of_everything_takes_longer():
    at = {"regime": "r2d2", "step": "30", "seed": "42"}
    for key, value, rule in (
        (("sweep", "permutations"), 600, "sweep"), (("refusal", "layers"), "all", "probe_anchor"),
        (("pool", "gcg", "width"), 64, "train__r2d2__0_15"), (("completions", "max_new_tokens", "utility"), 500, "completions"),
        (("attacks", "gcg", "steps"), 80, "attack_gcg"), (("train", "rows"), 16, "train__sft__0_15"),
    ):  # fmt: skip
        c = copy.deepcopy(config())
        place = c
        for part in key[:-1]:
            place = place[part]
        place[key[-1]] = value
        where = at | ({"regime": "sft_refusal"} if rule == "attack_gcg" else {})
        assert need(facts(c), rule, where).seconds > 1.2 * need(facts(), rule, where).seconds, key


def test_a_draft_in_bfloat16_takes_a_copy_of_the_model():
    at = {"regime": "sft_refusal", "step": "30", "seed": "42"}
    c = config()
    c["attacks"]["gcg"]["probe"] = {"draft": "bfloat16"}
    more = need(facts(c), "attack_gcg", at).memory - need(facts(), "attack_gcg", at).memory
    assert more == pytest.approx(2 * KNOWN["smollm2-135m"].parameters / 1e6, rel=0.35)  # MB, with the model's margin


def test_cells_are_counted_as_a_reader_would():
    """The default's sweep: five ablations, each with controls of its energy, and ten additions of rank 1, whose signs share
    theirs; six primary targets."""
    of = Study(config())
    cells = [cell for unit in SweepPlan.of(sweep(of, Job(42, "r2d2", 30))).units() for cell in unit.cells]
    read = [cell for cell in cells if cell.kind != "baseline"]
    own, shared, primary = 5 * (1 + 3) + 10 * (1 + 2), (5 + 3) * 9, 4 * 3 * (133 - 3)
    own += 10 * 6  # selected controls of R-only and of R without H, removed, subtracted and added
    scan = 5 * 2
    assert (len(read), sum(cell.kl for cell in read)) == (own + shared + primary + scan * (1 + 4), own + shared + scan)
    assert (
        sum(cell.answers for cell in cells) == 1 + 3 + 2 * 3
    )  # clean, three targets, random, covariance and shuffled of H and of R
    assert sum(share(cell, 30) for cell in read) < len(read)


def test_rates_that_were_measured_here_come_first_and_others_have_names(tmp_path):
    committed = json.loads((ROOT / "docs/results/cost_rates.json").read_text())["devices"]
    assert [d["measured"] for d in committed if d["kind"] == "cuda"] == [False, False]
    assert all("estimate" in d["note"] for d in committed if not d["measured"])
    (tmp_path / "docs/results").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "docs/results/cost_rates.json").write_text(json.dumps({"devices": committed}))
    assert read_rates("cuda:1", tmp_path).name == "H100" and read_rates("cuda", tmp_path, "A100").name == "A100"
    mine = committed[1] | {"name": "mine", "measured": True}
    (tmp_path / "results/cost_rates.json").write_text(json.dumps({"devices": [mine]}))
    assert read_rates("cuda", tmp_path).measured and read_rates("cpu", tmp_path).name == committed[0]["name"]
    with pytest.raises(RatesError, match=r"no rates for a device of kind xpu; known are .*make calibrate"):
        read_rates("xpu", tmp_path)
    assert math.isfinite(read_rates("cuda", tmp_path, "H100").forward)


def test_matches_are_as_many_as_the_prompts_that_they_belong_to():
    f = facts()
    assert f.config["prompts"]["roles"]["counterpart"]["n"] == "all"
    assert f.prompts("counterpart") == f.prompts("lookalike") == 30


def test_the_mature_refuser_takes_less_than_two_cpu_hours():
    """An hour on two cores, for every job that runs the model; by the rates of one thread."""
    of, at = config("configs/aligned.yaml"), {"seed": "42", "regime": "aligned", "step": "0"}
    f = facts(of, read_rates("cpu", ROOT))
    rules = ("probe_anchor", "completions", "sweep", "reply_inversion", "attack_gcg", "transfer")
    jobs = [need(f, rule, at) for rule in rules] + [need(f, "convert_model", {"model": "aligned/step0"})]
    assert sum(job.seconds for job in jobs) < 2 * 3600 * 0.85  # two threads do less than twice as much
    assert max(job.memory for job in jobs) < 6000


def test_a_folder_that_was_fetched_is_on_the_disk_once():
    """Its model is made of hard links, whose bytes are those of the source."""
    f = facts(config("configs/tulu.yaml"), H100)
    fetched = need(f, "fetch_source", {"name": "tulu_step1"}).disk
    assert fetched == pytest.approx(2 * KNOWN["llama-3.1-tulu-3-8b"].parameters / 1e6)
    assert 0 < need(f, "convert_model", {"model": "tulu/step1"}).disk < 1


def test_answers_that_clean_rows_bring_are_as_long_as_their_file_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    c = config()
    c["prompts"]["sets"]["chat"]["files"] = c["prompts"]["sets"]["benign"]["files"] = ["own.jsonl"]
    assert facts(c).clean_answer == CONVERSATION  # no such file: fetching the prompts says so
    Path("own.jsonl").write_text('{"prompt": "a", "answer": "one two three"}\n{"prompt": "b", "answer": "one"}\n')
    assert facts(c).clean_answer == pytest.approx(2 * WORD)
    Path("own.jsonl").write_text('{"prompt": "a", "answer": "one two"}\n["no row"]\n')
    assert facts(c).clean_answer == pytest.approx(2 * WORD)
    short, long = facts(c), facts(c)
    long.clean_answer = CONVERSATION
    seconds = [need(f, "train__sft__0_15", {"seed": "42"}).seconds for f in (short, long)]
    assert seconds[1] > 1.5 * seconds[0]
