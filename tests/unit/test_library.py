"""The library as its users have it: a light face, names that are documented and typed, a wheel that the example runs
from."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import resolve_name
from pathlib import Path

import pytest
from conftest import make_model, make_tokenizer
from packaging.requirements import Requirement

import safety_geometry
from safety_geometry.models.loading import save_plain

ROOT = Path(__file__).resolve().parents[2]
FACE = ROOT / "src" / "safety_geometry" / "__init__.py"
EXAMPLE = ROOT / "docs" / "examples" / "first_steps.py"
HEAVY = ("torch", "transformers", "pandas", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib")
STATISTICS = ("torch", "transformers")


def loaded_by(code: str, modules: tuple[str, ...]) -> list[str]:
    """Those of `modules` that a new interpreter holds after `code`."""
    program = f"import sys\n{code}\nprint(*[name for name in {modules!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment(ROOT / "src")
    )
    return done.stdout.split()


def environment(path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}


def test_importing_the_package_is_light():
    assert loaded_by("import safety_geometry; dir(safety_geometry); safety_geometry.__all__", HEAVY) == []


def test_a_name_loads_no_more_than_its_module():
    assert loaded_by("from safety_geometry import wilson", STATISTICS) == []


@pytest.mark.parametrize("name", safety_geometry.__all__)
def test_every_name_is_served_and_documented(name):
    value = getattr(safety_geometry, name)
    assert value.__name__ == name and value.__doc__ and name in dir(safety_geometry)


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'harmfulnes'"):
        safety_geometry.harmfulnes  # noqa: B018


def test_type_checkers_see_the_same_names():
    stub = ast.parse(FACE.with_suffix(".pyi").read_text(encoding="utf-8"))
    static = {alias.asname: node.module for node in stub.body[1:] for alias in node.names if alias.asname == alias.name}
    assert static == {name: getattr(safety_geometry, name).__module__ for name in safety_geometry.__all__}


def test_the_page_has_the_example_and_every_name():
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    assert EXAMPLE.read_text(encoding="utf-8") in page
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| .+ \|$", page, re.M))
    modules = {name: getattr(safety_geometry, name).__module__ for name in safety_geometry.__all__}
    assert {name: resolve_name(f".{module}", "safety_geometry") for name, module in rows.items()} == modules


@pytest.mark.slow
def test_the_example_runs_from_the_wheel(tmp_path):
    built, site, model = tmp_path / "source", tmp_path / "site", tmp_path / "model"
    built.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (built / name).write_bytes((ROOT / name).read_bytes())
    copy = ["cp", "-r", str(ROOT / "src"), str(built / "src")]
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(built),
    ]
    for command in (copy, wheel):
        subprocess.run(command, check=True, timeout=600)
    (file,) = tmp_path.glob("safety_geometry-*.whl")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(file),
    ]
    subprocess.run(install, check=True, timeout=600)
    assert (site / "safety_geometry" / "py.typed").is_file() and (site / "safety_geometry" / "__init__.pyi").is_file()

    save_plain(make_model(layers=6), make_tokenizer(), model)
    code = "import sys, runpy, safety_geometry as sg; print(sg.__file__); runpy.run_path(sys.argv.pop(1))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(EXAMPLE), str(model)],
        cwd=tmp_path,
        env=environment(site),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    where, carriers, coupling, *judged = done.stdout.splitlines()
    assert where == str(site / "safety_geometry" / "__init__.py")
    assert re.fullmatch(r"H: layer \d at t_inst; R: layer \d at -\d, admissible: (True|False)", carriers)
    assert coupling.startswith("Coupling(c_cos=0.")
    assert [line.split(" Interval(value=")[0] for line in judged] == ["as it is", "without R", "towards H"]


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {wanted.name: wanted for wanted in map(Requirement, lines)}


def test_pins_lie_within_the_declared_ranges():
    """requirements/*.txt is what is tested; pyproject.toml must neither leave a package of it out nor exclude its
    version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    declared = requirements(
        [line for line in [*project["dependencies"], *extras] if not line.startswith("safety-geometry")]
    )
    pins = []
    for name in ("run", "dev"):
        lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        pins += [line.split("#")[0].strip() for line in lines if "==" in line.split("#")[0]]
    for name, pin in requirements(pins).items():
        assert name in declared, f"{name} is pinned and not declared"
        (version,) = (part.version for part in pin.specifier)
        assert version in declared[name].specifier, f"{pin} lies outside {declared[name]}"
    assert set(declared) <= set(requirements(pins))


def third_party(folder: Path) -> set[str]:
    """Top-level names of other packages that the modules below `folder` import."""
    names = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"safety_geometry"}


def test_what_the_library_imports_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = requirements([*project["dependencies"], *extras["figures"], *extras["gguf"]])
    distribution = {"sklearn": "scikit-learn", "yaml": "pyyaml", "huggingface_hub": "huggingface-hub"}
    distribution["pydantic_core"] = "pydantic"  # which asks for one version of it
    assert {distribution.get(name, name) for name in third_party(ROOT / "src")} <= set(declared)
    figures = third_party(ROOT / "src" / "safety_geometry" / "figures")
    assert "matplotlib" not in {
        n
        for f in (ROOT / "src" / "safety_geometry").iterdir()
        if f.is_dir() and f.name != "figures"
        for n in third_party(f)
    }
    assert "matplotlib" in figures
