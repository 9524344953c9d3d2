"""A finished study of which a byte is changed: nothing is built on it, and it is told how to go on."""

import json
import os
from pathlib import Path

import pytest
from harness import SMOKE, command, make_run, snakemake
from plans import plan

pytestmark = pytest.mark.slow
JUDGED = "results/smoke/seed1/judged/sft/step4/judged.csv"
BEHAVIOUR = "results/smoke/tables/behaviour.csv"


def check(folder: Path, *words: str):
    return command(folder, "workflow/check.py", "--configfile", SMOKE, *words)


def flip(path: Path) -> None:
    """0 and 1 swapped in the last rows, the time of change put back."""
    before, text = path.stat(), path.read_text()
    path.write_text(text[:-200] + text[-200:].translate(str.maketrans("01", "10")))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_finished_study_has_no_fault(study):
    done = check(study)
    assert done.returncode == 0 and " 0 faults" in done.stdout, done.stdout


def test_a_changed_byte_stops_runs_and_jobs_until_the_file_is_made_anew(study):
    tables = {path: path.read_bytes() for path in (study / "results/smoke/tables").glob("*.csv*")}
    good = (study / JUDGED).read_bytes()
    flip(study / JUDGED)
    for done in (check(study), make_run(study)):
        assert done.returncode == 1 and f"error: {JUDGED} is not what judge.py wrote" in done.stdout
        assert f"rm {JUDGED} && make run CONFIG={SMOKE} ARGS={JUDGED}" in done.stdout and "Traceback" not in done.stdout
    (study / BEHAVIOUR).unlink()
    done = snakemake(study, BEHAVIOUR)
    assert (
        done.returncode and f"{JUDGED} is not what judge.py wrote" in done.stdout and not (study / BEHAVIOUR).exists()
    )
    (study / JUDGED).unlink()
    done = command(study, "workflow/run.py", "--configfile", SMOKE, "--cores", "2", JUDGED)
    assert done.returncode == 0, done.stdout
    assert (study / JUDGED).read_bytes() == good
    assert make_run(study).returncode == 0 and check(study).returncode == 0
    assert {path: path.read_bytes() for path in tables} == tables


def test_an_edit_on_purpose_remakes_what_is_below(study):
    former = json.loads((study / f"{JUDGED}.provenance.json").read_text())["sha256"]
    flip(study / JUDGED)
    done = check(study, "--accept", JUDGED)
    assert done.returncode == 0 and f"{JUDGED} is taken as it is now" in done.stdout
    assert json.loads((study / f"{JUDGED}.provenance.json").read_text())["edited"] == [former]
    jobs = plan(study)
    assert jobs["judge"] == 0 and jobs["claims"] == 1, jobs
    assert "edited by hand, and accepted" in check(study).stdout
