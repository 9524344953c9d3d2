"""Checkpoints that were not trained here: what is planned for them, what is refused, and that exported ones give the same tables."""

import copy
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from harness import ROOT, SMOKE, command, snakemake
from pipeline.combinations import check_combinations
from pipeline.config_check import ConfigError, check
from pipeline.config_file import read_config, written
from pipeline.study import Study
from plans import plan, planned

TRAINING = ("clean_rows", "lora", "train", "pool", "anchors")  # sections that only training reads
FILE = "configs/own.yaml"
STEPS = {
    1: {"source": "one", "format": "folder"},
    2: {"source": "two", "format": "gguf"},
    4: {"source": "four", "format": "adapter"},
}


def smoke() -> dict:
    return read_config(ROOT / SMOKE)


def beside(**changes) -> dict:
    """The smoke study with a trajectory of three files beside its regimes."""
    config = smoke()
    config["sources"] = {name: {"kind": "path", "path": f"/somewhere/{name}"} for name in ("one", "two", "four")}
    config["checkpoints"] = {"mine": {"reference": 1, "steps": copy.deepcopy(STEPS)} | changes}
    return config


def alone(**changes) -> dict:
    """A study of the trajectory only."""
    config = beside(**changes)
    config |= {"study": "own", "regimes": {}, "model": config["model"] | {"format": None}}
    del config["model"]["tiny"]
    config["checkpoints"]["mine"].setdefault("base", {"source": "one", "format": "folder"})
    for key in TRAINING:
        del config[key]
    for role in ("monitor_harmful", "monitor_benign", "train_pool", "clean"):
        del config["prompts"]["roles"][role]
    config["attacks"]["source"] = {"regime": "mine", "step": 4}
    config["attacks"]["universal"] |= {"role": "select_harmful"}
    config["transfer"] |= {"sources": {"mine": [4]}, "targets": {"mine": ["reference", 2]}}
    config["sweep"] |= {
        "checkpoints": {"mine": ["reference", 4]},
        "primary": [config["sweep"]["primary"][0] | {"regime": "mine"}],
    }
    config["aligned"] = {"anchors": {"mine": [4]}, "models": {}}
    return config


def write(folder: Path, config: dict) -> str:
    (folder / FILE).write_text(written(config))
    return FILE


# ----------------------------------------------------------------------------------------------------------- what is planned

MINE = ["mine/step1", "mine/step2", "mine/step4"]


def converted(jobs: list[tuple[str, dict]]) -> list[str]:
    return sorted(wildcards["model"] for rule, wildcards in jobs if rule == "convert_model")


def test_nothing_is_trained_for_a_study_of_own_checkpoints(project):
    each = planned(project, write(project, alone()))
    jobs = Counter(rule for rule, _ in each)
    assert not [rule for rule in jobs if rule.startswith(("train_", "tiny_model", "clean_rows", "reference_anchors"))]
    assert converted(each) == ["mine/base", *MINE] and jobs["fetch_source"] == 3
    assert {w["regime"] for _, w in each if "regime" in w} == {"mine"}
    assert jobs["probe_anchor"] == 3 and jobs["carriers"] == 1
    assert jobs["completions"] == jobs["judge"] == 3
    assert (
        jobs["attack_gcg"] == jobs["attack_autodan"] == jobs["transfer"] == 1
        and jobs["sweep"] == jobs["follow_up"] == 2
    )
    assert jobs["tables"] == jobs["claims"] == 1
    drawn = [w["figure"] for rule, w in each if rule == "figure"]
    assert len(drawn) == len(set(drawn)) and {"five_anchor", "dense"} <= set(drawn) and "training_curves" not in drawn


def test_beside_the_regimes_their_jobs_stay(project):
    before = plan(project)
    each = planned(project, write(project, beside(anchors=[4])))
    added = {"convert_model": 3, "fetch_source": 3, "probe_anchor": 2, "probe_saves__mine__2": 1, "carriers": 1, "completions": 2,
             "judge": 2, "rulers": 1}  # fmt: skip
    assert Counter(rule for rule, _ in each) == before + Counter(added)
    assert converted(each) == MINE  # an adapter without a base of its own belongs to the regimes' model
    mine = Counter(rule for rule, w in each if w.get("regime") == "mine")
    assert mine == {"probe_anchor": 2, "carriers": 1, "completions": 2, "judge": 2}


def test_own_and_trained_checkpoints_attack_each_other(project):
    config = beside()
    config["transfer"]["sources"]["mine"] = [2]
    config["transfer"]["targets"]["mine"] = [4]
    jobs = planned(project, write(project, config))
    assert {(w["regime"], w["step"]) for rule, w in jobs if rule == "transfer"} == {("sft", "4"), ("mine", "2")}


def test_labels_of_each_own_checkpoint(project):
    config = alone()
    config["refusal"]["contrast"] = "behaviour"
    config["sweep"] |= {"checkpoints": {}, "primary": []}
    config["aligned"]["anchors"] = {}
    jobs = plan(project, write(project, config))
    assert {rule for rule in jobs if rule.startswith("fit_labels")} == {
        f"fit_labels__mine__{step}" for step in (1, 2, 4)
    }


def test_every_seed_has_the_own_checkpoints_beside_its_regimes():
    config = beside()
    config["seeds"] = [1, 2]
    check(config)
    check_combinations(Study(config))


def test_seeds_of_a_study_without_training_differ_in_their_prompts():
    config = alone() | {"seeds": [1, 2]}
    check(config)
    check_combinations(Study(config))


# ----------------------------------------------------------------------------------------------------------- what is refused


def one_draw(config: dict) -> dict:
    """The same prompts under every seed."""
    return config | {"prompts": config["prompts"] | {"per_seed": False}}


ADAPTER = {4: {"source": "four", "format": "adapter"}}
FAULTS = [
    # what the configuration says, key in the message, fix
    (beside(reference=3), "checkpoints.mine.reference = 3", "add it to checkpoints.mine.steps (now [1, 2, 4])"),
    (beside(anchors=[2, 5]), "checkpoints.mine.anchors = 5", "add it to checkpoints.mine.steps (now [1, 2, 4])"),
    (beside(anchors=[1, 4]), "checkpoints.mine.anchors = 1", "an anchor already"),
    (beside(steps={1: {"source": "hub", "format": "folder"}}), "checkpoints.mine.steps.1.source = 'hub'", "no such source; there are one, two, four"),
    (beside(base={"source": "hub", "format": "folder"}), "checkpoints.mine.base.source = 'hub'", "no such source"),
    (alone(steps={1: STEPS[1]}), "checkpoints.mine.base = 'one'", "no step has format adapter"),
    (beside() | {"seeds": [1], "regimes": {}, "checkpoints": {}}, "regimes = {}", "nothing to study"),
    (one_draw(alone() | {"seeds": [1, 2]}), "seeds = [1, 2]", "set prompts.per_seed to true"),
    (one_draw(alone() | {"light_seeds": 1}), "light_seeds = [1, 2]", "keep one"),
    (beside() | {"light_seeds": [1, 4]}, "light_seeds = 1", "name others"),
]  # fmt: skip


def renamed(config: dict, name: str) -> dict:
    config["checkpoints"] = {name: config["checkpoints"]["mine"]}
    return config


def changed(config: dict, section: str, **values) -> dict:
    config[section] |= values
    return config


def without_base(config: dict) -> dict:
    del config["checkpoints"]["mine"]["base"]
    return config


FAULTS += [
    (renamed(beside(), "r2d2"), "checkpoints = 'r2d2'", "a regime has this name"),
    (renamed(beside(), "base"), "checkpoints = 'base'", "call it something else"),
    (changed(beside(), "aligned", models={"mine": STEPS[1]}), "checkpoints = 'mine'", "an aligned model has this name"),
    (without_base(alone()), "checkpoints.mine.steps.4.format = 'adapter'", "name it in checkpoints.mine.base, or in model"),
    (changed(alone(), "attacks", source={"regime": "mine", "step": 3}), "attacks.source.step = 3", "add it to checkpoints.mine.steps (now [1, 2, 4])"),
    (changed(alone(), "attacks", source={"regime": "sft", "step": 4}), "attacks.source.regime = 'sft'", "there are mine"),
    (changed(beside(), "sweep", checkpoints={"mine": [3]}), "sweep.checkpoints.mine = 3", "there are reference, 2, 4"),
    (changed(beside(), "transfer", targets={"yours": [3]}), "transfer.targets.yours = [3]", "there are sft, r2d2, mine"),
    (changed(smoke(), "model", format=None, source=None), "model.format = None", "the regimes are trained from this model"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "shown", "fix"), FAULTS, ids=[shown for _, shown, _ in FAULTS])
def test_impossible_combinations(config, shown, fix):
    check(config)  # each value is fine by itself
    with pytest.raises(ConfigError) as refused:
        check_combinations(Study(config))
    assert str(refused.value).startswith(f"config error: {shown}") and fix in str(refused.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (beside(steps={"first": STEPS[1]}), "has to be a whole number"),
        (beside(steps={1: {"source": "one", "format": "onnx"}}), "one of gguf, folder, adapter"),
        (beside(steps={}), "must not be empty"),
        (beside(step={}), "did you mean steps?"),
        ({k: v for k, v in smoke().items() if k != "train"}, "train is missing: add it"),
        ({k: v for k, v in alone().items() if k != "sweep"}, "sweep is missing: add it"),
    ],
)
def test_the_schema_knows_checkpoints(config, message):
    with pytest.raises(SystemExit, match=message.replace("?", r"\?")):
        check(config)


# ------------------------------------------------------------------------------------- exported checkpoints give the same tables

NAMES = {"r2d2": "own_r2d2", "sft": "own_sft"}
SAME = ("five_anchor", "trajectory", "behaviour", "contrasts", "coupling", "coupling_controls", "geometry", "profile", "quadrants",
        "attacks", "transfer", "causal_sweep", "control_normalised", "layer_scan", "aligned_anchors", "follow_up", "dense_correlations",
        "coupling_transition", "leakage")  # fmt: skip


def exported(study: Path) -> dict:
    """The smoke study without its training, on its own saves: anchors as exported folders, the others as adapters on the base."""
    config = smoke()
    sources, trajectories = {"tiny": {"kind": "path", "path": str(study / "results/smoke/models/base")}}, {}
    for regime, settings in config["regimes"].items():
        name, steps = NAMES[regime], {}
        for step in config["train"]["saves"]:
            source = f"{name}_{step}"
            if step in (settings["reference"], 4):
                place = study / "exported" / source
                done = command(
                    study,
                    "workflow/export.py",
                    "--configfile",
                    SMOKE,
                    "--checkpoint",
                    f"{regime}:{step}",
                    "--folder",
                    str(place),
                )
                assert done.returncode == 0 and str(place) in done.stdout, done.stdout
                steps[step] = {"source": source, "format": "folder"}
            else:
                place = study / f"results/smoke/seed1/checkpoints/{regime}/step{step}"
                steps[step] = {"source": source, "format": "adapter"}
            sources[source] = {"kind": "path", "path": str(place)}
        base = {"source": "tiny", "format": "folder"}
        trajectories[name] = {
            "reference": settings["reference"],
            "anchors": config["anchors"],
            "base": base,
            "steps": steps,
        }
    config |= {"study": "own", "sources": sources, "regimes": {}, "checkpoints": trajectories}
    config["model"] |= {"format": None}
    del config["model"]["tiny"]
    for key in TRAINING:
        del config[key]
    text = yaml.safe_dump({k: config[k] for k in ("attacks", "transfer", "sweep", "aligned")}, sort_keys=False)
    for old, new in NAMES.items():
        text = text.replace(f"regime: {old}\n", f"regime: {new}\n").replace(f"{old}:\n", f"{new}:\n")
    return config | yaml.safe_load(text)


def read(folder: Path, study: str, table: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"results/{study}/tables/{table}.csv", dtype=str, keep_default_na=False)


@pytest.mark.slow
@pytest.mark.long
def test_exported_checkpoints_give_the_same_tables(study):
    config = exported(study)
    check(config)
    done = snakemake(study, config=write(study, config))
    assert done.returncode == 0, done.stdout[-6000:]
    for table in SAME:
        want, found = read(study, "smoke", table), read(study, "own", table)
        if table == "attacks":  # their ids are digests of the source's name among other things
            want, found = (attacks.drop(columns="id") for attacks in (want, found))
        pd.testing.assert_frame_equal(found.replace({f"^{new}": old for old, new in NAMES.items()}, regex=True), want)
    names = {f.name for f in (study / "results/own/tables").glob("*.csv")}
    assert names == {f.name for f in (study / "results/smoke/tables").glob("*.csv")} - {
        "training.csv",
        "reference_anchors.csv",
    }
    claims = read(study, "own", "claims")
    nameless = claims[claims["reason"].str.contains("no regime r2d2|no regime sft")]  # the claims' regimes are not here
    assert len(nameless) > 10 and set(nameless["verdict"]) == {"not applicable"}
    assert plan(study, FILE) == {}


@pytest.mark.slow
def test_export_says_what_is_wrong(study):
    def export(checkpoint: str, folder: str) -> str:
        done = command(
            study, "workflow/export.py", "--configfile", SMOKE, "--checkpoint", checkpoint, "--folder", folder
        )
        assert done.returncode == 1 and "Traceback" not in done.stdout
        return done.stdout

    (study / "there").mkdir()
    assert "there exists already" in export("r2d2:4", "there")
    assert "no regime 'dpo'; it has sft, r2d2" in export("dpo:4", "out")
    assert "r2d2 has no step '3'; it has reference, 4, 1, 2" in export("r2d2:3", "out")
    shutil.rmtree(study / "results/smoke/seed1/checkpoints/r2d2/step2")
    assert "is not there: run the study first" in export("r2d2:2", "out")
    assert not (study / "out").exists()
