"""A configuration file that cannot be read says so, whichever command is given it."""

import subprocess
import sys
from pathlib import Path

import pytest
from pipeline.config_file import read_config, read_study, written

ROOT = Path(__file__).parents[2]
BAD = {
    "study: [\n": "is not YAML",
    "\xff": "is not YAML",
    "- a list\n": "holds no keys",
    "": "holds no keys",
    "study: x\nseeds:\n": "seeds is missing: add it",
}


@pytest.mark.parametrize(
    "config", ["config.yaml", *(str(p.relative_to(ROOT)) for p in (ROOT / "configs").glob("*.yaml"))]
)
def test_those_that_come_with_the_project(config):
    assert read_study(ROOT / config).config == read_config(ROOT / config)


@pytest.mark.parametrize("text", BAD)
def test_faults_are_named(text, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(SystemExit, match=BAD[text]):
        read_config(file)


def test_a_combination_that_cannot_work(tmp_path):
    config = read_config(ROOT / "configs/smoke.yaml")
    config["transfer"]["behaviours"] = config["attacks"]["behaviours"] + 1
    file = tmp_path / "study.yaml"
    file.write_text(written(config))
    with pytest.raises(SystemExit, match=r"transfer\.behaviours = "):
        read_study(file)


@pytest.mark.parametrize("command", ["run", "cluster", "plan_cost", "export"])
def test_every_command_asks(command, tmp_path):
    more = ["--checkpoint", "r2d2:1", "--folder", str(tmp_path / "out")] if command == "export" else []
    done = subprocess.run(
        [sys.executable, f"workflow/{command}.py", "--configfile", str(tmp_path / "none.yaml"), *more],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "no configuration" in done.stderr and "Traceback" not in done.stderr
