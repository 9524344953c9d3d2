"""`make cluster`: a study on a cluster, from the login node; and `make cluster-recover`, after this program was killed.

Sources and prompt sets are made here, since compute nodes often have no internet; everything else is submitted by Snakemake
with the given profile, and the report is made here. Plain `snakemake --workflow-profile PROFILE` does the same work, but leaves
no note by which a later run could know that jobs of a killed one are still in the queue.
"""

import argparse
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import psutil
import yaml
from run import (
    ROOT,
    RUN_FILE,
    TAG,
    _alive,
    _tagged,
    remove_partial,
    report,
    results_folder,
    stop_if_damaged,
    unlock,
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="config.yaml")
    parser.add_argument("--profile", default="profiles/slurm", help="folder with profile.yaml")
    parser.add_argument("--cores", type=int, default=2, help="for the steps on this machine")
    parser.add_argument(
        "--recover", action="store_true", help="only end the jobs of a killed run and unlock the folder"
    )
    parser.add_argument("--dead", action="store_true", help="the run that another machine began is known to be dead")
    parser.add_argument("--no-report", action="store_true", help="leave out the HTML report")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="overlay of the configuration")
    arguments, extra = parser.parse_known_args()
    os.chdir(ROOT)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode every start takes seconds longer
    if not (path := Path(arguments.profile) / "profile.yaml").is_file():
        sys.exit(f"error: no {path}; give a profile with PROFILE=FOLDER")
    results = results_folder(Path(arguments.configfile), arguments.config)
    config = ["--configfile", arguments.configfile, *(["--config", *arguments.config] if arguments.config else [])]
    here = ["snakemake", *config, "--cores", str(arguments.cores)]
    there = ["snakemake", *config, "--workflow-profile", arguments.profile]

    whole = whole_study(extra)
    if {"-n", "--dry-run", "--dryrun"} & set(extra):
        # A dry run takes itself for one core, and would show every job with one thread.
        return subprocess.run([*there, "--cores", str(CORES), *extra], check=False).returncode
    recover(here, arguments.dead)
    if arguments.recover:
        return 0
    stop_if_damaged(results, arguments.configfile)
    for warning in waits(Path(arguments.profile)):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    run = {
        "id": uuid.uuid4().hex,
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "host": socket.gethostname(),
        "cluster": arguments.profile,
        "within": _job_ids(os.environ),
    }
    RUN_FILE.parent.mkdir(exist_ok=True)
    RUN_FILE.write_text(json.dumps(run), encoding="utf-8")
    SUBMITTED.unlink(missing_ok=True)
    status = execute([*here, *extra, "--until", "fetch_source", "prompt_sets"], run["id"])
    if status == 0:
        status = execute([*there, *extra], run["id"])
    RUN_FILE.unlink()
    if status:
        print("\nThe run stopped. The same command resumes it.", file=sys.stderr)
    elif not arguments.no_report and whole:
        report([*here, *extra], results)
    return status


def execute(command: list[str], run_id: str) -> int:
    """Run Snakemake to its end, also after Ctrl-C, upon which it cancels its jobs."""
    process = subprocess.Popen(command, env=os.environ | {TAG: run_id})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            print("\nstopping ...", flush=True)


def waits(profile: Path) -> list[str]:
    """What of this SLURM's settings may leave a run with the profile waiting for ever for a job that is no more."""
    settings = yaml.safe_load((profile / "profile.yaml").read_text(encoding="utf-8"))
    if settings.get("executor") != "slurm" or settings.get("slurm-status-command") != "squeue":
        return []
    try:
        told = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    slurm = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", told, re.M))
    out = []
    if (age := re.match(r"\d+", slurm.get("MinJobAge", ""))) and int(age[0]) <= LOOKS:
        out.append(
            f"this SLURM forgets a job {age[0]} s after its end (MinJobAge), and squeue is asked every {LOOKS} s at times: a job that"
            " ends in between is waited for for ever. docs/cluster.md, It waits for ever"
        )
    preempt = slurm.get("PreemptMode", "OFF")
    if "CANCEL" in preempt or ("REQUEUE" in preempt and settings.get("slurm-no-requeue")):
        out.append(
            f"this SLURM may preempt jobs (PreemptMode={preempt}); in a partition where it does, one that is not requeued is waited for"
            " for ever. docs/cluster.md, It waits for ever"
        )
    return out


def recover(command: list[str], dead: bool = False) -> None:
    """After a run that was killed: end what is left of it here and in the queue, then take away its lock. The scheduler is asked
    as the profile of that run says.

    dead: do not ask whether a run of another host is alive. Stops with a message if the run is, or may be, at work, and if its
    jobs do not end.
    """
    if RUN_FILE.exists():
        old = json.loads(RUN_FILE.read_text(encoding="utf-8"))
        host = old.get("host", socket.gethostname())
        if host != socket.gethostname() and not dead:
            sys.exit(
                f"error: the last run in this folder was started on {host} (process {old['pid']}), which cannot be seen from"
                " here. Go on there; or, if that process is gone, add --dead (make cluster ARGS=--dead)"
            )
        if host == socket.gethostname() and _alive(old):
            sys.exit(f"error: another run (process {old['pid']}) is at work in this folder; wait for it or stop it")
        # First who submits, then what was submitted. Jobs that run on this very machine are left to their scheduler.
        orphans = [
            p for p in psutil.process_iter() if _tagged(p, old["id"]) and not _scheduled(p, old.get("within", {}))
        ]
        for process in orphans:
            process.kill()
        psutil.wait_procs(orphans, timeout=10)
        cancelled = Queue(Path(old["cluster"])).end_jobs() if "cluster" in old else 0
        print(f"The last run was killed; ended {len(orphans)} process(es) and {cancelled} job(s) of it.", flush=True)
        unlock(command)
        RUN_FILE.unlink()
    remove_partial()


class Queue:
    """What the recovery asks of a scheduler: which jobs of this folder there are, and to end them."""

    def __init__(self, profile: Path):
        if not (path := profile / "profile.yaml").is_file():
            sys.exit(f"error: the run that was killed used {path}, which says how to end its jobs; put it back for now")
        self.profile = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.slurm = self.profile["executor"] == "slurm"

    def end_jobs(self) -> int:
        """Cancel the jobs and wait until they are gone; returns how many there were."""
        jobs = found = self.jobs()
        if jobs:
            cancel = "scancel" if self.slurm else self.profile["cluster-generic-cancel-cmd"]
            _ask(f"{cancel} {shlex.join(jobs)}")
        until = time.monotonic() + PATIENCE
        while jobs := self.jobs():
            if time.monotonic() > until:
                sys.exit(f"error: jobs {' '.join(jobs)} do not end; end them by hand, then give this command again")
            time.sleep(2)
        return len(found)

    def jobs(self) -> list[str]:
        """Ids of the jobs of this folder that wait or run."""
        if (
            self.slurm
        ):  # by name and folder: a job that was submitted in the moment of the kill is in no note of Snakemake's
            prefix = self.profile.get("slurm-jobname-prefix")
            ours = re.compile(f"{re.escape(prefix)}_{UUID}" if prefix else UUID)
            lines = [line.split("|", 2) for line in _ask("squeue --me --noheader --format='%i|%j|%Z'").splitlines()]
            return sorted(jid for jid, name, folder in lines if ours.fullmatch(name) and _same(folder, ROOT))
        # Snakemake's own notes lose the id of a job that has begun: the job's Snakemake writes over them.
        noted = SUBMITTED.read_text(encoding="utf-8").split() if SUBMITTED.exists() else []
        status = self.profile["cluster-generic-status-cmd"]
        return sorted(jid for jid in noted if _ask(f"{status} {shlex.quote(jid)}").strip() == "running")


def _ask(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"error: {command}: {done.stderr.strip() or f'exit status {done.returncode}'}\nJobs of the last run may be in the queue:"
            " give this command where the scheduler can be asked"
        )
    return done.stdout


def _same(folder: str, root: Path) -> bool:
    return Path(folder).resolve() == root.resolve()


def _scheduled(process: psutil.Process, within: dict[str, str]) -> bool:
    """Whether a process is in a job of a scheduler other than the one the run itself was started in."""
    try:
        return _job_ids(process.environ()) != within
    except psutil.Error:
        return False


def _job_ids(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: variables[name] for name in JOB_IDS if name in variables}


if __name__ == "__main__":
    sys.exit(main())
