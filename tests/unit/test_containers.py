"""The containers: they hold what a run needs and nothing else, from the pinned requirements. Built where there is a builder."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "containers"
DOCKERFILE, DEFINITION = FOLDER / "Dockerfile", FOLDER / "safety-geometry.def"
NOT_IN_IT = {
    "tests",
    "results",
    "containers",
    "CITATION.cff",
    "mkdocs.yml",
    "CHANGELOG.md",
}  # of what is committed, hidden files apart
SECTIONS = ("arguments", "files", "post", "environment", "runscript", "test")


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", DOCKERFILE.read_text(), re.M)


def copied() -> set[str]:
    """What the Dockerfile copies."""
    return {source.rstrip("/") for line in instructions("COPY") for source in line.split()[:-1]}


def section(name: str) -> list[str]:
    """Lines of a section of Apptainer's definition."""
    body = re.search(rf"^%{name}\n((?:    .*\n|\n)*)", DEFINITION.read_text(), re.M)
    return [line.strip() for line in body[1].splitlines() if line.strip()]


def test_what_is_committed_is_copied():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git repository")
    top = {name.split("/")[0] for name in listed.stdout.splitlines() if not name.startswith(".")}
    assert top - NOT_IN_IT == copied()
    assert all((ROOT / name).exists() for name in copied())


def test_each_of_them_copies_the_same():
    sent = {line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == copied()
    files = dict(line.split() for line in section("files"))
    assert set(files) == copied() and all(place == f"/project/{name}" for name, place in files.items())


def test_the_python_is_that_of_the_environments():
    python = re.search(
        "python ==([0-9.]+)", "\n".join(yaml.safe_load((ROOT / "envs/torch.yaml").read_text())["dependencies"][:1])
    )
    image = f"python:{python[1]}-bookworm"
    assert instructions("FROM") == [image] and f"From: {image}\n" in DEFINITION.read_text()


def test_packages_are_the_pinned_ones():
    for text in (" ".join(instructions("RUN")), " ".join(section("post"))):
        assert re.findall(r"pip install (.*?)(?: &&| touch)", text)[0].endswith("-r requirements/run.txt")
        assert "touch .venv/.run" in text  # so that make does not install them again


def test_apptainer_s_definition_has_its_sections():
    text = DEFINITION.read_text()
    assert tuple(re.findall(r"^%(\w+)$", text, re.M)) == SECTIONS and text.startswith("Bootstrap: docker\nFrom: ")
    assert all(section(name) for name in SECTIONS)
    named = set(re.findall(r"{{ (\w+) }}", text))
    assert named == {line.split("=")[0] for line in section("arguments")}
    for name in ("post", "runscript", "test"):
        subprocess.run(["bash", "-n"], input="\n".join(section(name)), text=True, check=True)


def test_hadolint_has_nothing_to_say():
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint: pip install -r requirements/dev.txt")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


# -------------------------------------------------------------------------------------------------------------- building

NAME = "safety-geometry-test"
PLAN = ("snakemake", "--configfile", "configs/smoke.yaml", "-n")
BUILDERS = {
    # program: whether it works here, how it builds, how it runs
    "docker": (("info",), ("build", "-f", "containers/Dockerfile", "-t", NAME, "."), ("run", "--rm", NAME, *PLAN)),
    "podman": (("info",), ("build", "-f", "containers/Dockerfile", "-t", NAME, "."), ("run", "--rm", NAME, *PLAN)),
    "apptainer": (("version",), ("build", "--force", "build/test.sif", "containers/safety-geometry.def"),
                  ("run", "--writable-tmpfs", "build/test.sif", *PLAN)),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("program", BUILDERS)
def test_it_is_built_and_plans_the_smoke_study(program):
    works, build, run = BUILDERS[program]
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here: the image is not built with it")
    if subprocess.run([program, *works], capture_output=True).returncode:
        pytest.skip(f"{program} does not work here (no daemon?): the image is not built with it")
    (ROOT / "build").mkdir(exist_ok=True)
    for words in (build, run):
        done = subprocess.run([program, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-4000:]
    assert "carriers" in done.stdout
