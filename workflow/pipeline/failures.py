"""Which jobs of a run failed, and the end of their logs."""

import re
from collections import deque
from collections.abc import Iterable
from pathlib import Path

# How the command of a job ended: of that Snakemake keeps no more than a sentence.
EXIT = re.compile(r"^Command '.*' (returned non-zero exit status \d+|died with <Signals\.\w+: \d+>)\.$")
KILLED = (
    "returned non-zero exit status 137",
    "died with <Signals.SIGKILL: 9>",
)  # as a shell tells it, and as Python does
LAST = 15  # lines of a log
WIDTH = 400  # characters of a line
KEPT = 60  # lines of Snakemake's own errors


class Failures:
    """What Snakemake reports of errors."""

    def __init__(self):
        self.jobs: dict[int, tuple[str, str, list[str]]] = {}  # job -> its rule, what was said of it and its log files
        self.errors: deque[str] = deque(maxlen=KEPT)
        self._exits: list[str] = []  # how the commands of jobs ended that failed

    def error(self, text: str) -> None:
        """An error that Snakemake reports in words."""
        for line in text.splitlines():
            if match := EXIT.match(line):
                self._exits.append(match[1])
            if not line.startswith("Command '"):  # repeats the whole shell command
                self.errors.append(line)

    def failed(self, job: int, rule: str, logs: Iterable[str], why: str = "") -> None:
        self.jobs[job] = (rule, why, list(logs))

    def finished(self, job: int) -> None:
        """At a later attempt."""
        self.jobs.pop(job, None)

    def describe(self) -> list[str]:
        """Lines that tell which jobs failed and how their logs end; where none did, the errors that Snakemake
        reported."""
        if not self.jobs:
            return list(self.errors)
        lines = []
        for rule, why, logs in self.jobs.values():
            lines.append(f"error: rule {rule} failed; log: {', '.join(logs) or 'none'}")
            if why:
                lines.append(f"    {why[:WIDTH]}")
            ends = [line for log in logs for line in end_of(Path(log))]
            lines += [f"    {line}" for line in ends]
            if not ends and self._exits:
                lines.append(f"    the log is empty; the command {self._exits[-1]}")
            elif not ends:  # the job never began, or did not make what it should
                lines += [f"    {line[:WIDTH]}" for line in list(self.errors)[-2 * LAST :]]
        if set(self._exits) & set(KILLED):
            lines.append(
                "A job was killed, most often for want of memory: docs/troubleshooting.md, Out of memory, says what"
                " takes less (CORES=1 runs one job at a time)."
            )
        return lines


def end_of(log: Path) -> list[str]:
    """The last lines of a job's log, which holds no prompts and no answers; none where there is no log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return ["".join(c if c.isprintable() else " " for c in line[:WIDTH]) for line in lines[-LAST:]]
