"""Snakemake's logger plugin of this project: one progress line instead of a page for each job.

    PYTHONPATH=workflow snakemake --logger safety-geometry …

Snakemake finds it by its name on the Python path. It shows how far the run is and, at the end, which jobs failed and
how their logs end; a whole run leaves timings.csv. All of Snakemake's text is in .snakemake/log. `make run` and
`make cluster` use it too.
"""

import contextlib
import locale
import os
import signal
import sys
from dataclasses import dataclass, field
from logging import ERROR, WARNING, LogRecord
from pathlib import Path

from pipeline.failures import Failures
from pipeline.progress import Memory, Outlook, View, benchmarked, tell, write_timings
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    terminal: int | None = field(
        default=None,
        metadata={
            "help": "Open file descriptor to show the progress at, beside Snakemake's own text (instead of it at"
            " stderr).",
            "type": int,
        },
    )
    failures: Path | None = field(
        default=None, metadata={"help": "File to leave the description of failed jobs in.", "type": Path}
    )
    preparation: bool = field(default=False, metadata={"help": "Say nothing of a start and an end that go well."})


@dataclass
class Begun:
    """A job that runs: its rule, when it began (seconds of the clock), whether here, and its benchmark file."""

    rule: str
    time: float
    here: bool
    benchmark: str | None


class LogHandler(LogHandlerBase):
    """Follows the records of a run, in the thread that Snakemake's logging gives to plugins."""

    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.stream = sys.stderr
        if self.settings.terminal is not None:
            # The real encoding of the terminal, also in Python's UTF-8 mode. A background process may be stopped for
            # writing to it.
            self.stream = os.fdopen(
                self.settings.terminal, "w", encoding=locale.getencoding(), errors="backslashreplace"
            )
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        self.plan: dict[str, int] = {}  # jobs by rule
        self.outlook: Outlook | None = None
        self.view: View | None = None
        self.memory: Memory | None = None
        self.failures = Failures()
        self.begun: dict[int, Begun] = {}
        self.took: dict[str, list[float]] = {}  # seconds of the jobs of a rule
        self.started = self.now = 0.0  # of the run and of the last job that ended, in seconds of the clock
        self._lost = self._closed = False

    @property
    def writes_to_stream(self) -> bool:
        """A plan is shown by Snakemake."""
        return self.settings.terminal is None and not self.common_settings.dryrun

    def emit(self, record: LogRecord) -> None:
        try:
            if not self.common_settings.dryrun:
                self.read(record)
        except Exception as error:  # ends nothing
            if not self._lost:
                self._lost = True
                tell(f"error: the progress of the run cannot be followed ({error!r}); the run goes on", self.stream)

    def read(self, record: LogRecord) -> None:
        match getattr(record, "event", None):
            case LogEvent.WORKFLOW_STARTED:
                self.started = record.created
            case LogEvent.RUN_INFO:
                self.plan = {rule: n for rule, n in record.stats.items() if n and rule != "total"}
            case LogEvent.JOB_INFO:
                self.begun[record.jobid] = Begun(record.rule_name, record.created, record.local, record.benchmark)
                self.shown().began(record.rule_name)
            case LogEvent.JOB_FINISHED:
                self.finished(record.job_id, record.created)
            case LogEvent.JOB_ERROR:
                self.failures.failed(record.jobid, record.rule_name, record.log, record.rule_msg or "")
                self.shown().failed(record.rule_name)
            case LogEvent.ERROR:
                self.failures.error(record.getMessage())
            case None if outlook := getattr(record, "outlook", None):
                self.outlook = outlook
                self.started = record.created
                if self.plan and not self.settings.preparation:
                    tell(outlook.describe(sum(self.plan.values())), self.stream)
            case None if record.levelno >= ERROR:
                self.failures.error(record.getMessage())
            case None if record.levelno >= WARNING and self.writes_to_stream:
                tell(record.getMessage(), self.stream)

    def shown(self) -> View:
        """The view, from the first job on."""
        if self.view is None:
            seconds = self.outlook.seconds if self.outlook else {}
            self.view = View(self.plan, seconds, self.stream, self.settings.preparation)
            self.memory = Memory()
        return self.view

    def finished(self, job: int, now: float) -> None:
        begun = self.begun.pop(job)
        seconds = None if begun.here else benchmarked(begun.benchmark)
        self.took.setdefault(begun.rule, []).append(now - begun.time if seconds is None else seconds)
        self.failures.finished(job)
        self.now = now
        self.shown().finished(begun.rule)

    def close(self) -> None:
        """Snakemake is at its end, well or not. It calls this more than once."""
        if not self._closed and not self.common_settings.dryrun:
            self._closed = True
            if self.view is not None:
                self.view.close()
                self.memory.stop()
            self.end()
            with contextlib.suppress(OSError):
                self.stream.flush()
        super().close()

    def end(self) -> None:
        """Say how the run ended."""
        stopped = sys.exc_info()[1]  # by the Snakefile, with a sentence that Python prints to stderr
        if self.settings.failures and isinstance(stopped, SystemExit) and isinstance(stopped.code, str):
            self.failures.error(stopped.code)
        if self.view is not None and self.view.ended:
            self.done()
        elif lines := self.failures.describe():
            if self.settings.failures:
                with contextlib.suppress(OSError):
                    self.settings.failures.write_text("\n".join(lines) + "\n", encoding="utf-8")
            else:
                tell("\n".join(lines), self.stream)
        elif self.started and not self.plan and stopped is None and not self.settings.preparation:
            tell("Nothing to do: all results are up to date.", self.stream)

    def done(self) -> None:
        if self.settings.preparation:
            return
        if self.outlook and (why := write_timings(self.took, self.outlook.results / "timings.csv")):
            tell(why, self.stream)
        memory = ""
        if self.outlook and self.outlook.minutes is not None:
            memory = f"; peak memory {self.memory.peak / 2**30:.1f} GiB"
        tell(f"Done in {(self.now - self.started) / 60:.1f} min{memory}.", self.stream)
