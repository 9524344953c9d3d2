"""What a rule states of a job's need: memory, disk, GPU memory, minutes."""

from pipeline.costs.facts import Need

RESOURCES = ("mem_mb", "disk_mb", "gpu_mem_mb", "runtime")
LEAST = {"tables": (1500, 30), "model": (2000, 60), "cuda": (6000, 60)}  # MB, minutes
MARGIN = 1.3  # of stated memory over the estimate
SLOWER = 4  # of stated minutes


def stated(need: Need, attempt: int, share: int = 0) -> dict[str, int]:
    """RESOURCES of a job: memory and GPU memory with a margin, disk, minutes. Memory and minutes grow with the attempt.

    share: MB of GPU memory that fall to the job where all cores are busy with jobs on one GPU; what is more than it
    needs lets its batches grow.
    """
    memory, minutes = LEAST["cuda" if need.gpu else "model" if need.model else "tables"]
    return {
        "mem_mb": attempt * max(memory, _up(MARGIN * need.memory, 500)),
        "disk_mb": max(100, _up(1.1 * (need.disk + need.passing), 100)),
        "gpu_mem_mb": max(_up(MARGIN * need.gpu, 500), share if need.gpu else 0),
        "runtime": attempt * max(minutes, _up(need.seconds / 60 * SLOWER + 20, 10)),
    }


def _up(value: float, step: int) -> int:
    return -(-int(value + 0.999) // step) * step
