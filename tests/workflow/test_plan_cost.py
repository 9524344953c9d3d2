"""What a study is said to need, and what its rules state: no network, no results, and no effect on what runs."""

import csv
import json

import pytest
from harness import ROOT, SMOKE, command
from pipeline.config_file import read_config, written
from pipeline.costs.resources import RESOURCES
from pipeline.identity import Job
from pipeline.stages.causal import sweep
from pipeline.study import Study
from plans import change, jobs_of, plan

from safety_geometry.causal.plan import SweepPlan

SEVEN = "configs/seven.yaml"
NAME = 40  # characters of the column of names


@pytest.fixture
def seven(project):
    """The wide study on a 7B model and GPUs, one seed, with 40 saves of each regime."""
    config = read_config(ROOT / "configs/full.yaml")
    config |= {"study": "seven", "seeds": [42]}
    config["model"] |= {"name": "Mistral-7B-v0.1", "dtype": "bfloat16", "device": "cuda"}
    config["train"] |= {"saves": list(range(5, 201, 5)), "segment_length": 50, "schedule_steps": 200}
    (project / SEVEN).write_text(written(config))
    return project


def said(folder, config: str, *options: str) -> str:
    done = command(folder, "workflow/plan_cost.py", "--configfile", config, *options)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def columns(text: str) -> dict[str, list[str]]:
    """Stage -> cells of its line."""
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("stage"))
    table = lines[start + 1 : lines.index("", start)]
    return {line[:NAME].strip(): line[NAME:].split() for line in table}


def test_jobs_are_those_of_the_plan(project):
    text = said(project, "config.yaml", "--rules")
    table = columns(text)
    planned = plan(project, "config.yaml")
    assert {rule: int(cells[0]) for rule, cells in table.items() if rule in planned} == planned
    assert int(table["total"][0]) == sum(planned.values()) and "CPU-hours" in text and "GPU" not in text
    assert "134.5 million" in text or "135 million" in text
    assert 0.3 < float(table["total"][1]) < 2.5  # the default study is an hour of one thread
    assert not (project / "results").exists()


def test_keys_of_the_command_line_lie_over_the_file(project):
    text = said(project, "configs/full.yaml", "--config", "seeds=[43]", "study=one")
    assert text.startswith("study one, 1 seed(s)")
    assert int(columns(text)["training"][0]) == 7  # two segments of each of three regimes, and the table


def test_a_7b_study_on_gpus(seven):
    text = said(seven, SEVEN)
    table = columns(text)
    assert "GPU-hours" in text and "ESTIMATED from published peaks" in text and "7.24 billion" in text
    assert set(table) == {"sources", "training", "geometry", "attacks and transfer", "behaviour", "causal sweeps", "judges",
                          "tables and figures", "total"}  # fmt: skip
    stages = [cells for name, cells in table.items() if name != "total"]
    assert sum(float(cells[1]) for cells in stages) == pytest.approx(float(table["total"][1]), abs=0.05)
    assert sum(float(cells[5]) for cells in stages) == pytest.approx(float(table["total"][5]), abs=0.5)
    assert float(table["training"][4]) > 14.5 and "Adapters of saves that are no anchors" in text
    assert "A100" in said(seven, SEVEN, "--device", "A100").split("\n")[1]


def test_no_configuration_and_no_rates_are_told(project):
    done = command(project, "workflow/plan_cost.py", "--configfile", "none.yaml")
    assert done.returncode == 1 and "no configuration none.yaml" in done.stdout
    done = command(project, "workflow/plan_cost.py", "--device", "abacus")
    assert done.returncode == 1 and "no rates for abacus; known are A100" in done.stdout
    change(project, "refusal.kl_max", -1, "config.yaml")
    done = command(project, "workflow/plan_cost.py")
    assert done.returncode == 1 and "refusal.kl_max" in done.stdout


def test_every_job_states_what_it_needs(seven):
    for config, gpu in (("config.yaml", False), (SEVEN, True)):
        jobs, limits = jobs_of(seven, config)
        for rule, resources, inputs in jobs:
            assert all(resources[name] > 0 for name in ("mem_mb", "disk_mb", "runtime")), rule
            if "model" in inputs:  # no rule that runs a model is taken for one of tables
                assert resources["mem_mb"] >= (14_000 if gpu else 2000), rule
                assert (resources["gpu_mem_mb"] > 14_000) is gpu, rule
        assert not set(RESOURCES) & set(limits)  # nothing that local runs have to share


def test_local_jobs_run_beside_each_other_whatever_they_state(project):
    """Two jobs that each state more memory than the machine has, on two cores: neither waits for the other."""
    (project / "beside.smk").write_text(
        "rule all:\n    input: 'a.txt', 'b.txt'\n"
        "rule each:\n    output: '{name}.txt'\n    resources: mem_mb=lambda wc, attempt: 10**9, disk_mb=10**9, runtime=10**5\n"
        "    shell: 'touch {wildcards.name}.here; for i in $(seq 100); do [ -e a.here ] && [ -e b.here ] && break; sleep 0.1; done;"
        " [ -e a.here ] && [ -e b.here ] && touch {output}'\n"
    )
    done = command(project, "-m", "snakemake", "-s", "beside.smk", "--cores", "2")
    assert done.returncode == 0, done.stdout[-3000:]


def test_another_shape_or_other_rates_rerun_nothing(study):
    assert plan(study) == {}
    shape = {"layers": 60, "hidden": 8192, "intermediate": 20000, "heads": 64, "vocabulary": 100_000}
    change(study, "model.shape", shape)
    rates = json.loads((study / "docs/results/cost_rates.json").read_text())
    rates["devices"][0]["forward"] /= 100
    (study / "docs/results/cost_rates.json").write_text(json.dumps(rates))
    assert plan(study) == {}
    assert columns(said(study, SMOKE))["total"][0] == "0"
    assert int(columns(said(study, SMOKE, "--all"))["total"][0]) > 40


def test_cells_are_counted_before_they_are_made(finished):
    of = Study(read_config(ROOT / SMOKE))
    for seed, name, step in of.swept():
        rows = list(csv.DictReader((finished.results / f"seed{seed}/sweep/{name}/step{step}/cells.csv").open()))
        cells = {row["cell"]: row["generated"] == "True" for row in rows}
        planned = [cell for unit in SweepPlan.of(sweep(of, Job(seed, name, step))).units() for cell in unit.cells]
        assert 0.5 * len(planned) <= len(cells) <= len(planned)  # controls that do not exist are planned too
        assert set(cells) <= {cell.id for cell in planned}
        assert sum(cells.values()) <= sum(cell.answers for cell in planned)


def test_a_finished_run_stands_beside_what_was_said(finished):
    text = command(
        finished.folder, "workflow/plan_cost.py", "--configfile", SMOKE, "--against", str(finished.results)
    ).stdout
    assert "train__r2d2__0_2" in text and "ratio" in text
