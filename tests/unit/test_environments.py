"""Every rule's conda environment has what its script imports, and nothing that no rule needs.

A script's imports are followed through the project's own modules. Those at the top of a module run always; those inside a
function may not, so a rule may do without them if it is said below why it never gets there. What another package
happens to bring does not count: an import has to be met by a pin of the environment itself.
"""

import ast
import ensurepip
import functools
import re
import sys
from pathlib import Path

import pytest
import yaml
from pipeline.config_file import read_config
from pipeline.stages import STAGES, Stages
from pipeline.study import Study

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"
PACKAGE = {"sklearn": "scikit-learn", "yaml": "pyyaml", "huggingface_hub": "huggingface-hub"}  # where names differ

# (script, environment) -> packages that only functions import which the rule does not call.
NOT_REACHED = {
    ("fetch_source", "sources"): {"pandas"},  # writes no table
    ("model_layers", "sources"): {"pandas"},  # writes no table
    # These read prompts that were fetched, and fetch nothing.
    **{(script, "analysis"): {"huggingface-hub", "tqdm"} for script in ("judge_prompts", "prompt_sets")},
    # Artefacts that hold torch's tensors when they are written are read by numpy.
    **{(script, "analysis"): {"torch"} for script in ("carriers", "causal_tables", "quadrants")},
    # `analysis` is the environment of rules, trained judges and what reads judgements; no published judge is made in it.
    ("judge", "analysis"): {"torch", "transformers", "peft"},
    ("train_judges", "analysis"): {"torch", "transformers"},  # no sentence embeddings are read in it
}
# environment -> packages that no rule imports itself, and why they are there.
RUNTIME: dict[str, dict[str, str]] = {}


@functools.cache
def imports(path: Path) -> tuple[tuple[tuple[str, ...], bool], ...]:
    """(dotted names that an import tries in turn, whether it is at the top of the module), one per imported thing."""
    found = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
                continue  # no run gets there
            if isinstance(child, ast.Import):
                found.extend(((alias.name,), top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                module = "." * child.level + (child.module or "")
                joint = "" if module.endswith(".") else "."
                found.extend(((module, f"{module}{joint}{alias.name}"), top) for alias in child.names)
            visit(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return tuple(found)


def modules(name: str, importer: Path, script: Path) -> list[Path]:
    """The project's files that an import of `name` runs: the packages above it, and itself."""
    bases = (importer.parent,) if name.startswith(".") else (ROOT / "src", script.parent)
    parts = [part for part in name.lstrip(".").split(".") if part]
    if name.startswith(".") and not parts:
        return [importer.parent / "__init__.py"]
    paths = [base.joinpath(*parts[:depth]) for base in bases for depth in range(1, len(parts) + 1)]
    return [p for path in paths for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()]


def needs(script: Path) -> tuple[set[str], set[str]]:
    """Packages that a rule's script imports, or that it is started by, in any case, and those that it may import."""
    certainly: dict[Path, bool] = {}
    packages: dict[str, bool] = {}
    todo = [(script, True)]
    while todo:
        path, certain = todo.pop()
        if certainly.get(path, False) or (path in certainly and not certain):
            continue
        certainly[path] = certain
        for names, top in imports(path):
            own = [file for name in names for file in modules(name, path, script)]
            todo += [(file, certain and top) for file in own]
            root = names[0].split(".")[0]
            if not own and root and root not in sys.stdlib_module_names:
                package = PACKAGE.get(root, root)
                packages[package] = packages.get(package, False) or (certain and top)
    always = {p for p, certain in packages.items() if certain} | ({launcher()} if script.stem in LAUNCHED else set())
    return always, {p for p, certain in packages.items() if not certain}


@functools.cache
def launcher() -> str:
    """The program that starts the processes of a training job, which is named as its package."""
    config = read_config(ROOT / "configs/smoke.yaml")
    config["train"]["processes"] = 2
    return Study(config).launcher(0).split()[0]


def environments() -> dict[str, dict[str, str]]:
    """Environment -> package -> pinned version."""
    found = {}
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        whole = yaml.safe_load(path.read_text())
        (pip,) = [entry["pip"] for entry in whole["dependencies"] if isinstance(entry, dict)]
        found[path.stem] = dict(entry.split("==") for entry in pip)
    return found


def rules() -> set[tuple[str, str]]:
    """(script, environment) of every rule, in studies with and without judges that are models."""
    studies = [Study(read_config(ROOT / f"configs/{name}.yaml")) for name in ("full", "paper")]
    return {
        (stage.script, Stages(study, None, ROOT)[name].environment)
        for study in studies
        for name, stage in STAGES.items()
    }


ENVIRONMENTS, RULES = environments(), rules()
TEXT = "\n".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
LAUNCHED = {STAGES[name].script for name in re.findall(r"\{params\.launcher\}\" \+ (\w+)\.command", TEXT)}


@pytest.mark.parametrize("file", sorted((ROOT / "workflow" / "rules").glob("*.smk")), ids=lambda file: file.stem)
def test_a_rule_has_command_environment_and_settings_of_one_stage(file):
    """What is found here by the records of the stages is what the rules run."""
    for rule in re.split(r"\n(?= *(?:use )?rule\b.*:\n)", file.read_text()):
        parts = {
            key: re.search(pattern, rule)
            for key, pattern in (("command", r"(\w+)\.command"), ("conda", r"conda:\n +(\w+)\.conda\n"),
                                 ("params", r"(\w+)\.params"), ("log", r"log:\n +(\w+)\.log"),
                                 ("resources", r"\*\*(\w+)\.resources"))
        }  # fmt: skip
        named = {match[1] for match in parts.values() if match}
        assert len(named) <= 1, rule
        if "shell:" in rule:
            assert all(parts.values()), rule
    assert not re.search(r"workflow/scripts|envs/", file.read_text())


def test_every_script_of_a_rule_is_seen():
    """Not a rule's: the scripts that people run (verify, compare, table_docs, claim_docs)."""
    scripts = {p.stem for p in SCRIPTS.glob("*.py") if not p.stem.startswith("_")}
    assert scripts - {script for script, _ in RULES} == {"verify", "compare", "table_docs", "claim_docs"}
    assert {environment for _, environment in RULES} == set(ENVIRONMENTS)


@pytest.mark.parametrize(("script", "environment"), sorted(RULES))
def test_a_rule_finds_its_imports_in_its_environment(script, environment):
    always, perhaps = needs(SCRIPTS / f"{script}.py")
    pinned = set(ENVIRONMENTS[environment])
    assert always - pinned == set(), f"envs/{environment}.yaml lacks what {script}.py imports"
    assert perhaps - pinned == NOT_REACHED.get((script, environment), set())


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
def test_an_environment_has_nothing_that_no_rule_needs(environment):
    used = set()
    for rule in (rule for rule in RULES if rule[1] == environment):
        used |= set().union(*needs(SCRIPTS / f"{rule[0]}.py")) - NOT_REACHED.get(rule, set())
    spare = set(ENVIRONMENTS[environment]) - used
    assert spare == set(RUNTIME.get(environment, {})), f"envs/{environment}.yaml"


def test_pins_are_those_of_make_run():
    """One version per package, and the same with and without conda."""
    lines = (ROOT / "requirements" / "run.txt").read_text().splitlines()
    run = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    for name, pins in ENVIRONMENTS.items():
        assert pins == {package: run.get(package) for package in pins}, f"envs/{name}.yaml"


def test_make_run_installs_nothing_else():
    """Beside what rules need: what the workflow itself imports."""
    files = [
        path
        for folder in ("workflow", "workflow/pipeline", "workflow/pipeline/costs", "workflow/pipeline/stages")
        for path in (ROOT / folder).glob("*.py")
    ]
    workflow = {names[0].split(".")[0] for path in files for names, _ in imports(path)}
    known = set().union(*ENVIRONMENTS.values()) | {PACKAGE.get(name, name) for name in workflow}
    lines = (ROOT / "requirements" / "run.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in lines if line and not line.startswith("#")} - known == set()


def test_training_s_launcher_is_in_its_environment():
    assert list(LAUNCHED) == ["train_segment"] and launcher() == "accelerate"
    assert launcher() in needs(SCRIPTS / "train_segment.py")[0] & set(ENVIRONMENTS["torch"])
    assert launcher() not in needs(SCRIPTS / "sweep.py")[0]


def pinned_interpreter() -> tuple[str, str]:
    """Versions of python and pip that every environment pins."""
    pins = set()
    for path in (ROOT / "envs").glob("*.yaml"):
        whole = yaml.safe_load(path.read_text())
        assert whole["channels"] == ["conda-forge"]
        python, pip, _ = whole["dependencies"]
        pins.add((python.removeprefix("python =="), pip.removeprefix("pip ==")))
    ((python, pip),) = pins
    return python, pip


def test_python_and_pip_are_pinned():
    """To the patch; pip to the one that this Python brings for new environments, which `make test-conda` puts into its channel."""
    python, pip = pinned_interpreter()
    assert re.fullmatch(r"3\.11\.\d+", python) and re.fullmatch(r"\d+\.\d+(\.\d+)?", pip)
    if sys.version.split()[0] == python:
        assert ensurepip.version() == pip
