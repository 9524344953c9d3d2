"""The workflow as a module of another one, which stands elsewhere: what is planned, what is refused, and that it gives the tables of
a direct run."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from harness import CORES, ROOT, command, copy_project, snakemake
from pipeline.config_file import written
from test_own import alone

OUTER = """
configfile: "config/config.yaml"

rule answer:
    input:
        "measured/results/own/tables/coupling.csv",
    output:
        "answer.txt",
    shell:
        "wc -l < {{input:q}} > {{output:q}}; echo \\"${{{{PYTHONPATH:-none}}}}\\" >> {{output:q}}"

module safety_geometry:
    snakefile:
        {snakefile!r}
    config:
        config["safety-geometry"]
    prefix:
        "measured"

use rule * from safety_geometry as sg_*
"""
TABLES = "results/own/tables"


@pytest.fixture
def importer(tmp_path) -> Path:
    """A workflow in a folder of its own that imports a copy of the project, which nothing was made in."""
    project, folder = copy_project(tmp_path / "the project"), tmp_path / "a workflow"
    (folder / "config").mkdir(parents=True)
    (folder / "Snakefile").write_text(OUTER.format(snakefile=str(project / "workflow/Snakefile")))
    return folder


def configure(folder: Path, config: dict) -> None:
    """What the importer says of the study, beside a key of its own."""
    keys = {"its-own": 1, "safety-geometry": yaml.safe_load(written(config))}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))


def run(folder: Path, *arguments: str):
    return command(folder, "-m", "snakemake", "--cores", str(CORES), *arguments)


def two_models() -> dict:
    """A study of two models that the importer has, none of them trained here, asked little."""
    models = {1: {"source": "one", "format": "folder"}, 4: {"source": "two", "format": "folder"}}
    config = alone(steps=models)
    config["sources"] = {name: {"kind": "path", "path": f"models/{name}"} for name in ("one", "two")}
    del config["checkpoints"]["mine"]["base"]
    config["transfer"]["targets"] = {"mine": [4]}
    config["prompts"]["sets"]["lookalikes"]["files"] = ["data/mine.jsonl"]  # the importer's own
    return config


# ----------------------------------------------------------------------------------------------------------- what is planned


def test_what_an_importer_plans(importer, project):
    shutil.copytree(importer.parent / "the project/data", importer / "data")
    (importer / "data/mine.jsonl").write_text((importer / "data/lookalikes.jsonl").read_text())
    configure(importer, two_models())
    done = run(importer, "-n", "-p")
    assert done.returncode == 0, done.stdout
    direct = yaml.safe_load(written(two_models()))
    (project / "own.yaml").write_text(yaml.safe_dump(direct, sort_keys=False))
    shutil.copytree(importer / "data", project / "data", dirs_exist_ok=True)
    planned = snakemake(project, "-n", f"{TABLES}/coupling.csv", config="own.yaml").stdout
    assert jobs(done.stdout, "sg_") == jobs(planned) | {"answer": 1}  # its own first rule is what it makes
    assert f"{importer}/data/mine.jsonl" in done.stdout and f"{importer}/data/benign" not in done.stdout
    assert f"{importer.parent}/the project/data/benign_instructions.jsonl" in done.stdout
    assert f'"path": "{importer}/models/one"' in done.stdout
    assert run(importer, "-n", "sg_all").returncode == 0


def jobs(text: str, prefix: str = "") -> dict[str, int]:
    """Jobs by rule, in a plan that Snakemake prints."""
    table = text.split("Job stats:")[1].split("total")[0].splitlines()[3:]
    rows = [line.split() for line in table if line.strip()]
    return {name.removeprefix(prefix): int(number) for name, number in rows}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": None}, "error: study is missing"),
        ({"seedz": [1]}, "did you mean seeds?"),
        ({"seeds": ["x"]}, "seeds[0] = 'x'"),
    ],
)
def test_the_importer_s_configuration_is_checked(importer, change, message):
    configure(importer, two_models())
    keys = yaml.safe_load((importer / "config/config.yaml").read_text())
    keys["safety-geometry"] |= change
    (importer / "config/config.yaml").write_text(yaml.safe_dump(keys))
    done = run(importer, "-n")
    assert done.returncode and message in done.stdout and "Traceback" not in done.stdout, done.stdout


def test_a_module_without_a_study_is_told_what_it_needs(importer):
    (importer / "config/config.yaml").write_text("safety-geometry: {}\n")
    done = run(importer, "-n")
    assert done.returncode and "needs a `config:` with at least `study`" in done.stdout


def test_each_snakefile_plans_the_study(project):
    top = snakemake(project, "-n").stdout
    below = snakemake(project, "-n", "--snakefile", "workflow/Snakefile").stdout
    assert jobs(top) == jobs(below) and "all" in jobs(top) and len(jobs(top)) > 30


DEPLOYED = """
configfile: "config/config.yaml"

module safety_geometry:
    snakefile:
        github("someone/safety-geometry", path="workflow/Snakefile", tag="v1")
    config:
        config

use rule * from safety_geometry
"""


def test_a_repository_that_snakedeploy_names_is_fetched_whole(project, tmp_path):
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=project, check=True)

    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "all"), ("tag", "v1")):
        git(*words)
    folder, settings = tmp_path / "deployed", tmp_path / "gitconfig"
    shutil.copytree(ROOT / "config", folder / "config")
    (folder / "workflow").mkdir()
    (folder / "workflow/Snakefile").write_text(DEPLOYED)
    settings.write_text(f'[url "{project.as_uri()}"]\n  insteadOf = https://github.com/someone/safety-geometry\n')
    variables = {"GIT_CONFIG_GLOBAL": str(settings), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for _ in range(2):  # the second time it is there
        done = command(folder, "-m", "snakemake", "--cores", "1", "-n", "-p", **variables)
        assert done.returncode == 0 and {"all", "carriers"} <= set(jobs(done.stdout)), done.stdout
        (fetched,) = (folder / ".snakemake/safety-geometry").iterdir()
        assert f"python {fetched}/workflow/scripts/carriers.py" in done.stdout
        assert "results/my-study/tables/coupling.csv" in done.stdout


# ------------------------------------------------------------------------------------------------ it gives the same tables


@pytest.mark.long
def test_a_module_gives_the_tables_of_a_direct_run(importer, project):
    texts = project / "data/benign_instructions.jsonl"
    for seed, name in ((3, "one"), (4, "two")):
        params = {"seed": seed, "vocabulary": 600, "hidden": 64, "layers": 6, "heads": 4}
        made = command(project, "workflow/scripts/tiny_model.py", "--texts", str(texts), "--folder", f"models/{name}",
                       "--params", json.dumps(params), PYTHONPATH=str(project / "src"))  # fmt: skip
        assert made.returncode == 0, made.stdout
    (project / "data/mine.jsonl").write_text((project / "data/lookalikes.jsonl").read_text())
    shutil.copytree(project / "models", importer / "models")
    (importer / "data").mkdir()
    shutil.copy(project / "data/mine.jsonl", importer / "data/mine.jsonl")
    configure(importer, two_models())
    done = run(importer)
    assert done.returncode == 0, done.stdout[-6000:]
    (project / "own.yaml").write_text(written(two_models()))
    direct = snakemake(project, f"{TABLES}/coupling.csv", config="own.yaml")
    assert direct.returncode == 0, direct.stdout[-6000:]

    tables = sorted((project / TABLES).glob("*.csv"))
    assert {"coupling", "five_anchor", "behaviour", "selection"} <= {table.stem for table in tables}
    for table in tables:
        assert (importer / "measured" / TABLES / table.name).read_text() == table.read_text(), table.name
        ours, theirs = (json.loads(table.with_name(f"{table.name}.provenance.json").read_text()),
                        json.loads((importer / f"measured/{TABLES}/{table.name}.provenance.json").read_text()))  # fmt: skip
        assert ours == theirs
    lines, path = (importer / "answer.txt").read_text().split()
    assert int(lines) == 3 and path == "none"  # a row a checkpoint; its own rules run as without the module
    assert not (importer.parent / "the project/results").exists() and not (importer / "results").exists()

    assert "Nothing to be done" in run(importer).stdout
    damaged = importer / "measured" / "results/own/seed1/carriers/mine/coupling.csv"
    damaged.write_text(damaged.read_text() + "\n")
    assert run(importer).returncode
    said = (importer / "measured/results/own/logs/tables.log").read_text()
    assert (
        "is not what carriers.py wrote" in said and f"rm {damaged.relative_to(importer)} && snakemake measured/" in said
    ), said
