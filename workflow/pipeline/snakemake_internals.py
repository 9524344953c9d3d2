"""What is read or changed inside Snakemake where its public interfaces have nothing for it: all of it, each thing with
its reason.

Tested with the version of requirements/run.txt. With another one what can be left out is, and what cannot ends with a
sentence.
"""

import contextlib
import io
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

TESTED = "9.27"


@contextlib.contextmanager
def inside(what: str) -> Iterator[None]:
    """Raises SystemExit that names Snakemake's version where its inside is not what it is in the tested one."""
    try:
        yield
    except (AttributeError, ImportError, TypeError) as error:
        raise SystemExit(
            f"error: {what} cannot be read from Snakemake {version('snakemake')} ({error}); this project is tested with"
            f" {TESTED}: pip install -r requirements/run.txt"
        ) from error


def is_tested() -> bool:
    return version("snakemake").split(".")[:2] == TESTED.split(".")


# -------------------------------------------------------------------------------------------------------- the Snakefile


@inside("--configfile")
def given_config_files(workflow: Any) -> list[Path]:
    """--configfile. `config` is the merged content: it does not say which files it is from, nor what they said
    twice."""
    return [Path(file) for file in workflow.config_settings.configfiles or ()]


@inside("--config")
def given_config(workflow: Any) -> Mapping:
    """--config, which Snakemake has laid over the files without a trace in `config`."""
    return workflow.config_settings.config


@inside("whether another workflow has imported this one")
def results_of_importer(workflow: Any) -> str | None:
    """Where `results/` is for a workflow that has imported this one as a module, by its `prefix`; None: none has."""
    modifier = workflow.modifier
    return None if modifier.is_main_snakefile() else str(modifier.modify_path("results/"))


@inside("the rule that is made unless told otherwise")
def make_by_default(workflow: Any, rule: str) -> None:
    """An included file does not hand its first rule on."""
    workflow.default_target = rule


@inside("whether this is a job's own Snakemake")
def is_main_process(workflow: Any) -> bool:
    """Not one that Snakemake has started for a job."""
    return workflow.is_main_process


@inside("the executor")
def runs_here(workflow: Any) -> bool:
    """Whether jobs run on this machine. The executor stands in no public place."""
    return workflow.local_exec


@inside("--resources")
def given_resource(workflow: Any, name: str) -> int:
    """A resource that all jobs together are held to by --resources; 0: they are not."""
    given = workflow.global_resources.get(name)
    return (given.value or 0) if given is not None else 0


@inside("--cores")
def given_cores(workflow: Any) -> int | None:
    """None: jobs are submitted and no number was given, where `workflow.cores` is an error."""
    return workflow.resource_settings.cores


@inside("--sdm")
def makes_environments(workflow: Any) -> bool:
    """--sdm: jobs do not run in this interpreter's environment."""
    return bool(workflow.deployment_settings.deployment_method)


@inside("the plan")
def planned_jobs(workflow: Any) -> list:
    """Jobs that are going to run (`rule.name`, `wildcards_dict`, `resources`, `threads`, `input`, …), `all` left out.
    Publicly there are their numbers by rule only."""
    return [job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.rule.name != "all"]


# ------------------------------------------------------------------------------------------------------------ a dry run


class PlanError(Exception):
    """Snakemake cannot plan; with what it said."""


def dry_run(
    root: Path, config: Path, everything: bool = False, cores: int = 2, overlay: Mapping | None = None
) -> tuple[list, Mapping]:
    """`planned_jobs` of a run with the project's profile, and the resources that limit them. The API runs plans and
    hands none out; asked in this process, a plan takes no start of Python and needs no reading of text. everything:
    also what is done already; overlay: keys that lie over those of the file.

    Raises:
        PlanError: the configuration is wrong, or a file that nothing makes is missing.
    """
    with inside("a plan"):
        from humanfriendly import parse_size
        from snakemake.api import SnakemakeApi
        from snakemake.settings.enums import Quietness, RerunTrigger
        from snakemake.settings.types import (
            ConfigSettings,
            DAGSettings,
            OutputSettings,
            ResourceSettings,
            WorkflowSettings,
        )

    profile = yaml.safe_load((root / "profiles/default/profile.yaml").read_text(encoding="utf-8"))
    settings = DAGSettings(
        forceall=everything,
        rerun_triggers={RerunTrigger.parse_choice(t) for t in profile["rerun-triggers"]},
        max_checksum_file_size=parse_size(profile["max-checksum-file-size"]),
        force_incomplete=profile["rerun-incomplete"],
    )
    heard = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            _scheduler_as_it_was(),
            contextlib.redirect_stderr(heard),
            SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api,
        ):
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=cores),
                config_settings=ConfigSettings(configfiles=[config.resolve()], config=dict(overlay or {})),
                workflow_settings=WorkflowSettings(),
                snakefile=root / "Snakefile",
                workdir=root,
            )
            workflow.dag(settings).execute_workflow(executor="dryrun")
            with inside("the plan"):
                return planned_jobs(workflow._workflow), dict(workflow._workflow.global_resources)
    except Exception as error:
        raise PlanError(f"{heard.getvalue()}Snakemake cannot plan {config}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)


# ----------------------------------------------------------------------------------------------------- the command line

# Attributes of Snakemake's own parser: what options mean is said in no other place. Whatever else is given (conda
# environments,
# retries, a scheduler) runs the whole study.
PARTS = ("targets", "until", "omit_from", "batch", "target_jobs", "allowed_rules")
LOOKS = (
    "dryrun", "unlock", "list_conda_envs", "lint", "summary", "detailed_summary", "dag", "rulegraph", "filegraph",
    "d3dag", "list_rules", "list_target_rules", "list_changes", "list_input_changes", "list_params_changes",
    "list_untracked", "report", "print_compilation",
)  # fmt: skip
ELSEWHERE = ("executor", "profile", "software_deployment_method", "use_conda", "use_apptainer")
NO_RUN = (
    *LOOKS, "touch", "conda_create_envs_only", "conda_cleanup_envs", "archive", "cleanup_metadata", "cleanup_shadow",
    "delete_all_output", "delete_temp_output", "generate_unit_tests", "containerize", "export_cwl",
)  # fmt: skip


def whole_study(arguments: Sequence[str]) -> bool:
    """Whether Snakemake, given these besides the configuration, makes all tables and figures: no targets and no option
    that runs a part or nothing."""
    return not _given(arguments, PARTS + NO_RUN)


def only_looks(arguments: Sequence[str]) -> bool:
    """Whether Snakemake, given these, starts no job and writes no result, so that it may go beside a run: a dry run, a
    report."""
    return _given(arguments, LOOKS)


def jobs_run_here(arguments: Sequence[str]) -> bool:
    """Whether Snakemake, given these, runs its jobs on this machine and in this interpreter's environment, as far as
    they say so: a profile of the user's may say otherwise."""
    return not _given(arguments, ELSEWHERE)


def _given(arguments: Sequence[str], names: Sequence[str]) -> bool:
    if not arguments:
        return False
    with inside("what the arguments for it mean"):
        from snakemake.cli import get_argument_parser  # seconds, and mostly there are no arguments

        options, _ = get_argument_parser().parse_known_args(list(arguments))
    return any(
        getattr(options, name, None) for name in names
    )  # an option that another version lacks is given by nobody


# -------------------------------------------------------------------------------------------------------- the scheduler


def look_once_a_time_span() -> None:
    """Have all schedulers of this process look for jobs to start once a time span (their rate limit).

    Snakemake 9.27 begins a new endless chain of looks with every job that ends: after a hundred jobs it looks a hundred
    times a second, which takes a fifth of a core, and all the login node has after some thousands. Another version is
    left as it is.
    """
    if is_tested():
        from snakemake.scheduling.job_scheduler import JobScheduler

        JobScheduler._schedule_reevalutation = look_later


@contextlib.contextmanager
def _scheduler_as_it_was() -> Iterator[None]:
    """Within, the Snakefile may change the scheduler; then this process, which runs no jobs, has its own again."""
    if not is_tested():
        yield
        return
    from snakemake.scheduling.job_scheduler import JobScheduler

    before = JobScheduler._schedule_reevalutation
    try:
        yield
    finally:
        JobScheduler._schedule_reevalutation = before


def look_later(scheduler: Any, delay: float) -> None:
    """Have the scheduler look for jobs after `delay` seconds, unless it is going to anyway. Called by the scheduler's
    own thread."""
    if scheduler.__dict__.get("_look_is_due"):
        return
    scheduler._look_is_due = True

    def look() -> None:
        scheduler._look_is_due = False
        scheduler._open_jobs.release()

    timer = threading.Timer(delay, look)
    timer.daemon = True  # the end of a run waits for no look
    timer.start()
