"""The ready configurations of public trajectories: planned without a network, fetched from stand-ins under the true names of
repositories, revisions and files, run whole on them, and described with the numbers of their plans."""

import csv
import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from harness import ROOT, SMOKE, command, copy_project
from pipeline.config_file import read_study
from pipeline.strict_yaml import read_keys
from plans import planned

sys.path.insert(0, str(ROOT / "tests" / "unit"))
from hub_server import serving
from stand_ins import commit_of, hub_of

READY = ("tulu", "zephyr", "olmo", "smollm3")
OVERLAY, KEPT = "small.yaml", "kept.yaml"
WORDING = 'LLAMA2_CLS_PROMPT = {"prompt": "Instructions: {behavior} Generation: {generation} Answer:"}\n'
TRAINED = ("monitor_harmful", "monitor_benign", "train_pool", "clean", "clean_matched")


def config_of(name: str) -> Path:
    return ROOT / f"configs/{name}.yaml"


def hub_sources(name: str) -> dict[str, dict]:
    """Source -> its settings, of all that a configuration takes from the hub."""
    study = read_study(config_of(name))
    return {key: source for key, source in study.config["sources"].items() if source["kind"] == "hub"}


def overlay(name: str, hub_url: str) -> dict:
    """What makes a ready configuration small: the smoke study's numbers, prompts and judges by rule, on the CPU. Models,
    trajectories, who is attacked, swept and compared stay."""
    study, smoke = read_keys(config_of(name)), read_keys(ROOT / SMOKE)
    prompts = smoke["prompts"] | {"roles": smoke["prompts"]["roles"] | dict.fromkeys(TRAINED)}
    whole = ("activations", "refusal", "coupling", "statistics", "completions", "follow_up", "quadrants")
    judges = {"labelled": None, "embeddings": None}
    primary = [cell | {"mode": "r_only"} for cell in study["sweep"]["primary"] if cell["family"] == "ablate"]
    sweep = {k: v for k, v in smoke["sweep"].items() if k != "checkpoints"} | {"steer": [-1.0, 1.0], "primary": primary}
    sources = {}
    if "harmbench" in study["judges"]["models"]:
        text = yaml.safe_load(WORDING.partition("=")[2])["prompt"]
        judges["models"] = {"harmbench": {"template": {"sha256": hashlib.sha256(text.encode()).hexdigest()}}}
        digest = hashlib.sha256(WORDING.encode()).hexdigest()
        sources["harmbench_wording"] = {"url": f"{hub_url}/eval_utils.py", "sha256": digest}
    return {
        **({"sources": sources} if sources else {}),
        "model": {"dtype": "float32", "device": "cpu"},
        "prompts": prompts,
        **{key: smoke[key] for key in whole},
        "attacks": {key: value for key, value in smoke["attacks"].items() if key != "source"},
        "transfer": {key: smoke["transfer"][key] for key in ("behaviours", "max_new_tokens", "batch_size")},
        "judges": judges,
        "sweep": sweep,
    }


@pytest.fixture
def served(tmp_path, request):
    """(name, copy of the project with the overlay, hub with the stand-ins) of a ready configuration."""
    name, folder = request.param, copy_project(tmp_path / "project")
    with serving(hub_of(hub_sources(name), tmp_path)) as hub:
        hub.files["eval_utils.py"] = WORDING.encode()
        (folder / OVERLAY).write_text(yaml.safe_dump(overlay(name, hub.url), sort_keys=False))
        yield name, folder, hub


def snakemake(served, *arguments: str, overlays: tuple[str, ...] = (OVERLAY,)):
    name, folder, hub = served
    return command(
        folder, "-m", "snakemake", "--configfile", f"configs/{name}.yaml", *overlays, "--cores", "2", *arguments,
        HF_ENDPOINT=hub.url, HF_HOME=str(folder / "home"), HF_TOKEN="", HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1",
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- what is planned


@pytest.mark.parametrize("name", READY)
def test_nothing_is_trained_and_each_checkpoint_is_there_once(project, name):
    study = read_study(config_of(name))
    jobs = Counter(rule for rule, _ in planned(project, f"configs/{name}.yaml"))
    assert not [rule for rule in jobs if rule.startswith(("train__", "clean_rows", "tiny_model", "reference_anchors"))]
    steps = sum(len(study.steps(trajectory)) for trajectory in study.brought)
    assert jobs["convert_model"] + jobs["convert_passing"] == steps
    anchors = sum(len(study.anchor_steps(trajectory)) for trajectory in study.brought)
    assert jobs["completions"] == jobs["probe_anchor"] == anchors
    assert jobs["verdicts"] >= anchors * len(study.model_judges)  # more where one of them decides
    assert {"sweep", "transfer", "attack_gcg", "attack_universal", "follow_up", "judge_agreement", "claims"} <= set(
        jobs
    )


def test_the_repositories_are_those_that_were_published():
    """Copied by hand from the pages of the models."""
    named = {name: {(s["repo"], s["revision"]) for s in hub_sources(name).values()} for name in READY}
    models = {
        name: sorted(repo for repo, _ in of if not repo.startswith(("garak", "Qwen", "cais/Harm")))
        for name, of in named.items()
    }
    assert models["tulu"] == [
        f"allenai/Llama-3.1-Tulu-3-8B{end}" for end in ("", "-DPO", "-SFT", "-SFT-no-safety-data")
    ]
    assert models["zephyr"] == [
        "HuggingFaceH4/zephyr-7b-beta",
        "alignment-handbook/zephyr-7b-sft-full",
        "cais/zephyr_7b_r2d2",
        "mistralai/Mistral-7B-v0.1",
    ]
    assert models["olmo"] == [f"allenai/OLMo-2-0425-1B{end}" for end in ("", "-DPO", "-Instruct", "-RLVR1", "-SFT")]
    assert set(models["smollm3"]) == {"HuggingFaceTB/SmolLM3-3B-checkpoints"}
    revisions = {revision for repo, revision in named["smollm3"] if repo.startswith("HuggingFaceTB")}
    assert revisions == {"stage1-step-40000", "stage1-step-1200000", "stage1-step-2400000", "stage1-step-3440000",
                         "stage2-step-4200000", "stage3-step-4720000", "it-mid-training", "it-SFT", "it-soup-APO"}  # fmt: skip


# ------------------------------------------------------------------------------------------------- what the page says of them


@pytest.mark.parametrize("name", READY)
def test_the_page_has_the_numbers_of_the_plan(project, name):
    said = command(project, "workflow/plan_cost.py", "--configfile", f"configs/{name}.yaml").stdout.splitlines()
    lines = [line for line in said if line.startswith(("study ", "rates: ", "stage ", "total ", "Peak of disk"))]
    page = (ROOT / "docs/trajectories.md").read_text()
    section = page.partition(f"\n## {name}.yaml")[2].partition("\n## ")[0]
    assert len(lines) >= 4 and f"make run CONFIG=configs/{name}.yaml" in section
    assert [line for line in lines if line not in section.splitlines()] == []
    of_table = re.search(rf"\[{name}\.yaml\]\([^)]*\) \|[^|\n]*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", page)
    total = next(line.split() for line in lines if line.startswith("total "))
    assert of_table.groups() == (total[2], total[5], total[6])


# ------------------------------------------------------------------------------------------------------------ fetched, and run


def of_steps(study) -> set[str]:
    """The sources of the trajectories' steps."""
    return {spec["source"] for trajectory in study.brought.values() for spec in trajectory["steps"].values()}


def check_fetched(served, of: set[str]) -> None:
    """Of each repository and revision of these sources the files of a model have come, once, and nothing else."""
    name, _, hub = served
    wanted = {(s["repo"], commit_of(s["repo"], s["revision"])) for n, s in hub_sources(name).items() if n in of}
    got = [
        re.match(r"(.+)/resolve/(\w+)/(.+)", path).groups()
        for m, path, _ in hub.log
        if m == "GET" and "/resolve/" in path
    ]
    files = [file for file in got if file[:2] in wanted]
    weights = [file for file in files if file[2].endswith(".safetensors")]
    assert len(weights) == len(set(weights)) and {file[:2] for file in weights} == wanted
    assert not [file for file in files if file[2].endswith((".bin", "README.md"))]


WHOLE = "tulu"  # the one that runs whole in CI: what it fetches is looked at there


@pytest.mark.slow
@pytest.mark.parametrize("served", [name for name in READY if name != WHOLE], indirect=True)
def test_models_are_fetched_by_their_true_names(served):
    """The plan asks nobody; then the files of each model come. What passes is kept here, since it would wait for what is
    made of the steps before."""
    name, folder, hub = served
    study = read_study(config_of(name))
    dry = snakemake(served, "-n", "--quiet")
    assert dry.returncode == 0 and not hub.log, dry.stdout[-3000:]
    sources = of_steps(study)
    kept = {"checkpoints": {trajectory: {"keep": "all"} for trajectory in study.brought}}
    (folder / KEPT).write_text(yaml.safe_dump(kept))
    folders = [study.layout.source(source) for source in sorted(sources)]
    done = snakemake(served, *folders, overlays=(OVERLAY, KEPT))
    assert done.returncode == 0, done.stdout[-6000:]
    check_fetched(served, sources)
    assert all(list((folder / source).rglob("*.safetensors")) for source in folders)


@pytest.mark.long
@pytest.mark.parametrize("served", READY, indirect=True)
def test_models_fit_and_stay_where_they_are_asked_for(served):
    """All steps of a trajectory are alike; keep: none spares what is a target."""
    name, folder, _ = served
    study = read_study(config_of(name))
    made = [study.layout.brought(trajectory, s) for trajectory in study.brought for s in study.steps(trajectory)]
    done = snakemake(served, study.layout.layers, *made)
    assert done.returncode == 0, done.stdout[-6000:]
    check_fetched(served, of_steps(study))
    assert len(json.loads((folder / study.layout.layers).read_text())) == len(study.brought)
    assert all(list((folder / model).glob("*.safetensors")) for model in made)


@pytest.mark.slow
@pytest.mark.parametrize(
    "served", [pytest.param(n, marks=() if n == WHOLE else pytest.mark.long) for n in READY], indirect=True
)
def test_the_whole_study_runs_on_stand_ins(served):
    name, folder, _ = served
    study = read_study(config_of(name))
    done = snakemake(served)
    assert done.returncode == 0, done.stdout[-6000:]
    check_fetched(served, of_steps(study))
    assert len(json.loads((folder / study.layout.layers).read_text())) == len(study.brought)  # alike in each
    tables = folder / f"results/{name}/tables"
    anchors = {(t, str(s)) for t in study.brought for s in study.anchor_steps(t)}
    assert {(row["regime"], row["step"]) for row in rows(tables / "five_anchor.csv")} == anchors
    saves = {(t, str(s)) for t in study.brought for s in study.steps(t)}
    assert {(row["regime"], row["step"]) for row in rows(tables / "trajectory.csv")} == saves
    told = {
        judge for judge, spec in study.model_judges.items() if spec["kind"] != "guard"
    }  # a random guard says nothing
    assert told <= {row["judge"] for row in rows(tables / "judges.csv")}
    between = {(r["regime"], r["other_regime"]) for r in rows(tables / "contrasts.csv") if r["contrast"] == "regime"}
    assert between == {"tulu": {("tulu", "no_safety")}, "zephyr": {("zephyr", "harmbench_r2d2")}}.get(name, set())
    again = snakemake(served, "-n")
    assert "Nothing to be done" in again.stdout, again.stdout[-3000:]


def rows(table: Path) -> list[dict]:
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
