"""The wrapper of `make run`: what it expects a rule to take, whose folder it writes to, and when it makes the report."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pipeline import progress


@pytest.fixture(scope="module")
def run():
    file = Path(__file__).resolve().parents[2] / "workflow" / "run.py"
    spec = importlib.util.spec_from_file_location("workflow_run", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONFIG = {"study": "mine", "model": {"device": "cuda:1"}}


def job(rule: str, threads: int = 1, **wildcards: str) -> SimpleNamespace:
    return SimpleNamespace(rule=SimpleNamespace(name=rule), threads=threads, wildcards_dict=wildcards)


def need(rule: str, wildcards: dict) -> SimpleNamespace:
    return SimpleNamespace(seconds=100.0 * int(wildcards.get("step", 1)))


def test_a_rule_that_never_ran_takes_what_its_jobs_cost(tmp_path):
    (tmp_path / "timings.csv").write_text("rule,jobs,seconds,total\nclaims,1,30.0,30.0\n")
    jobs = [job("train__a__0_10", 2), job("probe", step="1"), job("probe", step="3"), job("claims")]
    outlook = progress.Outlook.of(CONFIG, tmp_path, jobs, need, 2, "cuda:1")
    assert outlook.seconds == {"train__a__0_10": 100.0, "probe": 200.0, "claims": 30.0}
    assert outlook.minutes == pytest.approx((2 * 100 + 100 + 300 + 30) / 2 / 60)
    assert outlook.describe(5) == "Study mine on cuda:1: 5 jobs, about 5.2 min"
    one = progress.Outlook.of(CONFIG, tmp_path, jobs, need, 1, "cuda:1")  # more threads than there are cores
    assert one.minutes == pytest.approx(530 / 60)
    elsewhere = progress.Outlook.of(CONFIG, tmp_path, jobs, need, None, "cuda:1")
    assert elsewhere.minutes is None and elsewhere.describe(1) == "Study mine on cuda:1: 1 job"


SMOKE = Path(__file__).parents[2] / "configs/smoke.yaml"


@pytest.mark.parametrize(
    ("overlay", "study"),
    [([], "smoke"), (["study=other"], "other"), (["seeds=[3]", "study='other'"], "other"), (["seeds=[3]"], "smoke")],
)
def test_logs_and_report_are_those_of_the_study_that_is_run(run, overlay, study, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    seen = []
    monkeypatch.setattr(run, "recover", lambda command, dead: None)
    monkeypatch.setattr(run, "execute", lambda command, supervisor, results, first=False: seen.append(results) or 0)
    monkeypatch.setattr(run, "report", lambda command, results: seen.append(results))
    monkeypatch.setattr(run, "summary", lambda config, results: seen.append(results))
    monkeypatch.setattr(
        sys, "argv", ["run.py", "--configfile", str(SMOKE), *(["--config", *overlay] if overlay else [])]
    )
    assert run.main() == 0
    assert seen == [Path("results") / study] * 4  # prompts, all, report, summary


def test_a_study_name_of_the_command_line_is_checked(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "--configfile", str(SMOKE), "--config", "study=../other"])
    with pytest.raises(SystemExit, match="config error: study = "):
        run.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("page", ["report", "summary"])
@pytest.mark.parametrize("edited", ["tables/a.csv", "figures/a.png", "caption", "specification", "code", "clock", None])
def test_a_page_is_made_again_when_what_it_shows_changes(run, page, edited, monkeypatch, tmp_path):
    results, captions = tmp_path / "results/my", tmp_path / "workflow/report"
    files = {name: results / name for name in ("tables/a.csv", "figures/a.png")} | {"caption": captions / "a.rst"}
    files["specification"] = tmp_path / "src/safety_geometry/artefacts/tables/a.py"
    files["code"] = tmp_path / "workflow/pipeline/summary.py"
    for file in files.values():
        file.parent.mkdir(parents=True)
        file.write_text("")
        os.utime(file, (1000, 1000))
    (results / f"{page}.html").write_text("")
    os.utime(results / f"{page}.html", (2000, 2000))
    if edited == "clock":  # set back since: what is made now is older than the report of before
        os.utime(results / f"{page}.html", (2**33, 2**33))
    elif edited:
        os.utime(files[edited], (3000, 3000))
    monkeypatch.setattr(run, "ROOT", tmp_path)
    calls = []
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(run.subprocess, "run", lambda command, **options: calls.append(command) or done)
    getattr(run, page)(["--configfile", "my.yaml"], results)
    assert len(calls) == (edited is not None and (page, edited) != ("report", "code"))
    assert all("--configfile" in command for command in calls)


@pytest.mark.parametrize("page", ["report", "summary"])
def test_a_page_that_cannot_be_made_leaves_the_results(run, page, monkeypatch, tmp_path):
    (tmp_path / "workflow/pipeline").mkdir(parents=True)
    (tmp_path / "workflow/pipeline/summary.py").write_text("")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    done = subprocess.CompletedProcess([], 1, "", "error: tables/claims.csv: not a table")
    monkeypatch.setattr(run.subprocess, "run", lambda command, **options: done)
    with pytest.raises(
        SystemExit, match=f"claims.csv: not a table\nThe results are complete, but the {page} could not"
    ):
        getattr(run, page)([], tmp_path / "results/my")


def test_timings_keep_the_rules_that_did_not_run_again(tmp_path):
    file = tmp_path / "timings.csv"
    progress.write_timings({"sweep": [10.0, 20.0], "claims": [3.0]}, file)
    progress.write_timings({"claims": [50.0], "tables": [1.04]}, file)
    assert file.read_text().splitlines() == [
        "rule,jobs,seconds,total",
        "claims,1,50.0,50.0",
        "sweep,2,15.0,30.0",
        "tables,1,1.0,1.0",
    ]


DAMAGED = [
    "",
    "rule,jobs",
    "rule,jobs,seconds,total\nsweep,2,1",
    "\x00\x00",
    "rule,jobs,seconds,total\nsweep,1,x,y\n",
    "a,b\n1,2\n",
]


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_timings_are_begun_anew(content, tmp_path):
    file = tmp_path / "timings.csv"
    file.write_text(content)
    progress.write_timings({"claims": [3.0]}, file)
    assert file.read_text().splitlines() == ["rule,jobs,seconds,total", "claims,1,3.0,3.0"]
    assert list(tmp_path.iterdir()) == [file]


def test_timings_that_cannot_be_written_are_told_and_end_nothing(tmp_path):
    why = progress.write_timings({"claims": [3.0]}, tmp_path / "gone" / "timings.csv")
    assert "timings.csv could not be written (No such file or directory)" in why
