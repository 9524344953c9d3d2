"""A SLURM cluster of one node for the tests: munged, slurmctld and slurmd, started without systemd.

Everything lives in one folder with ports and a key of its own, so that a SLURM that the machine may have is left alone:
the clients find this one through SLURM_CONF. Its partitions are `cpu`, `gpu`, `short` (an hour) and `long`. It pretends to have
more cores and memory than the machine, and its two GPUs are copies of /dev/null: SLURM gives them to jobs and sets
CUDA_VISIBLE_DEVICES, nothing more. Two more nodes, node17 and node18, are names that are down. There is no accounting, and
memory limits are not enforced; time limits are.

    sudo tests/hpc/install_slurm.sh           # Debian's packages
    python tests/hpc/slurm_node.py FOLDER     # a shell in which sbatch, squeue and scancel reach it; `exit` ends it
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
CPUS, MEMORY_MB, GPUS = 16, 200_000, 2
SBIN = "/usr/sbin:/sbin"


class NodeError(RuntimeError):
    """The node does not come up; the message has the end of its logs."""


def missing() -> list[str]:
    """What the node needs and this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None] + (
        [] if os.geteuid() == 0 else ["root (slurmd starts jobs as their user)"]
    )


@contextlib.contextmanager
def slurm_node(folder: Path) -> Iterator[dict[str, str]]:
    """Start the node in `folder` (made if missing); yields the environment variables that lead clients to it.

    Raises NodeError when a daemon does not answer within half a minute. On leaving, running jobs are cancelled and the daemons
    ended.
    """
    folder = folder.resolve()
    for name in ("state", "spool", "gpus", "bin"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path = f"{folder / 'bin'}:{os.environ.get('PATH', '')}:{SBIN}"
    variables = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    environment = os.environ | variables
    write_configuration(folder)
    started: list[subprocess.Popen] = []

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("w") as log:
            started.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                 start_new_session=True)
            )  # fmt: skip

    def answers(*command: str, pattern: str = "") -> bool:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode == 0 and re.search(pattern, done.stdout) is not None

    try:
        start(
            "munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key",
            f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munged.log",
        )  # fmt: skip
        wait_for(lambda: (folder / "munge.socket").exists(), "munged", folder)
        start("slurmctld", "-D", "-f", variables["SLURM_CONF"])
        wait_for(lambda: answers("scontrol", "ping", pattern="is UP"), "slurmctld", folder)
        start("slurmd", "-D", "-f", variables["SLURM_CONF"])
        wait_for(lambda: answers("sinfo", "-h", "-o", "%T", pattern="idle"), "slurmd", folder)
        yield variables
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True, check=False)
        with contextlib.suppress(NodeError):
            wait_for(lambda: answers("squeue", "-h", pattern=r"\A\Z"), "squeue", folder, seconds=15)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def write_configuration(folder: Path) -> None:
    host = socket.gethostname().split(".")[0]
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    folder.chmod(0o755)  # munged refuses folders that others may write to
    for number in range(GPUS):
        device = folder / "gpus" / str(number)  # slurmd wants a device file; what it is a device of does not matter
        if not device.exists():
            os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/gpus/[0-{GPUS - 1}]\n")
    # Within a job Snakemake takes SLURM's variables away before it calls srun, SLURM_CONF too.
    (folder / "bin" / "srun").write_text(
        f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
    )
    (folder / "bin" / "srun").chmod(0o755)
    controller, node = free_ports(2)
    (folder / "slurm.conf").write_text(f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# No systemd and perhaps no cgroups: processes of a job are found by their parents.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
# Act at once: what a large cluster batches, a test waits for.
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
KillWait=3
# Longer than SLURM's 300 s: the tests themselves ask for the states of jobs that ended minutes ago.
MinJobAge=3600
# More cores and memory than the machine has, so that the real profile's jobs fit.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory={MEMORY_MB} Gres=gpu:{GPUS} State=UNKNOWN
NodeName=node[17-18] NodeAddr=127.0.0.[17-18] State=DOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} Default=NO MaxTime=INFINITE State=UP
PartitionName=short Nodes={host} Default=NO MaxTime=60 State=UP
PartitionName=long Nodes={host} Default=NO MaxTime=INFINITE State=UP
""")


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(condition: Callable[[], bool], what: str, folder: Path, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            logs = [p for p in (folder / f"{what}.out", folder / f"{what}.log") if p.exists()]
            told = "\n".join(f"{p.name}: {p.read_text()[-1500:]}" for p in logs)
            raise NodeError(f"{what} does not answer after {seconds:.0f} s\n{told}")
        time.sleep(0.2)


if __name__ == "__main__":
    if lacking := missing():
        sys.exit(f"error: no {', '.join(lacking)}; run tests/hpc/install_slurm.sh")
    with slurm_node(Path(sys.argv[1])) as found:
        sys.exit(subprocess.run([os.environ.get("SHELL", "bash")], env=os.environ | found, check=False).returncode)
