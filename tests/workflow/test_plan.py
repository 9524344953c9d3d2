"""What a change makes Snakemake run again: what depends on it, and nothing else."""

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from harness import ATTACK_FIGURES, CAUSAL_FIGURES, FIGURES, ROOT, SMOKE, copy_project, snakemake
from pipeline.config_file import read_config
from plans import change, detailed, edit, jobs_of, planned

REGIMES = ("sft", "r2d2")
PARTS = ("0_2", "2_4")  # their segments
# What stands on the tables of checkpoints: `tables`, and those made from its trajectory and coupling.
SUMMARY = dict.fromkeys(
    ["tables", "dense_tables", "transfer_tables", "claims", "reference_anchors", "quadrants",
     *(f"figure_{name}" for name in (*FIGURES, *ATTACK_FIGURES))], 1,
)  # fmt: skip
TABLES = {rule: 1 for rule in SUMMARY if rule not in ("quadrants", "figure_quadrants")}  # those read anchors' answers
# What stands on the sweeps of two checkpoints; the follow-up of all is chosen together.
CAUSAL = dict.fromkeys(
    ["follow_up_choice", "follow_up_table", "causal_tables", *(f"figure_{name}" for name in CAUSAL_FIGURES)], 1
) | {"follow_up": 2, "judge_follow_up": 2}
SWEEPS = CAUSAL | {"sweep": 2, "judge_sweep": 2}
INVERSION = {"reply_inversion": 2, "reply_inversion_table": 1}  # of the same checkpoints
CARRIERS = {f"carriers_{regime}": 1 for regime in REGIMES}
ANCHORS = {f"probe_anchor_{regime}": 2 for regime in REGIMES}
MODEL = (
    "sweep",
    "follow_up",
    "train_",
    "probe_",
    "completions",
    "attack_",
    "attacked_behaviours",
    "transfer",
    "clean_rows",
    "tiny_model",
    "convert_model",
)


def model_jobs(jobs) -> list[str]:
    """Rules that run a model (`train_judges` does not)."""
    return sorted(
        {
            rule
            for rule in jobs
            if rule.startswith(MODEL)
            and rule not in ("train_judges", "follow_up_choice", "follow_up_table", "transfer_tables")
        }
    )


def full_plan(config: dict, base: str) -> dict[str, int]:
    """Jobs of a study from its configuration, by the counting a reader would do."""
    seeds, light = len(config["seeds"]), config["light_seeds"]  # how many
    every = seeds + light  # seeds that are trained and asked something
    out = {base: 1, "model_layers": 1, "prompt_sets": every, "clean_rows": every, "leakage_table": 1} | SUMMARY
    for regime, settings in config["regimes"].items():
        anchors = {settings["reference"], *settings.get("anchors", config["anchors"])}
        saves = sorted(settings.get("saves", config["train"]["saves"]))
        ends = [*range(0, saves[-1], config["train"]["segment_length"]), saves[-1]]
        out |= {f"train__{regime}__{a}_{b}": every for a, b in pairwise(ends)}
        out[f"probe_anchor_{regime}"] = len(anchors) * seeds
        between = [f"{a}_{b}" for a, b in pairwise(ends) if any(a < step <= b for step in set(saves) - anchors)]
        out |= {f"probe_saves__{regime}__{part}": seeds for part in between}
        out[f"carriers_{regime}"] = seeds
        if config["completions"]["every_save"] and between:
            out |= {f"{rule}_saves__{regime}__{part}": seeds for part in between for rule in ("completions", "judge")}
        for rule, times in (("completions", seeds), ("completions_light", light), ("judge", every)):
            if times:
                out[rule] = out.get(rule, 0) + len(anchors) * times
    out |= dict.fromkeys(("attacked_behaviours", "framings", "attack_universal"), seeds)
    out |= {"training_table": every} | attack_plan(config)
    if config["sources"]:
        out["fetch_source"] = len(config["sources"])
    swept = sum(map(len, config["sweep"]["checkpoints"].values())) * seeds
    each = {"sweep", "judge_sweep", "follow_up", "judge_follow_up"}
    out |= SWEEPS | dict.fromkeys(each, swept) | {"follow_up_choice": seeds, "rulers": seeds}
    if not config["follow_up"]["targets"]:
        out = {rule: count for rule, count in out.items() if "follow_up" not in rule}
    if config["sweep"].get("reply_inversion"):
        out |= {"reply_inversion": swept, "reply_inversion_table": 1}
    if config["judges"].get("labelled"):
        out |= {"judge_prompts": 1, "train_judges": 1, "judge_agreement": 1}
    return out


def attack_plan(config: dict) -> dict[str, int]:
    """GCG on the fixed source; the transferred methods on each source; a job of answers per source."""
    seeds, fixed, transfer = len(config["seeds"]), config["attacks"]["source"], config["transfer"]
    places = {
        (regime, config["regimes"][regime]["reference"] if anchor == "reference" else anchor)
        for regime, anchors in transfer["sources"].items()
        for anchor in anchors
    }
    everywhere = places | {(fixed["regime"], fixed["step"])}
    gcg, autodan = (places if method in transfer["methods"] else set() for method in ("gcg", "autodan"))
    counts = {"attack_gcg": len(gcg | {(fixed["regime"], fixed["step"])}), "attack_autodan": len(autodan)}
    counts |= dict.fromkeys(("transfer", "judge_transfer"), len(everywhere))
    return {rule: seeds * count for rule, count in counts.items() if count}


@pytest.mark.parametrize(("name", "base"), [("config.yaml", "convert_model_base"), (SMOKE, "tiny_model")])
def test_full_plan(project, name, base):
    config = read_config(ROOT / name)
    assert detailed(project, name) == full_plan(config | {"light_seeds": len(config["light_seeds"])}, base)


def test_light_seeds_are_trained_and_asked_what_needs_no_attack(project):
    """By their number they follow the last seed. Everything else is as without them."""
    change(project, "light_seeds", 2)
    change(project, "seeds", [4, 1])
    jobs = planned(project)
    assert detailed(project) == full_plan(read_config(project / SMOKE), "tiny_model")
    asked = {wildcards["seed"] for rule, wildcards in jobs if rule == "completions_light"}
    assert asked == {"5", "6"}
    heavy = [w for rule, w in jobs if rule.startswith(("probe_", "sweep", "attack", "transfer")) and "seed" in w]
    assert {wildcards["seed"] for wildcards in heavy} == {"1", "4"}


def test_keeping_less_plans_the_same_jobs(project):
    before = detailed(project)
    change(project, "train.keep", "anchors")
    change(project, "activations.keep", "anchors")
    assert detailed(project) == before


def without_sweeps(folder: Path) -> None:
    for key, value in (("sweep.checkpoints", {}), ("sweep.primary", []), ("aligned.anchors", {})):
        change(folder, key, value)


def test_a_contrast_of_behaviour_labels_the_fit_prompts_of_each_segment(project):
    without_sweeps(project)
    before = detailed(project)
    change(project, "refusal.contrast", "behaviour")
    assert detailed(project) == before | {f"fit_labels__{regime}__{part}": 1 for regime in REGIMES for part in PARTS}


def test_full_plan_of_the_smoke_study(project):
    """Counted by hand: 2 regimes × 3 saves of which 2 are anchors, in 2 segments."""
    jobs = detailed(project)
    for regime in REGIMES:
        assert jobs[f"train__{regime}__0_2"] == jobs[f"train__{regime}__2_4"] == 1
        assert jobs[f"probe_anchor_{regime}"] == 2
        assert jobs[f"probe_saves__{regime}__0_2"] == 1 and f"probe_saves__{regime}__2_4" not in jobs
    assert jobs["completions"] == jobs["judge"] == 4
    assert jobs["attack_gcg"] == jobs["attack_autodan"] == jobs["transfer"] == 1
    assert jobs["framings"] == jobs["attack_universal"] == 1


def test_judges_are_trained_on_their_role(project):
    (inputs,) = [names for rule, _, names in jobs_of(project, "config.yaml")[0] if rule == "train_judges"]
    assert inputs == {"refusal_labels", "harm_labels", "severity_labels", "judge_train", "embeddings"}


def test_no_model_is_run_before_its_layers_are_known(project):
    """Jobs that run a model wait for the check themselves, or read what such a job made."""
    without_sweeps(project)
    change(project, "refusal.contrast", "behaviour")
    change(project, "completions.every_save", {"direct": 2})
    change(project, "attacks.require_refusal", True)
    first = ("clean_rows", "train_", "fit_labels_", "probe_", "completions", "attacked_behaviours")
    later = ("attack_gcg", "attack_universal", "attack_autodan", "transfer")
    for rule, _, inputs in jobs_of(project)[0]:
        if "model" in inputs:
            assert rule.startswith(first + later)
            assert ("layers" in inputs) == rule.startswith(first)


@pytest.mark.parametrize("required", [True, False])
def test_a_model_chooses_the_behaviours_only_where_refusals_decide(project, required):
    change(project, "attacks.require_refusal", required)
    (inputs,) = [names for rule, _, names in jobs_of(project)[0] if rule == "attacked_behaviours"]
    assert ({"model", "adapter"} <= inputs) == ("model" in inputs) == required


@pytest.mark.slow
class TestAfterARun:
    def test_nothing_is_left_to_do(self, study):
        assert detailed(study) == {}
        done = snakemake(study)
        assert done.returncode == 0 and "Nothing to be done" in done.stdout

    def test_writing_the_configuration_anew_changes_nothing(self, study):
        path = study / SMOKE
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()), sort_keys=False))
        assert detailed(study) == {}

    def test_touch_reruns_nothing(self, study):
        for folder in ("workflow", "src", "data", "configs", "envs"):
            for path in (study / folder).rglob("*"):
                os.utime(path)
        os.utime(study / "Snakefile")
        assert detailed(study) == {}

    def test_docstrings_comments_and_layout_rerun_nothing(self, study):
        for path in [*study.glob("src/**/*.py"), *study.glob("workflow/scripts/*.py")]:
            text = path.read_text()
            path.write_text(f"# A comment above.\n{text}\n\n\n# A comment below.\n")
        losses = study / "src/safety_geometry/training/losses.py"
        edit(losses, "Losses of R2D2, from logits at labelled positions only.", "Another description.")
        assert detailed(study) == {}

    @pytest.mark.parametrize(("key", "value"), [("harmfulness.score", "auroc"), ("statistics.bootstrap", 60)])
    def test_what_reads_the_scores_makes_none_again(self, study, key, value):
        """Only what acts with the carriers follows them; a sweep whose carriers come out the same computes no cell."""
        change(study, key, value)
        assert detailed(study) == CARRIERS | SUMMARY | SWEEPS | INVERSION

    @pytest.mark.parametrize(
        ("key", "value"), [("refusal.kl_max", 0.2), ("refusal.beta_kl", 0.5), ("refusal.max_layer_fraction", 0.5)]
    )
    def test_a_threshold_of_the_choice_scores_the_anchors_again(self, study, key, value):
        """It says which candidates are finalists, and what the null sets choose."""
        change(study, key, value)
        assert detailed(study) == ANCHORS | CARRIERS | SUMMARY | SWEEPS | INVERSION

    def test_an_r2d2_switch_leaves_the_other_regimes_alone(self, study):
        change(study, "regimes.r2d2.away", False)
        assert detailed(study) == SUMMARY | {
            "train__r2d2__0_2": 1, "train__r2d2__2_4": 1, "training_table": 1, "probe_anchor_r2d2": 2, "probe_saves__r2d2__0_2": 1,
            "carriers_r2d2": 1, "completions": 2, "judge": 2, **CAUSAL, "sweep": 1, "judge_sweep": 1,
            "reply_inversion": 1, "reply_inversion_table": 1,
            "transfer": 1, "judge_transfer": 1,  # the attacks made on sft are asked of r2d2
        }  # fmt: skip
        assert {w["regime"] for rule, w in planned(study) if rule == "sweep"} == {"r2d2"}
        assert {w["regime"] for rule, w in planned(study) if rule in ("completions", "judge")} == {"r2d2"}

    def test_the_attack_of_the_pool_concerns_the_regime_with_a_pool_only(self, study):
        change(study, "pool.gcg.width", 6)
        jobs = detailed(study)
        assert not [rule for rule in jobs if rule.endswith("_sft") or "__sft__" in rule]
        assert jobs["train__r2d2__0_2"] == 1 and jobs["completions"] == 2

    def test_an_anchor_beyond_the_last_trains_one_segment_of_each_regime(self, study):
        change(study, "train.saves", [1, 2, 4, 6])
        change(study, "anchors", [4, 6])
        new = {f"train__{regime}__4_6": 1 for regime in REGIMES} | {f"probe_anchor_{regime}": 1 for regime in REGIMES}
        assert detailed(study) == SUMMARY | CARRIERS | SWEEPS | INVERSION | new | {
            "training_table": 1,
            "completions": 2,
            "judge": 2,
        }

    def test_saves_beyond_the_last_are_trained_and_probed_together(self, study):
        change(study, "train.saves", [1, 2, 4, 5, 6])
        new = {f"{rule}__{regime}__4_6": 1 for regime in REGIMES for rule in ("train", "probe_saves")}
        # A sweep reads the carriers of all saves; what it finds unchanged in them it takes from its store.
        assert detailed(study) == TABLES | CARRIERS | SWEEPS | INVERSION | new | {
            "training_table": 1,
            "quadrants": 1,
            "figure_quadrants": 1,
        }

    def test_a_save_that_becomes_an_anchor_is_probed_again_and_nothing_is_trained(self, study):
        change(study, "anchors", [2, 4])
        jobs = detailed(study)
        assert not [rule for rule in jobs if rule.startswith("train_")]
        assert {w["step"] for rule, w in planned(study) if rule.startswith("probe_") or rule == "completions"} == {"2"}

    def test_the_check_of_layers_reruns_nothing(self, study):
        """Neither when its result is written anew, nor does it hide what changes elsewhere at the same time."""
        file = study / "results/smoke/models/layers.json"
        assert json.loads(file.read_text()) == {"base": 6}
        file.write_text(file.read_text() + "\n")
        assert detailed(study) == {}
        change(study, "refusal.layers", [1, 2])
        change(study, "coupling.fixed_layers", [3])
        jobs = detailed(study)
        assert "model_layers" not in jobs and jobs["probe_anchor_sft"] == 2
        assert not [rule for rule in jobs if rule.startswith(("train_", "completions"))]

    def test_a_second_seed_leaves_the_first_alone(self, study, project):
        before = detailed(project)
        change(study, "seeds", [1, 2])
        jobs = planned(study)
        assert {w["seed"] for _, w in jobs if "seed" in w} == {"2"}
        shared = {"tiny_model": 1, "model_layers": 1}
        assert detailed(study) == before - type(before)(shared)

    def test_a_suite_setting_trains_nothing(self, study):
        change(study, "completions.max_new_tokens.utility", 8)
        assert detailed(study) == SUMMARY | {"completions": 4, "judge": 4}
        assert {w["step"] for rule, w in planned(study) if rule == "completions"} == {"1", "4"}  # the anchors

    def test_a_suite_at_every_save_adds_the_other_saves(self, study):
        change(study, "completions.every_save", {"direct": 2})
        asked = {f"{rule}_saves__{r}__0_2": 1 for r in REGIMES for rule in ("completions", "judge")}
        assert detailed(study) == TABLES | asked

    def test_another_contrast_trains_nothing(self, study):
        without_sweeps(study)
        change(study, "refusal.contrast", "behaviour")
        probes = {f"probe_anchor_{r}": 2 for r in REGIMES} | {f"probe_saves__{r}__0_2": 1 for r in REGIMES}
        labels = {f"fit_labels__{r}__{part}": 1 for r in REGIMES for part in PARTS}
        jobs = detailed(study)
        assert not [rule for rule in jobs if rule.startswith(("train_", "completions"))]
        assert (probes | labels | CARRIERS).items() <= jobs.items()


@pytest.mark.slow
class TestCode:
    """An edit to a function reruns the rules whose scripts import its module, and what is below them."""

    def test_coupling(self, study):
        edit(
            study / "src/safety_geometry/geometry/coupling.py",
            "HRCI_WEIGHTS = (0.4, 0.4, 0.2)",
            "HRCI_WEIGHTS = (0.5, 0.3, 0.2)",
        )
        assert detailed(study) == CARRIERS | SUMMARY | SWEEPS | INVERSION

    def test_losses_are_used_in_training_only(self, study):
        edit(study / "src/safety_geometry/training/losses.py", "/ len(labels)", "/ (1 * len(labels))")
        jobs = detailed(study)
        assert {rule for rule in jobs if rule.startswith("train_")} == {
            f"train__{regime}__{part}" for regime in REGIMES for part in ("0_2", "2_4")
        }
        assert not set(jobs) & {"tiny_model", "prompt_sets", "clean_rows"}

    def test_scoring_reruns_the_probes_of_the_anchors_and_no_training(self, study):
        edit(
            study / "src/safety_geometry/geometry/candidate_scores.py",
            "refusal_ids, coefficient, removal",
            "refusal_ids, 2 * coefficient, removal",
        )
        assert detailed(study) == SUMMARY | CARRIERS | SWEEPS | INVERSION | ANCHORS

    def test_the_refusal_rules_are_used_where_answers_are_judged(self, study):
        path = study / "src/safety_geometry/judges/refusal.py"
        edit(path, "HELP_WORDS = 30", "HELP_WORDS = 35")
        jobs = detailed(study)
        assert jobs["judge"] == 4 and jobs["training_table"] == 1  # the monitor's answers are judged there
        assert not {rule for rule in jobs if rule.startswith(("train__", "tiny_model", "prompt_sets", "clean_rows"))}

    def test_a_script(self, study):
        edit(study / "workflow/scripts/training_table.py", "ignore_index=True", "ignore_index=bool(1)")
        assert detailed(study) == TABLES | {"training_table": 1}


IMPORTS = {
    # module of the library -> scripts that import it, directly or not
    "stats/estimates": {
        "carriers",
        "causal_tables",
        "claims",
        "dense_tables",
        "figure",
        "follow_up_choice",
        "follow_up_table",
        "judge_agreement",
        "probe",
        "reply_inversion",
        "reply_inversion_table",
        "sampled_table",
        "sweep_directions",
        "tables",
        "train_judges",
        "transfer_tables",
    },
    "artefacts/tables/causal": set(),  # what a table is, is seen by whoever writes or reads it
    "artefacts/tables/files": set(),
    "attacks/transfer": {"claims", "figure", "transfer_tables"},
    "attacks/transfer_statistics": {"claims", "figure", "transfer_tables"},
    "geometry/dense": {"claims", "dense_tables", "figure"},
    "attacks/autodan/search": {"attack_autodan"},
    "causal/cells": {"sweep", "sweep_directions", "follow_up"},
    "causal/effects": {"causal_tables", "sweep_directions"},
    "geometry/coupling": {"carriers", "causal_tables", "follow_up", "sweep", "sweep_directions"},
    "geometry/companions": {"carriers"},
    "training/losses": {"train_segment"},
    "training/loop": {"train_segment"},
    "geometry/candidate_scores": {"probe"},
    "models/intake": {"convert_model"},
    "models/answers": {
        "choose_behaviours",
        "clean_rows",
        "complete",
        "complete_sampled",
        "complete_saves",
        "fit_labels",
        "follow_up",
        "probe",
        "sweep",
        "transfer",
    },
    "models/recording": {"complete"},
    "models/sampling": {"complete_sampled"},
    "geometry/measures": {"carriers"},
    "training/table": {"training_table"},
    "artefacts/carriers": {
        "carriers",
        "causal_tables",
        "follow_up",
        "quadrants",
        "reply_inversion",
        "sweep",
        "sweep_directions",
    },
    "geometry/contrast": {"probe", "probe_saves"},
    "geometry/activations": {"probe", "probe_saves"},
    "models/folders": {"convert_model"},
    "prompts/leakage": {"judge_prompts", "prompt_sets"},
    "prompts/targets": {"judge_prompts", "prompt_sets"},
    "models/generation": {
        "attack_autodan",
        "choose_behaviours",
        "clean_rows",
        "complete",
        "complete_sampled",
        "complete_saves",
        "fit_labels",
        "follow_up",
        "probe",
        "probe_saves",
        "reply_inversion",
        "sweep",
        "sweep_directions",
        "train_segment",
        "transfer",
    },
}


def digests(root: Path) -> dict[str, str]:
    """Of the rules' scripts."""
    from pipeline.digests import _module, code_digest
    from pipeline.stages import STAGES

    _module.cache_clear()
    scripts = {stage.script for stage in STAGES.values()}
    return {script: code_digest(root, f"workflow/scripts/{script}.py") for script in scripts}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A copy of the project, and its digests."""
    folder = copy_project(tmp_path_factory.mktemp("digests") / "project")
    return folder, digests(folder)


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_digests_change_for_the_users_of_a_module(undisturbed, module):
    folder, before = undisturbed
    path = folder / f"src/safety_geometry/{module}.py"
    text = path.read_text()
    path.write_text(text + "\n\ndef added() -> int:\n    return 1\n")
    try:
        after = digests(folder)
    finally:
        path.write_text(text)
    assert {name for name in before if before[name] != after[name]} == IMPORTS[module]


REFUSAL_RULES = ("languages", "normalise", "refusal", "refusal_phrases", "thinking")


@pytest.mark.parametrize("script", ["train_segment", "probe", "probe_saves", "complete", "complete_saves", "sweep"])
def test_no_judge_and_no_intake_is_behind_the_work_of_models(script):
    from pipeline.digests import closure

    behind = closure(Path(__file__).parents[2], f"workflow/scripts/{script}.py")
    library = "src/safety_geometry/"
    modules = {path.removeprefix(library) for path in behind if path.startswith(library)}
    if script == "probe":  # the rules say which selection prompts a checkpoint refuses
        modules -= {f"judges/{name}.py" for name in ("__init__", *REFUSAL_RULES)}
    assert not [name for name in modules if name.startswith(("judges/", "claims/", "models/intake", "models/gguf/"))]
    assert "models/folders.py" not in modules


# ------------------------------------------------------------------------------------------------------------ prompts


def rewrite_answered_lookalikes(folder: Path) -> None:
    """Change the text of the look-alikes that the study asks."""
    asked = folder / "results/smoke/private/seed1/prompts/lookalike.jsonl"
    prompts = {json.loads(line)["prompt"] for line in asked.read_text().splitlines()}
    path = folder / "data/lookalikes.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["prompt"] in prompts:
            row["prompt"] += " One sentence is enough."
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@pytest.mark.slow
def test_a_prompt_file_reruns_what_reads_it(study):
    """Roles are split together, so one file remakes them all; a role whose prompts stay reruns nothing.

    Snakemake compares contents between runs and not within one: the wrapper of `make run` therefore brings the prompt
    sets up to date first.
    """
    roles = study / "results/smoke/private/seed1/prompts"
    before = {path.name: path.read_bytes() for path in roles.glob("*.jsonl")}
    rewrite_answered_lookalikes(study)
    assert detailed(study)["prompt_sets"] == 1
    done = snakemake(study, "--until", "prompt_sets")
    assert done.returncode == 0, done.stdout
    changed = {name for name, content in before.items() if (roles / name).read_bytes() != content}
    assert changed == {"lookalike.jsonl", "counterpart.jsonl"}  # these are their pairs
    assert detailed(study) == SUMMARY | SWEEPS | {"completions": 4, "judge": 4, "leakage_table": 1}


@pytest.mark.slow
def test_an_unused_line_of_a_prompt_file_reruns_the_split_only(study):
    asked = (study / "results/smoke/private/seed1/prompts/lookalike.jsonl").read_text().splitlines()
    prompts = {json.loads(line)["prompt"] for line in asked}
    path = study / "data/lookalikes.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    spare = next(row for row in rows if row["prompt"] not in prompts)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows if row is not spare))
    assert detailed(study)["prompt_sets"] == 1
    assert snakemake(study, "--until", "prompt_sets").returncode == 0
    assert detailed(study) == {}
