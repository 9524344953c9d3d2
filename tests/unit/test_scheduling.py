"""The scheduler's looks for jobs: one is due at a time, and the name that is replaced is the pinned Snakemake's."""

import inspect
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "workflow/lib"))
import scheduling
from snakemake.scheduling.job_scheduler import JobScheduler


class Scheduler:
    def __init__(self):
        self._open_jobs = threading.Semaphore(0)


def test_one_look_however_many_were_asked_for_and_another_when_asked_again():
    scheduler = Scheduler()
    for _ in range(2):
        for _ in range(5):
            scheduling.look_later(scheduler, 0.05)
        assert scheduler._open_jobs.acquire(timeout=5)
        time.sleep(0.2)
        assert not scheduler._open_jobs.acquire(blocking=False)


def test_a_look_that_is_due_keeps_no_process_alive():
    scheduling.look_later(Scheduler(), 60)
    assert all(t.daemon for t in threading.enumerate() if isinstance(t, threading.Timer))


def test_snakemake_asks_for_looks_by_this_name(monkeypatch):
    own = JobScheduler._schedule_reevalutation
    assert list(inspect.signature(own).parameters) == ["self", "delay"]
    assert "_schedule_reevalutation(" in inspect.getsource(JobScheduler.schedule)
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", own)  # put back afterwards
    scheduling.look_once_a_time_span()
    assert JobScheduler._schedule_reevalutation is scheduling.look_later
