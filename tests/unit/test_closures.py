"""What an edit reruns: the modules that may be in the digest of each expensive rule, by name.

The lists are what is allowed, not what is there: a module that goes needs no change here, one that comes needs a
reason.
"""

import ast
import re
import shutil
from pathlib import Path

import pytest
from pipeline.digests import _module, closure, code_digest

ROOT = Path(__file__).resolve().parents[2]
EXPENSIVE = (
    "train_segment", "probe", "sweep", "attack_gcg", "attack_universal", "attack_autodan", "complete", "verdicts", "judge",
)  # fmt: skip

# Reading a model and running it: what every model job needs. `settings` are records of what a job is told.
MODEL = {
    "settings.*",
    "stats.seeds",
    "artefacts.*",
    *(
        f"models.{name}"
        for name in (
            "adapters",
            "chat",
            "configuration",
            "families",
            "folders",
            "graphs",
            "key_values",
            "language_model",
            "loading",
            "memory",
            "positions",
            "processes",
            "runner",
            "tokenizer",
        )
    ),
}
EDITS = {"models.generation", "models.interventions", "models.restart"}
GCG = {"attacks.gcg.*", "models.attention", "models.processes"}
COST = {"attacks.operations"}  # a column of their tables
# Whether an answer is a refusal, by rules: training and attacks may look at that, at nothing else of the judges.
REFUSAL = {f"judges.{name}" for name in ("languages", "normalise", "refusal", "refusal_phrases", "thinking")}
ALLOWED = {
    "train_segment": MODEL | EDITS | GCG | REFUSAL | {"training.*", "models.merging", "models.token_log_p"},
    "probe": MODEL
    | EDITS
    | REFUSAL  # which selection prompts the checkpoint refuses, and how its refusals begin
    | {"models.answers", "models.openings", "stats.estimates"}
    | {
        f"geometry.{name}"
        for name in (
            "activations",
            "candidate_scores",
            "carriers",
            "contrast",
            "probing",
            "refusal_scores",
            "selection",  # finalists and null sets are chosen where they are run
        )
    },
    "sweep": MODEL
    | EDITS
    | {
        "models.answers",  # what a row of answers holds
        "models.openings",
        *(f"causal.{name}" for name in ("cells", "controls", "modes", "names", "plan", "readout", "sweep")),
        *(f"geometry.{name}" for name in ("carriers", "coupling")),
    },
    "attack_gcg": MODEL | GCG | COST,
    "attack_universal": MODEL | GCG | COST,
    "attack_autodan": MODEL
    | COST
    | {"models.generation", "models.interventions", "models.token_log_p", "attacks.autodan.*"},
    "complete": MODEL | {"models.answers", "models.generation", "models.interventions", "models.recording"},
    "verdicts": MODEL | {f"judges.{name}" for name in ("model_judge", "passes", "thinking", "verdicts")},
    "judge": {"settings.*", "artefacts.*", "models.memory", "judges.*"},
}
# The plumbing of scripts that load a model: how it is loaded decides the result.
HELPERS = {
    "train_segment": {"_model"},
    "probe": {"_model"},
    "sweep": {"_model"},
    "attack_gcg": {"_model"},
    "attack_universal": {"_model"},
    "attack_autodan": {"_model"},
    "complete": {"_model"},
    "verdicts": set(),
    "judge": set(),
}


def modules(script: str) -> set[str]:
    """Dotted names below the library, and those of helpers, in a script's closure; without itself and package faces."""
    names = set()
    for place in closure(ROOT, f"workflow/scripts/{script}.py"):
        path = Path(place)
        if path.name == "__init__.py" or path == Path(f"workflow/scripts/{script}.py"):
            continue
        names.add(path.stem if path.parts[0] == "workflow" else ".".join(path.with_suffix("").parts[2:]))
    return names


def allowed(name: str, names: set[str]) -> bool:
    """Whether a module, or a package above it as `package.*`, is among the names."""
    parts = name.split(".")
    return name in names or any(".".join([*parts[:depth], "*"]) in names for depth in range(1, len(parts)))


@pytest.mark.parametrize("script", EXPENSIVE)
def test_only_what_decides_the_result_is_in_the_digest(script):
    names = ALLOWED[script] | HELPERS[script]
    assert sorted(name for name in modules(script) if not allowed(name, names)) == []


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    for folder in ("src", "workflow/scripts"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def digests(root: Path) -> dict[str, str]:
    _module.cache_clear()  # a run reads each file once
    return {script: code_digest(root, f"workflow/scripts/{script}.py") for script in EXPENSIVE}


@pytest.mark.parametrize(
    ("module", "reruns"),
    [
        ("judges/utility.py", {"judge"}),
        ("judges/model_judge.py", {"verdicts", "judge"}),
        ("attacks/autodan/mutation.py", {"attack_autodan"}),
        ("attacks/gcg/losses.py", {"attack_gcg", "attack_universal", "train_segment"}),
        ("attacks/gcg/universal.py", {"attack_universal"}),
        ("geometry/candidate_scores.py", {"probe"}),
        ("causal/readout.py", {"sweep"}),
        ("models/runner.py", set(EXPENSIVE) - {"judge", "verdicts"}),
        ("claims/decide.py", set()),
        ("__init__.py", set()),
    ],
)
def test_an_edit_reruns_what_it_decides(copy, module, reruns):
    path = copy / "src" / "safety_geometry" / module
    before, text = digests(copy), path.read_text(encoding="utf-8")
    path.write_text(f"{text}\n_EDITED = True\n", encoding="utf-8")
    try:
        after = digests(copy)
    finally:
        path.write_text(text, encoding="utf-8")
    assert {script for script in EXPENSIVE if before[script] != after[script]} == reruns


def test_no_import_hides_from_the_digests():
    """Names that are imported by a string are not followed. The package's face does so: no digest holds it and no
    script uses it."""
    face = ROOT / "src" / "safety_geometry" / "__init__.py"
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow" / "scripts").rglob("*.py")]:
        hidden = [
            node.lineno
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if (isinstance(node, ast.Name | ast.Attribute) and re.fullmatch(r"import_module|__import__", _last(node)))
            or (isinstance(node, ast.alias) and node.name == "import_module")
        ]
        assert not hidden or path == face, f"{path.relative_to(ROOT)}: lines {hidden}"


def _last(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr
