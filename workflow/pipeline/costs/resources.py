"""What a rule states of a job's need: memory, disk, GPU memory, minutes."""

from pipeline.costs.facts import Need

RESOURCES = ("mem_mb", "disk_mb", "gpu_mem_mb", "runtime")
LEAST = {"tables": 1500, "model": 2000, "cuda": 6000}  # MB
MARGIN = 1.3  # of stated memory over the estimate
SLOWER = 4  # of stated minutes


def stated(need: Need, attempt: int) -> dict[str, int]:
    """RESOURCES of a job: memory and GPU memory with a margin, disk, minutes. Memory and minutes grow with the
    attempt."""
    least = LEAST["cuda" if need.gpu else "model" if need.model else "tables"]
    return {
        "mem_mb": attempt * max(least, _up(MARGIN * need.memory, 500)),
        "disk_mb": max(100, _up(1.1 * (need.disk + need.passing), 100)),
        "gpu_mem_mb": _up(MARGIN * need.gpu, 500),
        "runtime": attempt * max(60, _up(need.seconds / 60 * SLOWER + 20, 10)),
    }


def _up(value: float, step: int) -> int:
    return -(-int(value + 0.999) // step) * step
