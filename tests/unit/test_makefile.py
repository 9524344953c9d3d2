"""The targets that act on results/<study> find the study's name, or touch nothing."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = ["study: my", "study: my   # a comment", 'study: "my"', "study: 'my' # a comment", "study: my\r"]
NAMELESS = [
    "study:",
    "study: my.study",
    "study: my study",
    'study: "my',
    "studio: my",
    "study: my\nstudy: other",
    "study: ..",
    "study: my#x",
]


@pytest.fixture
def project(tmp_path):
    """A folder with the Makefile and the tables of two studies."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("my", "other"):
        for kind, suffix in (("tables", "csv"), ("figures", "png")):
            (tmp_path / "results" / name / kind).mkdir(parents=True)
            (tmp_path / "results" / name / kind / f"a.{suffix}").write_text(name)
        (tmp_path / "results" / name / "timings.csv").write_text(name)
    return tmp_path


def make(project: Path, target: str, config: str = "config.yaml") -> subprocess.CompletedProcess:
    command = ["make", target, f"CONFIG={config}"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def studies(project: Path) -> list[str]:
    return sorted(path.name for path in (project / "results").iterdir())


@pytest.mark.parametrize("line", NAMED)
def test_clean_study_deletes_the_named_study_only(line, project):
    (project / "config.yaml").write_bytes(f"# study: other\n{line}\nseeds: [42]\n".encode())
    assert make(project, "clean-study").returncode == 0
    assert studies(project) == ["other"]


@pytest.mark.parametrize("target", ["clean-study", "verify", "reference"])
@pytest.mark.parametrize("line", NAMELESS)
def test_no_name_no_deed(line, target, project):
    (project / "config.yaml").write_text(f"{line}\nseeds: [42]\n")
    done = make(project, target)
    assert done.returncode and "config.yaml has no study name" in done.stderr
    assert studies(project) == ["my", "other"] and not (project / "docs").exists() and not (project / ".venv").exists()


def test_a_mistyped_file(project):
    done = make(project, "clean-study", "confg.yaml")
    assert done.returncode and "confg.yaml has no study name" in done.stderr
    assert studies(project) == ["my", "other"]


def test_reference_of_a_quoted_name(project):
    (project / "config.yaml").write_text('study: "my"\n')
    assert make(project, "reference").returncode == 0
    assert (project / "docs/results/my/tables/a.csv").read_text() == "my"


def test_a_reference_has_no_table_that_its_study_lacks(project):
    (project / "config.yaml").write_text("study: my\n")
    assert make(project, "reference").returncode == 0
    (project / "results/my/tables/a.csv").rename(project / "results/my/tables/b.csv")
    assert make(project, "reference").returncode == 0
    assert [path.name for path in (project / "docs/results/my/tables").iterdir()] == ["b.csv"]


def test_a_study_without_tables_takes_no_reference_away(project):
    (project / "config.yaml").write_text("study: my\n")
    assert make(project, "reference").returncode == 0
    shutil.rmtree(project / "results/my/tables")
    assert make(project, "reference").returncode
    assert (project / "docs/results/my/tables/a.csv").read_text() == "my"


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["check", "CONFIG=my study.yaml"], ["workflow/check.py", "--configfile", "my study.yaml"]),
        (["accept", 'FILE=results/my/a b\'s "c".csv'], ["workflow/check.py", "--accept", 'results/my/a b\'s "c".csv']),
        (["accept"], ["workflow/check.py", "--accept", ""]),
    ],
)
def test_check_and_accept_hand_on_a_name_as_it_is(words, given, project):
    (project / "requirements").mkdir()
    (project / "requirements/run.txt").write_text("")
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/.run").write_text("")
    python = project / ".venv/bin/python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    done = subprocess.run(["make", *words], cwd=project, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == given, done.stderr


FILES = [
    "my study.yaml",
    "Sam's (v2).yaml",
    "a$(touch PWN)b.yaml",
    "x'; touch PWN; '.yaml",
    "`touch PWN`",
    "a,b#c&d.yaml",
    "$$HOME/a.yaml",
]
TARGETS = ["run", "plan", "plan-cost", "calibrate", "export", "summary", "cluster", "cluster-plan", "cluster-recover"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("file", FILES)
def test_a_file_is_one_word(file, target, project):
    """As make prints it, which is what its shell reads."""
    given = {"CONFIG": file, "CHECKPOINT": f"sft:1 {file}", "TO": f"my {file}", "PROFILE": f"p {file}"}
    command = ["make", "-n", "-o", ".venv/.run", "-o", ".venv/.slurm", target, *(f"{k}={v}" for k, v in given.items())]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    words = [word for line in done.stdout.splitlines() for word in shlex.split(line)]
    assert file in words
    assert target != "export" or {given["CHECKPOINT"], given["TO"]} <= set(words)
    assert not target.startswith("cluster") or given["PROFILE"] in words
    assert not (project / "PWN").exists()


@pytest.mark.parametrize("file", FILES[:-1])
def test_the_study_of_a_file_with_an_odd_name(file, project):
    (project / file).write_text("study: my\n")
    assert make(project, "clean-study", file).returncode == 0
    assert studies(project) == ["other"] and not (project / "PWN").exists()


def test_no_other_folder_is_meant_by_variables(project):
    """STUDY and REFERENCE are worked out, not given; and `make -i` goes on after an error."""
    (project / "config.yaml").write_text("study: my\n")
    command = ["make", "clean-study", "STUDY=../..", "REFERENCE=/"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    assert studies(project) == ["other"]
    subprocess.run(["make", "-i", "clean-study", "CONFIG=none.yaml"], cwd=project, check=True, capture_output=True)
    assert studies(project) == ["other"]


def test_a_line_break_is_refused(project):
    done = make(project, "clean-study", "a.yaml\ntouch PWN")
    assert done.returncode and "CONFIG has a line break" in done.stderr and not (project / "PWN").exists()
