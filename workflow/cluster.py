"""`make cluster`: a study on a cluster, from the login node; and `make cluster-recover`, after this program was killed.

Sources and prompt sets are made here, since compute nodes often have no internet; everything else is submitted by
Snakemake with the given profile, and the report is made here. Plain `snakemake --workflow-profile PROFILE` does the
same work; killed, it leaves a note by which a later run knows that its jobs may be in the queue, but not how to end
them.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import yaml
from pipeline.at_work import (
    RUN_FILE,
    begin,
    kill,
    members,
    recover,
    refuse_if_alive,
)
from pipeline.supervise import Supervisor, say
from run import (
    ROOT,
    argument_parser,
    check_places,
    execute,
    only_looks,
    read_arguments,
    report,
    settle_caches,
    stop_if_damaged,
    stopped_by_keys,
    summary,
    whole_study,
)

PATIENCE = 180  # seconds until cancelled jobs have to be gone
LOOKS = 180  # seconds between two looks of the SLURM plugin at the queue, at the most: they grow while nothing ends
CORES = 1024  # more than a job asks for
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # of a run, in the names of its SLURM jobs
# What schedulers tell a process of the job that it is in.
JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
SUBMITTED = Path(".snakemake/submitted")  # ids that the submit command of profiles/cluster-generic noted


def main() -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--profile", default="profiles/slurm", help="folder with profile.yaml")
    parser.add_argument(
        "--recover", action="store_true", help="only end the jobs of a killed run and unlock the folder"
    )
    arguments, extra, config, results = read_arguments(parser)
    if not (path := Path(arguments.profile) / "profile.yaml").is_file():
        sys.exit(f"error: no {path}; give a profile with PROFILE=FOLDER")
    local = ["snakemake", *config, "--cores", str(arguments.cores)]
    submitting = ["snakemake", *config, "--workflow-profile", arguments.profile]
    whole = whole_study(extra)
    if only_looks(extra):
        settle_caches()
        # A dry run takes itself for one core, and would show every job with one thread.
        return subprocess.run([*submitting, "--cores", str(CORES), *extra], check=False).returncode
    check_places(results)
    recover(local, arguments.dead, lambda note: end(note, arguments.profile))
    if arguments.recover:
        return 0
    stop_if_damaged(results, arguments.configfile)
    refuse_arrays(path, extra)
    for warning in waits(Path(arguments.profile)):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    within = _job_ids(os.environ)
    run = begin(cluster=arguments.profile, within=within)
    supervisor = Supervisor(run["id"], lambda process: not _scheduled(process, within))
    try:
        SUBMITTED.unlink(missing_ok=True)
        with supervisor:
            prepare = [*local, *extra, "--until", "fetch_source", "prompt_sets"]
            status = execute(prepare, supervisor, results, first=True)
            if status == 0 and not supervisor.signal:
                status = execute([*submitting, *extra], supervisor, results)
    finally:
        close(run, supervisor)
    if status == 0 and not arguments.no_report and whole:
        report([*local, *extra], results)
        summary(config, results)
    return status


def close(run: dict, supervisor: Supervisor) -> None:
    """Take away the note of a run, unless jobs of it may be left: a Snakemake that was killed has cancelled none."""
    if supervisor.lost or any(map(supervisor.ours, members(run["id"]))):
        say("Jobs of the run may be left in the queue; `make cluster` or `make cluster-recover` ends them.", error=True)
    else:
        RUN_FILE.unlink(missing_ok=True)


def refuse_arrays(profile: Path, options: list[str]) -> None:
    """Stop with a message where the profile (its file) or the options ask for SLURM's job arrays."""
    settings = yaml.safe_load(profile.read_text(encoding="utf-8"))
    given = [word.partition("=")[0].removeprefix("--") for word in options if word.startswith("--")]
    for asked, place in ((settings, profile), (given, "ARGS")):
        if "slurm-array-jobs" in asked:
            sys.exit(
                f"error: slurm-array-jobs in {place}: the plugin fails members of an array, and deletes what they made,"
                " when the array's first member fails or takes longer; take the option out. docs/cluster.md, Job arrays"
            )


def waits(profile: Path) -> list[str]:
    """What of this SLURM's settings may leave a run with the profile waiting for ever for a job that is no more."""
    settings = yaml.safe_load((profile / "profile.yaml").read_text(encoding="utf-8"))
    if settings.get("executor") != "slurm" or settings.get("slurm-status-command") != "squeue":
        return []
    try:
        answer = subprocess.run(
            ["scontrol", "show", "config"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=30,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    slurm = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", answer, re.M))
    warnings = []
    if (age := re.match(r"\d+", slurm.get("MinJobAge", ""))) and int(age[0]) <= LOOKS:
        warnings.append(
            f"this SLURM forgets a job {age[0]} s after its end (MinJobAge), and squeue is asked every {LOOKS} s at"
            " times: a job that ends in between is waited for for ever. docs/cluster.md, It waits for ever"
        )
    preempt = slurm.get("PreemptMode", "OFF")
    if "CANCEL" in preempt or ("REQUEUE" in preempt and settings.get("slurm-no-requeue")):
        warnings.append(
            f"this SLURM may preempt jobs (PreemptMode={preempt}); in a partition where it does, one that is not"
            " requeued is waited for for ever. docs/cluster.md, It waits for ever"
        )
    return warnings


def end(note: dict, profile: str) -> str:
    """End what is left of a run here and in the queue, and say how much. The scheduler is asked as the profile of that
    run says; as `profile` says where its note is damaged. Stops with a message if the run is at work, and if its jobs
    do not end."""
    refuse_if_alive(note)
    # First who submits, then what was submitted. Jobs that run on this very machine are left to their scheduler.
    ended = kill(note.get("id"), lambda process: not _scheduled(process, note.get("within", {})))
    submitted = "cluster" in note or not note
    cancelled = Queue(Path(note.get("cluster", profile))).end_jobs() if submitted else 0
    return f"ended {ended} process(es) and {cancelled} job(s) of it"


class Queue:
    """What the recovery asks of a scheduler: which jobs of this folder there are, and to end them."""

    def __init__(self, profile: Path):
        if not (path := profile / "profile.yaml").is_file():
            sys.exit(f"error: the run that was killed used {path}, which says how to end its jobs; put it back for now")
        self.profile = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.slurm = self.profile["executor"] == "slurm"

    def end_jobs(self) -> int:
        """Cancel the jobs and wait until they are gone; returns how many there were."""
        jobs = cancelled = self.jobs()
        if jobs:
            cancel = "scancel" if self.slurm else self.profile["cluster-generic-cancel-cmd"]
            _ask(f"{cancel} {shlex.join(jobs)}")
        until = time.monotonic() + PATIENCE
        while jobs := self.jobs():
            if time.monotonic() > until:
                sys.exit(f"error: jobs {' '.join(jobs)} do not end; end them by hand, then give this command again")
            time.sleep(2)
        return len(cancelled)

    def jobs(self) -> list[str]:
        """Ids of the jobs of this folder that wait or run."""
        # By name and folder: a job that was submitted in the moment of the kill is in no note of Snakemake's.
        if self.slurm:
            prefix = self.profile.get("slurm-jobname-prefix")
            ours = re.compile(f"{re.escape(prefix)}_{UUID}" if prefix else UUID)
            told = _ask("squeue --me --array --noheader --format='%i|%j|%Z'")
            lines = [line.split("|", 2) for line in told.splitlines()]
            return sorted(
                jid for jid, name, folder in lines if ours.fullmatch(name) and Path(folder).resolve() == ROOT.resolve()
            )
        # Snakemake's own notes lose the id of a job that has begun: the job's Snakemake writes over them.
        noted = SUBMITTED.read_text(encoding="utf-8").split() if SUBMITTED.exists() else []
        status = self.profile["cluster-generic-status-cmd"]
        return sorted(jid for jid in noted if _ask(f"{status} {shlex.quote(jid)}").strip() == "running")


def _ask(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        sys.exit(
            f"error: {command}: {done.stderr.strip() or f'exit status {done.returncode}'}\nJobs of the last run may be"
            " in the queue: give this command where the scheduler can be asked"
        )
    return done.stdout


def _scheduled(process: psutil.Process, within: dict[str, str]) -> bool:
    """Whether a process is in a job of a scheduler other than the one the run itself was started in."""
    try:
        return _job_ids(process.environ()) != within
    except psutil.Error:
        return False


def _job_ids(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: variables[name] for name in JOB_IDS if name in variables}


if __name__ == "__main__":
    stopped_by_keys(main)
