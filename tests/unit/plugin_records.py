"""The logger plugin, and records as Snakemake's logging hands them to it (tests of the plugin see that they are Snakemake's)."""

import logging
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

from pipeline.progress import Outlook
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_safety_geometry import LogHandler, LogHandlerSettings


class Plugin:
    """What a Snakemake does with the plugin from its start to its end."""

    def __init__(self, dryrun: bool = False, **settings: object):
        self.handler = LogHandler(SimpleNamespace(dryrun=dryrun), LogHandlerSettings(**settings))

    @classmethod
    def of(cls, words: Sequence[str]) -> "Plugin":
        """With the settings of a command line of `make run`."""
        given = {name: word for name, word in pairwise(words) if name.startswith("--logger-")}
        settings = {name.removeprefix("--logger-safety-geometry-"): word for name, word in given.items()}
        return cls(terminal=int(settings["terminal"]), failures=Path(settings["failures"]))

    def emit(self, event: LogEvent | None, text: str = "", level: int = logging.INFO, **more: object) -> None:
        record = {"msg": text, "levelno": level, "created": time.time()} | more
        self.handler.emit(logging.makeLogRecord(record | ({"event": event} if event else {})))

    def plan(self, results: Path, jobs: dict[str, int], minutes: float | None = 0.5, **seconds: float) -> None:
        self.emit(LogEvent.WORKFLOW_STARTED)
        self.emit(LogEvent.RUN_INFO, stats=jobs | {"total": sum(jobs.values())})
        self.emit(None, outlook=Outlook("mine", "cpu", results, seconds, minutes))

    def begin(self, job: int, rule: str, here: bool = True, benchmark: str | None = None, **more: object) -> None:
        self.emit(LogEvent.JOB_INFO, jobid=job, rule_name=rule, local=here, benchmark=benchmark, **more)

    def finish(self, job: int, **more: object) -> None:
        self.emit(LogEvent.JOB_FINISHED, job_id=job, **more)

    def do(self, job: int, rule: str) -> None:
        self.begin(job, rule)
        self.finish(job)

    def fail(self, job: int, rule: str, *logs: str, why: str | None = None) -> None:
        self.emit(LogEvent.JOB_ERROR, level=logging.ERROR, jobid=job, rule_name=rule, log=list(logs), rule_msg=why)

    def error(self, text: str) -> None:
        self.emit(LogEvent.ERROR, text, logging.ERROR, exception="WorkflowError")

    def close(self) -> None:
        self.handler.close()
