"""What is read and changed inside Snakemake: the one place for it, that it is as it was in the tested version, and what other versions
are told."""

import ast
import inspect
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pipeline import snakemake_internals as internals
from pipeline.snakemake_internals import only_looks, whole_study
from snakemake.cli import get_argument_parser
from snakemake.scheduling.job_scheduler import JobScheduler

ROOT = Path(__file__).parents[2]
# Of Snakemake's workflow and packages what its documentation shows; settings of plugins are those of its interfaces.
PUBLIC_ATTRIBUTES = {"current_basedir", "cores"}
PUBLIC_MODULES = {"snakemake.utils", "snakemake.logging", "snakemake_interface_logger_plugins"}

# ----------------------------------------------------------------------------------------------------------- the one place


def files() -> list[Path]:
    every = [
        ROOT / "Snakefile",
        ROOT / "workflow/Snakefile",
        *(ROOT / "workflow").rglob("*.smk"),
        *(ROOT / "workflow").rglob("*.py"),
    ]
    return [path for path in every if path != Path(internals.__file__)]


def test_no_other_file_reads_inside_snakemake():
    assert len(files()) > 80
    for path in files():
        text = path.read_text(encoding="utf-8")
        read = set(re.findall(r"\bworkflow\.(?!rst)(\w+)", text)) if path.suffix != ".py" else set()
        assert read <= PUBLIC_ATTRIBUTES, path
        modules = re.findall(r"^\s*(?:from|import) (snakemake[\w.]*)", text, re.M)
        assert not [m for m in modules if not any(f"{m}.".startswith(f"{public}.") for public in PUBLIC_MODULES)
                    and not m.startswith("snakemake_logger_plugin_")], path  # fmt: skip
        assert not re.search(r"\b(workflow|rule|dag|scheduler)\._\w", text), path


def test_no_program_beside_it_touches_what_another_object_hides():
    for path in files():
        if path.suffix == ".py" and path.parent.name != "scripts":  # which know no Snakemake
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
                    assert isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"), (
                        f"{path}: {ast.unparse(node)}"
                    )


# -------------------------------------------------------------------------------------------------------- another version


def test_another_version_that_hides_things_elsewhere_is_named():
    for read in (internals.runs_here, internals.planned_jobs, internals.given_config, internals.given_config_files,
                 internals.makes_environments):  # fmt: skip
        with pytest.raises(
            SystemExit, match=r"error: .* cannot be read from Snakemake 9\.27.*tested with 9\.27: pip install"
        ):
            read(SimpleNamespace())


def test_the_scheduler_of_another_version_is_left_alone(monkeypatch):
    before = JobScheduler._schedule_reevalutation
    for version in ("9.28.0", "9.2.7", "10.27.0"):
        monkeypatch.setattr(internals, "version", lambda name, number=version: number)
        assert not internals.is_tested()
        internals.look_once_a_time_span()
    assert JobScheduler._schedule_reevalutation is before
    for version in ("9.27.1", "9.27.12"):
        monkeypatch.setattr(internals, "version", lambda name, number=version: number)
        assert internals.is_tested()


def test_the_options_that_are_asked_for_are_the_parser_s():
    options, _ = get_argument_parser().parse_known_args([])
    assert set(internals.PARTS + internals.NO_RUN) <= vars(options).keys()


# ------------------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    "arguments",
    ["", "--sdm conda", "--sdm conda --conda-prefix envs", "--retries 1 -k", "--config seeds=[42]", "--jobs 3 --notemp", "--forceall",
     "--rerun-triggers mtime params", "--resources gpu=1"],
)  # fmt: skip
def test_the_whole_study(arguments):
    assert whole_study(arguments.split())


@pytest.mark.parametrize(
    "arguments",
    ["results/default/tables/five_anchor.csv", "--sdm conda -- training_table", "-n", "--dry-run", "--until prompt_sets",
     "-U prompt_sets", "--omit-from claims", "--batch all=1/2", "--touch", "--sdm conda --conda-create-envs-only", "--unlock",
     "--lint", "--summary", "--rulegraph", "--report other.html", "--resources gpu=1 --retries 1 all_of_it"],
)  # fmt: skip
def test_a_part_or_nothing(arguments):
    assert not whole_study(arguments.split())


@pytest.mark.parametrize(
    "arguments", ["-n", "--sdm conda --dry-run", "--unlock", "--report a.html", "--summary", "--rulegraph", "--lint"]
)
def test_what_may_go_beside_a_run(arguments):
    assert only_looks(arguments.split())


@pytest.mark.parametrize(
    "arguments", ["", "claims", "--touch", "--forceall", "--until tables", "--delete-all-output", "--sdm conda --conda-create-envs-only"]
)  # fmt: skip
def test_what_may_not(arguments):
    assert not only_looks(arguments.split())


# ----------------------------------------------------------------------------------------------------------- the scheduler


class Scheduler:
    def __init__(self):
        self._open_jobs = threading.Semaphore(0)


def test_one_look_however_many_were_asked_for_and_another_when_asked_again():
    scheduler = Scheduler()
    for _ in range(2):
        for _ in range(5):
            internals.look_later(scheduler, 0.05)
        assert scheduler._open_jobs.acquire(timeout=5)
        time.sleep(0.2)
        assert not scheduler._open_jobs.acquire(blocking=False)


def test_a_look_that_is_due_keeps_no_process_alive():
    internals.look_later(Scheduler(), 60)
    assert all(t.daemon for t in threading.enumerate() if isinstance(t, threading.Timer))


def test_snakemake_asks_for_looks_by_this_name(monkeypatch):
    named = JobScheduler._schedule_reevalutation
    assert list(inspect.signature(named).parameters) == ["self", "delay"]
    assert "_schedule_reevalutation(" in inspect.getsource(JobScheduler.schedule)
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", named)  # put back afterwards
    internals.look_once_a_time_span()
    assert JobScheduler._schedule_reevalutation is internals.look_later
