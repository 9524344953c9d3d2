"""The profiles of clusters: what they would submit, and that a study may change from one to another."""

import functools
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from cluster_runs import at, block, kill_and_resume, site
from harness import ROOT, SMOKE, command, copy_project
from pipeline.config_file import read_config, written
from pipeline.snakemake_internals import dry_run
from plans import plan

PROFILES = ROOT / "profiles"
CLUSTERS = ("slurm", "slurm-gpu", "cluster-generic")
PLACE = ("gpu", "slurm_partition", "constraint", "queue", "nodes", "threads")
SHARED = ("rerun-triggers", "max-checksum-file-size", "rerun-incomplete", "show-failed-logs")


def profile(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "profile.yaml").read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return copy_project(tmp_path_factory.mktemp("profiles") / "project")


@pytest.fixture(scope="module")
def rules(project) -> set[str]:
    """All rules of the default study and of the wide one, which scores candidates a second time."""
    return {*plan(project, "config.yaml"), *plan(project, "configs/full.yaml")}


def shown(project: Path, name: str, config: str = SMOKE) -> str:
    """What a dry run with the profile prints; jobs of a group are indented."""
    return dry_run_of(project, name, config, (project / "profiles" / name / "profile.yaml").read_text())


@functools.cache
def dry_run_of(project: Path, name: str, config: str, settings: str) -> str:
    """`settings`, the profile's text: tests change it."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="no executors for clusters: make cluster-install")
    done = command(project, "workflow/cluster.py", "--configfile", config, "--profile", f"profiles/{name}", "-n")
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def resources(project: Path, name: str, config: str = SMOKE) -> dict[str, dict[str, str]]:
    """Rule -> resources and threads of its largest job, as a dry run with the profile prints them. All its jobs go to one place."""
    found = {}
    for part in re.split(r"\n(?= *(?:local)?rule )", shown(project, name, config)):
        rule, told = re.match(r" *(?:local)?rule (\w+):", part), re.search(r"^ +resources: (.*)$", part, re.M)
        if rule and told:
            threads = re.search(r"^ +threads: (\d+)$", part, re.M)
            job = dict(entry.split("=", 1) for entry in told[1].split(", ")) | {
                "threads": threads[1] if threads else "1"
            }
            other = found.setdefault(rule[1], job)
            assert [job.get(key) for key in PLACE] == [other.get(key) for key in PLACE], rule[1]
            found[rule[1]] = max(job, other, key=lambda job: sorted(job.items()))
    return found


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_decides_about_reruns_is_the_same_everywhere(name):
    """Else a study that was begun here would be made anew there."""
    assert {key: profile(name)[key] for key in SHARED} == {key: profile("default")[key] for key in SHARED}


def test_the_gpu_profile_is_the_other_one_and_gpus():
    with_gpus, without = profile("slurm-gpu"), profile("slurm")
    assert set(with_gpus["default-resources"]) == {*without["default-resources"], "gpu", "nodes"}
    for one in (with_gpus, without):
        for key in ("gpu", "nodes", "slurm_partition"):
            one["default-resources"].pop(key, None)
    assert with_gpus == without


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_profile_names_rules_that_exist(name, rules):
    """A misspelt rule in a profile has no effect and no message."""
    named = {*profile(name).get("groups", {}), *profile(name).get("set-resources", {})}
    assert named <= rules, sorted(named - rules)


def judges(folder: Path, config: str) -> dict[str, str | None]:
    """Rule -> group of every rule that judges answers."""
    return {
        job.rule.name: job.rule._group  # `group` is None where no scheduler is asked
        for job in dry_run(folder, folder / config)[0]
        if re.fullmatch(r"judge(_saves__.*|_sweep|_follow_up|_transfer)?", job.rule.name)
    }


def test_every_figure_and_every_judgement_is_in_a_group(rules):
    groups, sizes = profile("slurm")["groups"], profile("slurm")["group-components"]
    assert "figure" in rules and groups["figure"] == "figures"
    found = judges(ROOT, "configs/full.yaml")
    assert len(found) > 5 and {"judge", "judge_sweep", "judge_follow_up", "judge_transfer"} < set(found)
    assert set(found.values()) == {"judge", "judge_saves", "judge_sweep", "judge_follow_up", "judge_transfer"}
    assert {*found.values(), "judge_sampled", "figures"} == set(sizes)


def test_judges_that_are_models_are_in_no_group(project):
    """The jobs of a group run one after another in one allocation: hours in a row, on a GPU that idles between them."""
    jobs = {job.rule.name: job.rule._group for job in dry_run(project, project / "configs/paper.yaml")[0]}
    models = {rule: group for rule, group in jobs.items() if rule.startswith("verdicts")}
    assert len(models) > 40 and set(models.values()) == {None}
    assert set(judges(project, "configs/paper.yaml").values()) == set(judges(ROOT, "configs/full.yaml").values())
    for name in CLUSTERS:
        assert not [rule for rule in profile(name).get("groups", {}) if rule.startswith(("judge", "verdicts"))]


def test_slurm_takes_no_gpu_and_one_partition(project):
    jobs = resources(project, "slurm")
    assert {job["slurm_partition"] for job in jobs.values()} == {"cpu"}
    assert not any("gpu" in job for job in jobs.values())
    assert (jobs["train__r2d2__0_2"]["mem_mb"], jobs["train__r2d2__0_2"]["runtime"]) == (
        "2000",
        "60",
    )  # a tiny model: the least
    assert (jobs["claims"]["mem_mb"], jobs["claims"]["runtime"]) == ("1500", "30")


def test_a_profile_states_other_resources_of_a_rule(project):
    """What rules state comes before default-resources, and set-resources before what rules state."""
    path = project / "profiles/slurm/profile.yaml"
    text = path.read_text()
    path.write_text(text + "set-resources: {sweep: {mem_mb: 12345 * attempt}}\n")
    try:
        jobs = resources(project, "slurm")
    finally:
        path.write_text(text)
    assert (jobs["sweep"]["mem_mb"], jobs["follow_up"]["mem_mb"]) == ("12345", "2000")


def test_jobs_that_run_a_model_get_a_gpu_and_no_other_does(project):
    jobs = resources(project, "slurm-gpu")
    with_gpu = {rule for rule, job in jobs.items() if job["gpu"] == "1"}
    assert with_gpu == {rule for rule, job in jobs.items() if job["slurm_partition"] == "gpu"}
    models = (
        "train_",
        "probe_",
        "completions",
        "sweep",
        "follow_up",
        "clean_rows",
        "attack",
        "transfer",
        "reply_inversion",
    )
    others = {"follow_up_choice", "follow_up_table", "transfer_tables", "reply_inversion_table"}
    others.add("attacked_behaviours")  # require_refusal is false
    assert with_gpu == {r for r in jobs if r.startswith(models)} - others
    assert {job["gpu"] for rule, job in jobs.items() if rule not in with_gpu} == {"0"}


def write_profile(project: Path, name: str, settings: dict) -> None:
    (project / "profiles" / name).mkdir(exist_ok=True)
    (project / "profiles" / name / "profile.yaml").write_text(yaml.safe_dump(settings))


def runs_a_model(rule: str) -> bool:
    """In configs/paper.yaml, which has judges that are models."""
    model = ("train_", "probe_", "completions", "sweep", "follow_up", "attack_", "transfer", "verdicts")
    return (
        rule.startswith(model)
        and not rule.endswith("_tables")
        and not re.match(r"follow_up_(choice|table)|training_table", rule)
    )


def test_the_site_profile_of_the_page_gives_gpus_to_what_runs_a_model_and_to_nothing_else(project):
    """With judges that are models, and with a kind of GPU that the CPU partition does not have."""
    page = block("A small site profile, complete:")
    assert {key: page[key] for key in SHARED} == {key: profile("default")[key] for key in SHARED}
    write_profile(project, "mysite", page)
    jobs = resources(project, "mysite", "configs/paper.yaml")
    asked = {
        rule: tuple(job.get(key) for key in ("slurm_partition", "gpu", "constraint")) for rule, job in jobs.items()
    }
    with_model = {rule for rule in jobs if runs_a_model(rule)}
    assert {"verdicts", "verdicts_saves__sft__0_25", "attack_gcg", "train__sft__0_25"} < with_model
    assert {asked[rule] for rule in with_model} == {("gpu", "1", "a100")}
    assert {asked[rule] for rule in set(jobs) - with_model} == {("short", "0", None)}
    assert jobs["sweep"]["runtime"] == "720" and jobs["train__r2d2__0_25"]["nodes"] == "1"
    assert not [rule for rule, job in jobs.items() if "nodes" in job and not rule.startswith("train_")]


def test_cluster_generic_gives_gpus_as_its_comment_says(project):
    text = (PROFILES / "cluster-generic/profile.yaml").read_text()
    commented = yaml.safe_load(re.search(r"# With `model.device: cuda`: (gpu: .*)", text)[1])
    settings = profile("cluster-generic")
    settings["default-resources"] |= commented
    write_profile(project, "generic-gpu", settings)
    jobs = resources(project, "generic-gpu", "configs/paper.yaml")
    assert {rule for rule, job in jobs.items() if job["gpu"] == "1"} == {rule for rule in jobs if runs_a_model(rule)}
    assert {job["gpu"] for job in jobs.values()} == {"0", "1"}


@pytest.mark.parametrize("site", ["slurm-gpu", "the page's"])
def test_training_on_several_gpus_as_the_page_says(project, site):
    """GPUs, cores and memory of a training job for all its processes, and what other jobs ask for as it was."""
    if site == "the page's":
        site = "mysite"
        write_profile(project, site, block("A small site profile, complete:"))
    config = read_config(ROOT / "configs/paper.yaml")
    (several,) = block("The configuration says how many:")["train"].values()
    config["train"]["processes"] = several
    (project / "several.yaml").write_text(written(config))
    one, four = (resources(project, site, name) for name in ("configs/paper.yaml", "several.yaml"))
    assert several == 4 and set(one) == set(four)
    cores = config["model"]["threads"]
    for rule in one:
        if not rule.startswith("train_"):
            assert one[rule] == four[rule]
            continue
        assert (four[rule]["gpu"], four[rule]["nodes"]) == ("4", "1") and one[rule]["gpu"] == "1"
        assert int(four[rule]["mem_mb"]) > 3.5 * int(one[rule]["mem_mb"]) > 3.5 * 14_500
        assert int(four[rule]["threads"]) == 4 * cores
        assert not {"cpus_per_task", "cpus_per_gpu"} & set(four[rule])  # SLURM's cores are the threads
    assert {int(four[rule]["threads"]) for rule in ("completions", "sweep", "attack_gcg")} == {cores}


def test_another_executor_plans_the_same_jobs(project):
    generic, slurm = resources(project, "cluster-generic"), resources(project, "slurm")
    assert set(generic) == set(slurm)
    for rule in slurm:
        assert (generic[rule]["mem_mb"], generic[rule]["runtime"]) == (slurm[rule]["mem_mb"], slurm[rule]["runtime"])
        assert generic[rule]["queue"] == "batch"


def test_nothing_in_rules_and_scripts_knows_a_scheduler():
    texts = {p: p.read_text() for folder in ("workflow/rules", "workflow/pipeline", "workflow/scripts", "src")
             for p in (ROOT / folder).rglob("*") if p.suffix in (".smk", ".py")}  # fmt: skip
    texts |= {p: p.read_text() for p in (ROOT / "Snakefile", ROOT / "workflow/Snakefile")}
    assert [str(p) for p, text in texts.items() if re.search(r"slurm|sbatch|\bPBS\b|\bqsub\b", text, re.I)] == []


@pytest.fixture
def pbs(tmp_path) -> dict[str, str]:
    """Environment variables that lead to the stand-in for PBS."""
    pytest.importorskip(
        "snakemake_executor_plugin_cluster_generic", reason="no executors for clusters: make cluster-install"
    )
    (tmp_path / "pbs").mkdir()
    return {"PATH": f"{ROOT / 'tests/hpc/pbs'}:{os.environ['PATH']}", "PBS_FAKE": str(tmp_path / "pbs")}


@pytest.mark.parametrize("forgets", ["", "1"])
def test_cluster_generic_submits_asks_and_retries(pbs, tmp_path, forgets):
    """Also where PBS keeps no history of jobs."""
    folder = site(tmp_path / "site", "cluster-generic")
    shutil.copy(ROOT / "tests/hpc/fates.smk", folder / "Snakefile")
    done = command(
        folder, "-m", "snakemake", "grown.txt", "no_gpu.txt", "--workflow-profile", "profiles/cluster-generic",
        "--seconds-between-status-checks", "2", **at(pbs | {"SLURM_JOB_PARTITION": "none", "PBS_FAKE_FORGETS": forgets}),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert (folder / "grown.txt").read_text().split() == ["500", "1000"]
    options = [path.read_text() for path in Path(pbs["PBS_FAKE"]).glob("*.options")]
    assert len(options) == 3
    (second,) = [told for told in options if "mem=1000mb" in told]
    assert "-q batch -l select=1:ncpus=1:mem=1000mb -l walltime=2:00:00" in second


@pytest.mark.study
def test_cluster_generic_recovers_from_a_kill(pbs, tmp_path):
    killed = kill_and_resume(site(tmp_path / "site", "cluster-generic"), "cluster-generic", pbs, "--recover")
    assert killed.job_lived_on and killed.job_ended
    assert "make cluster-recover" in killed.local.stdout
    assert re.search(r"ended \d+ process\(es\) and 1 job\(s\) of it", killed.second.stdout), killed.second.stdout[
        -4000:
    ]
    assert killed.second.returncode == 0, killed.second.stdout[-4000:]
    assert not list((killed.folder / "results").rglob("*.partial-*"))
