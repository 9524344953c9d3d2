"""configs/rehearsal.yaml: the papers' graph, their shapes, and the whole of it on a CPU at a tiny shape."""

import csv

import pytest
from harness import ROOT, command, copy_project
from pipeline.config_file import read_config, read_study, written
from pipeline.costs.facts import Facts
from pipeline.costs.rates import read_rates
from pipeline.costs.rehearsal import MEASURED_HERE, Rehearsal, error, shape_text, write_rehearsal
from plans import plan

REHEARSAL, PAPER = "configs/rehearsal.yaml", "configs/paper.yaml"
# Of the papers' study what a rehearsal cannot have, since it needs the network (judges that are models, too), and what it has instead.
FETCHED = {"fetch_source", "convert_model", "judge_template", "verdicts", "verdicts_saves", "judge_agreement"}
MADE = {"tiny_model"}
SAME = [
    "model.dtype", "model.device", "train.rows", "train.micro_rows", "train.max_length", "pool.per_step", "pool.plain_toward", "pool.gcg.steps", "pool.gcg.width", "pool.gcg.batch_size",
    "activations.positions", "activations.dtype", "activations.batch_size", "refusal.selector", "refusal.batch_size",
    "attacks.gcg.width", "attacks.gcg.batch_size", "attacks.gcg.suffix_length", "attacks.autodan.population", "attacks.autodan.batch_size",
    "completions.batch_size", "completions.every_save", "sweep.modes", "sweep.ranks", "sweep.steer_scale", "sweep.batch_size", "lora",
    "sweep.generate.batch_size", "coupling", "harmfulness",
]  # fmt: skip


def rules(planned: dict[str, int]) -> set[str]:
    return {rule.split("__")[0] for rule in planned}


def test_the_graph_is_the_papers(project):
    paper, rehearsal = rules(plan(project, PAPER)), rules(plan(project, REHEARSAL))
    assert paper - rehearsal == FETCHED and rehearsal - paper == MADE


def at(config: dict, key: str):
    for part in key.split("."):
        config = config[part]
    return config


def test_the_shapes_are_the_papers():
    paper, rehearsal = read_config(ROOT / PAPER), read_config(ROOT / REHEARSAL)
    assert [key for key in SAME if at(paper, key) != at(rehearsal, key)] == []
    facts = [Facts(read_study(ROOT / name), read_rates("cuda", ROOT, "H100")) for name in (PAPER, REHEARSAL)]
    mistral, random = (f.base for f in facts)
    assert mistral.matrices == random.matrices and mistral.parameters == random.parameters
    assert (mistral.layers, mistral.kv_heads, mistral.vocabulary) == (random.layers, random.kv_heads, random.vocabulary)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The rehearsal at a tiny shape on the CPU: (folder, what was printed)."""
    folder = copy_project(tmp_path_factory.mktemp("rehearsal") / "project")
    config = read_config(ROOT / REHEARSAL)
    config["model"] |= {"dtype": "float32", "device": "cpu", "threads": 1}
    config["model"]["tiny"] |= {
        "vocabulary": 14000,
        "hidden": 32,
        "layers": 6,
        "heads": 4,
        "kv_heads": 2,
        "intermediate": 80,
    }
    config["coupling"]["fixed_layers"], config["refusal"]["layers"] = [2], [1, 3]
    config["refusal"] |= {"screen": 2, "finalists": 3, "null_sets": 3, "evaluation_share": 0.34}
    config["clean_rows"]["max_new_tokens"], config["train"]["max_length"] = 24, 64
    config["train"]["monitor"]["max_new_tokens"] = 2
    for gcg in (config["pool"]["gcg"], config["attacks"]["gcg"]):
        gcg |= {"steps": 1, "width": 4, "top_k": 16, "batch_size": 8}
    config["pool"]["per_step"] = 2
    config["attacks"] |= {"behaviours": 4}
    config["attacks"]["autodan"] |= {"seeds": 2, "steps": 1, "population": 3, "mutation": 0.5, "elites": 0.4}
    config["transfer"] |= {"behaviours": 2, "max_new_tokens": 4}
    config["completions"]["max_new_tokens"] |= dict.fromkeys(config["completions"]["max_new_tokens"], 4)
    config["sweep"]["prompts"] = {"harmful": 4, "benign": 3}
    config["sweep"]["generate"] |= {"suites": {"direct": 4, "lookalike": 2, "utility": 2}, "max_new_tokens": 4}
    config["follow_up"] |= {"suites": {"direct": 4, "usefulness": 2, "utility": 2}, "max_new_tokens": 4}
    (folder / "configs/tiny.yaml").write_text(written(config))
    done = command(folder, "workflow/rehearse.py", "--configfile", "configs/tiny.yaml")
    assert done.returncode == 0, done.stdout[-6000:]
    return folder, done.stdout


@pytest.mark.long
def test_from_training_to_report_on_a_cpu(tiny):
    folder, text = tiny
    results = folder / "results/rehearsal"
    assert (results / "report.html").exists() and (results / "tables/claims.csv").exists()
    with (results / "rehearsal.csv").open() as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"sources", "training", "geometry", "attacks and transfer", "behaviour", "causal sweeps"}
    for stage, row in rows.items():
        assert float(row["seconds"]) > 0 and float(row["said_seconds"]) > 0 and float(row["memory_mb"]) > 50, stage
        assert (row["card"], row["shape"], row["dtype"]) == ("CPU", "6x32x80", "float32")
        assert any(line.startswith(stage) for line in text.splitlines())
    assert "ratio" in text and "written to results/rehearsal/rehearsal.csv" in text


# ------------------------------------------------------------------------------------------------- what it says of hours

H100 = read_rates("cuda", ROOT, "H100")
ZEROS = dict.fromkeys(("jobs", "memory_mb", "said_memory_mb", "gpu_mb", "said_gpu_mb"), 1.0)
ROWS = [
    {"stage": "training", "seconds": 200.0, "said_seconds": 100.0} | ZEROS,
    {"stage": "judges", "seconds": 50.0, "said_seconds": 100.0} | ZEROS,
]


def test_hours_are_told_with_the_error_of_the_rehearsal():
    """By hand: 2 and .5 by stage, 250 / 200 of all. 10 h of training, 4 of judges, 2 of what was not rehearsed: 20 + 2 + 2.5."""
    rehearsal = Rehearsal(ROWS, "NVIDIA H100 80GB HBM3", "H100", "32x4096x14336", "bfloat16")
    seconds = {"training": 36_000.0, "judges": 14_400.0, "behaviour": 7200.0}
    (line,) = error(rehearsal, seconds, H100)
    assert "took 1.25 of what was said, by stage 0.50 (judges) to 2.00 (training)" in line
    assert "expect 24.50 GPU-hours for the 16.00 above" in line
    other = Rehearsal(ROWS, "NVIDIA H200", "H200", "32x4096x14336", "bfloat16")
    assert "with the rates of H200; those above are of H100" in error(other, seconds, H100)[1]


def test_plan_paper_says_its_error_or_that_there_was_no_rehearsal(project):
    def said(config: str) -> str:
        return command(project, "workflow/plan_cost.py", "--configfile", config).stdout

    assert "Not rehearsed yet: `make rehearse`" in said(PAPER) and "ehears" not in said("configs/smoke.yaml")
    shape = shape_text(Facts(read_study(ROOT / PAPER), H100).base)
    path = project / MEASURED_HERE
    write_rehearsal(path, Rehearsal(ROWS, "CPU", "CPU, one thread", "6x32x80", "float32"))
    assert "Not rehearsed yet" in said(PAPER)  # of another shape
    write_rehearsal(path, Rehearsal(ROWS, "NVIDIA H100 80GB HBM3", "H100", shape, "bfloat16"))
    assert "Rehearsed on NVIDIA H100 80GB HBM3: it took 1.25 of what was said" in said(PAPER)
