"""What a job takes of its device: batches, and its part of a GPU that it shares with other jobs of the run."""

import atexit
import os
from collections.abc import Mapping

import torch
from _job import Job

from safety_geometry.models.memory import BatchSize

CONTEXT = 700  # MB that a process holds beside what torch allocates (pipeline/costs/facts.py plans with the same)


def share(job: Job, model: Mapping) -> None:
    """Let torch allocate no more than this job's part (GPU_MEM_MB; 0 or not set: the whole card), so that it runs out
    of memory by itself, where batches are halved, and not its neighbours. The sidecars say what it was given and took.

    model: device, and grow_batches: whether batches may become larger than asked for.
    """
    given, place = int(os.environ.get("GPU_MEM_MB") or 0), torch.device(model.get("device", "cpu"))
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1  # processes of one training keep step, and time no passes
    job.grows = place.type == "cuda" and alone and model.get("grow_batches", False)
    if place.type != "cuda" or not torch.cuda.is_available():
        return
    card = torch.cuda.current_device() if place.index is None else place.index
    if given:
        total = torch.cuda.get_device_properties(card).total_memory / 1e6
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(given - CONTEXT, 1) / total), card)

    def seen() -> dict[str, int]:
        """MB given (0: the whole card), and the most that was held, in hundreds."""
        peak = torch.cuda.max_memory_reserved(card) / 1e6 + CONTEXT
        return {"given_mb": given, "peak_mb": -(-int(peak) // 100) * 100}

    def tell() -> None:
        """Into the job's log, where `make rehearse` finds it (pipeline.costs.check)."""
        print(f"GPU memory at its peak: {torch.cuda.max_memory_reserved(card) / 1e6:.0f} MB", flush=True)

    job.gpu_memory = seen
    atexit.register(tell)


def batch_size(job: Job, what: str, rows: int) -> BatchSize:
    """Rows of a forward pass of this job; where other rows were used, the sidecars of what comes out say so."""
    size = next((size for size in job.batches if size.what == what), None)
    if size is None:
        job.batches.append(size := BatchSize(rows, what, grows=job.grows))
    return size
