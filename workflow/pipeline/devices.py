"""The GPU of this machine, asked before a run needs it, and its memory, which the jobs share."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ASKED = "SAFETY_GEOMETRY_GPU"  # what `make run` was answered, for the Snakemakes that it starts
POOL = "gpu_mem_mb"  # resource of jobs, and of the run: MB of GPU memory
SPARED = 0.03  # share of the free memory that no job is promised: contexts differ in size
MPS = "/tmp/nvidia-mps"  # where the control daemon listens unless CUDA_MPS_PIPE_DIRECTORY says otherwise
QUESTION = """
import importlib.util, json
if importlib.util.find_spec("torch") is None:
    print("null")
else:
    import torch
    gpus = []
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        gpus.append({"name": torch.cuda.get_device_name(i), "free": free, "total": total})
    print(json.dumps({"built": torch.version.cuda, "torch": torch.__version__, "gpus": gpus}))
"""


@dataclass(frozen=True)
class Card:
    """A GPU: its name, bytes of its memory, and those that nobody held when it was asked."""

    device: str
    name: str
    free: int
    total: int

    @property
    def pool(self) -> int:
        """MB that the jobs of a run may share."""
        return int(self.free * (1 - SPARED) / 1e6)

    def describe(self) -> str:
        shared = ", shared through MPS" if has_mps() else ""
        return f"{self.device} ({self.name}, {self.free / 1e9:.0f} of {self.total / 1e9:.0f} GB free{shared})"


def given_gpus(device: str) -> Card | None:
    """The card of `device`; None for a CPU, and where torch is not installed here. It ends the run before its first job
    where the jobs run here, on a GPU that this machine does not have.

    Asked once, in a process of its own: torch takes seconds and, on a GPU, memory.

    Raises:
        SystemExit: device is cuda, or cuda:N, and there is none; the sentence says what to do.
    """
    if not device.startswith("cuda"):
        return None
    if (known := json.loads(os.environ.get(ASKED, "null"))) and known["device"] == device:
        return Card(**known)
    done = subprocess.run([sys.executable, "-c", QUESTION], capture_output=True, encoding="utf-8", check=True)
    if (seen := json.loads(done.stdout)) is None:
        return None
    number = int(device.partition(":")[2] or 0)
    if number >= len(seen["gpus"]):
        raise SystemExit(f"config error: model.device = {device!r}: {missing(seen)}")
    card = Card(device=device, **seen["gpus"][number])
    os.environ[ASKED] = json.dumps(asdict(card))
    return card


def missing(seen: dict) -> str:
    """Why there is no such GPU, and what to do."""
    if seen["gpus"]:
        return f"this machine has {len(seen['gpus'])} GPU(s), counted from 0; set another device, or cpu"
    if seen["built"] is None:
        return (
            f"this machine has no GPU that torch can use: torch {seen['torch']} of {sys.executable} is built for"
            " the CPU only. Install the CUDA build (docs/howto.md, Use a GPU), or set the device to cpu"
        )
    return (
        f"this machine has no GPU that torch can use, though torch {seen['torch']} is built for CUDA {seen['built']}."
        " `nvidia-smi` has to show one, with a driver for that CUDA, and CUDA_VISIBLE_DEVICES must not hide it; or set"
        " the device to cpu"
    )


def has_mps() -> bool:
    """Whether NVIDIA's multi-process service listens here. CUDA processes then join it by themselves; nothing starts
    it."""
    return (Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or MPS) / "control").exists()


def pooled(arguments: list[str], card: Card | None) -> list[str]:
    """Arguments for Snakemake, with the card's memory as a pool that jobs share, unless they name one."""
    if card is None or any(word.startswith(f"{POOL}=") for word in arguments):
        return arguments
    pool = f"{POOL}={card.pool}"
    for option in ("--resources", "--res"):
        if option in arguments:  # a second one would replace it
            behind = arguments.index(option) + 1
            return [*arguments[:behind], pool, *arguments[behind:]]
    return [*arguments, "--resources", pool]
