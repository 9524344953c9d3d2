"""Snakemake looks for jobs to start once a time span (its rate limit), not once for each job that has ended.

Snakemake 9.27 begins a new endless chain of looks with every job that ends: after a hundred jobs it looks a hundred times a second, which
takes a fifth of a core, and all the login node has after some thousands.
"""

import threading

from snakemake.scheduling.job_scheduler import JobScheduler


def look_once_a_time_span() -> None:
    """For all schedulers of this process."""
    JobScheduler._schedule_reevalutation = look_later


def look_later(scheduler: JobScheduler, delay: float) -> None:
    """Have the scheduler look for jobs after `delay` seconds, unless it is going to anyway. Called by the scheduler's own thread."""
    if scheduler.__dict__.get("_look_is_due"):
        return
    scheduler._look_is_due = True

    def look() -> None:
        scheduler._look_is_due = False
        scheduler._open_jobs.release()

    timer = threading.Timer(delay, look)
    timer.daemon = True  # the end of a run waits for no look
    timer.start()
