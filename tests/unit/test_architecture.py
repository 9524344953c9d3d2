"""The order of the house, read from the imports: packages know only those below them, faces hold nothing, scripts stay
short."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "src" / "safety_geometry"
# A package may import those of lower rows; within a row only as `BESIDE` says.
ORDER = (
    {"settings", "stats"},
    {"artefacts", "models"},
    {"prompts"},
    {"attacks", "geometry", "judges"},
    {"training", "causal"},
    {"claims", "figures"},
)
RANK = {package: rank for rank, row in enumerate(ORDER) for package in row}
BESIDE = {("attacks", "judges")}  # transfer compares judged arms
# Imports against the order that are still to be mended: (module, package it imports). Whoever mends one takes it out.
AGAINST: set[tuple[str, str]] = set()
# Scripts that are still longer than `LINES`. Whoever shortens one takes it out.
LINES = 60
LONG_SCRIPTS = ("_job", "_model")
WIDTH = 120
# Folders with lines that are still wider. Whoever wraps the last one of a folder takes it out.
WIDE = (
    "benchmarks",
    "src/safety_geometry/artefacts",
    "tests/hpc",
    "tests/unit",
    "tests/workflow",
    "workflow/rules",
)
CODE = (".py", ".pyi", ".smk")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    """Dotted name below the library: `geometry.coupling`; of a package its own."""
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(LIBRARY.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Modules of the library that a file imports, at its top or in a function; "" is the package itself."""
    inside = path.is_relative_to(LIBRARY)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level and inside:
                above = ("safety_geometry", *path.relative_to(LIBRARY).parent.parts)
                base = ".".join([*above[: len(above) + 1 - node.level], *filter(None, [base])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "safety_geometry":
                below = name.split(".")[1:]
                while below and ".".join(below) not in MODULES:
                    below.pop()  # a name in the module
                yield ".".join(below)


def test_every_package_has_its_place():
    packages = {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()}
    assert packages <= set(RANK)
    beside = {path.name for path in LIBRARY.iterdir() if path.is_file()}
    assert beside == {"__init__.py", "__init__.pyi", "py.typed"}, "modules stand in packages"


def test_packages_know_only_those_below_them():
    against = set()
    for name, path in MODULES.items():
        package = name.split(".")[0]
        for other in imported(path):
            target = other.split(".")[0]
            assert target or not name, f"{name} imports from the package's face"
            if name and target != package and RANK[target] >= RANK[package] and (package, target) not in BESIDE:
                against.add((name, target))
    assert against == AGAINST


def test_imports_have_no_circle():
    graph = {name: {other for other in imported(path) if other != name} for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_faces_hold_a_docstring_and_nothing_else():
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name:
            assert len(tree(path).body) == 1 and ast.get_docstring(tree(path)), f"{name}: a docstring and nothing else"


def test_every_package_says_what_lives_in_it():
    faces = [MODULES[package] for package in RANK if package in MODULES]
    faces += sorted((ROOT / "workflow" / "pipeline").rglob("__init__.py"))
    for path in faces:
        sentences = re.findall(r"\.(?:\s|$)", ast.get_docstring(tree(path)) or "")
        assert len(sentences) >= 2, f"{path.relative_to(ROOT)}: what lives here, what comes in, what goes out"


def test_nothing_here_imports_from_the_face():
    for path in [*(ROOT / "workflow").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        assert "" not in set(imported(path)), f"{path.relative_to(ROOT)}: import from the module where the name stands"


def test_the_library_knows_no_workflow():
    strangers = {"snakemake", "pipeline", *(path.stem for path in (ROOT / "workflow" / "scripts").glob("*.py"))}
    for path in MODULES.values():
        for node in ast.walk(tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not strangers & {name.split(".")[0] for name in names}, path.relative_to(ROOT)


@pytest.mark.parametrize("module", ["pipeline", "pipeline.stages"])
def test_the_graph_is_planned_without_models_and_tables(module):
    heavy = ("torch", "transformers", "pandas")
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == []


def test_the_path_is_edited_in_one_place_of_each_kind():
    edits = [
        path.relative_to(ROOT).as_posix()
        for folder in ("src", "workflow")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in CODE and re.search(r"\bsys\.path\b", path.read_text(encoding="utf-8"))
    ]
    assert edits == ["workflow/pipeline/__init__.py"]  # besides the Snakefile and benchmarks


def test_scripts_are_short():
    long = {
        path.stem
        for path in (ROOT / "workflow" / "scripts").glob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > LINES
    }
    assert long == set(LONG_SCRIPTS)


def test_lines_are_narrow():
    wide: dict[str, list[str]] = {}
    for path in (
        file for top in ("src", "workflow", "benchmarks", "tests", "docs") for file in (ROOT / top).rglob("*")
    ):
        if path.suffix in CODE:
            place = path.relative_to(ROOT)
            folder = Path(*place.parts[: {"src": 3, "docs": 1, "benchmarks": 1}.get(place.parts[0], 2)])
            folder = folder.parent if folder.suffix in CODE else folder
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if len(line) > WIDTH:
                    wide.setdefault(folder.as_posix(), []).append(f"{place}:{number}")
    news = [line for folder, lines in wide.items() if folder not in WIDE for line in lines]
    assert news == []
    assert set(WIDE) <= set(wide), "take the folders out that are narrow now"


@pytest.mark.parametrize("page", [*sorted(path.name for path in (ROOT / "docs").glob("*.md")), "../README.md"])
def test_pages_name_files_that_exist(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/.-])((?:src|workflow|tests|benchmarks|configs|envs|profiles)/[\w./-]*\w)", text))
    gone = [
        path for path in named if not re.search("[A-Z]{4}|/my", path) and not (ROOT / path).exists()
    ]  # but examples
    assert gone == [], f"{page} names files that are not there"
    links = [
        link for link in re.findall(r"\]\(([\w./-]+)\)", text) if not ((ROOT / "docs" / page).parent / link).exists()
    ]
    assert links == []
    python = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.py)`", text)) - named
    assert [path for path in python if not (ROOT / "src" / "safety_geometry" / path).exists()] == []
