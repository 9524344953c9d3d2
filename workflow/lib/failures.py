"""What Snakemake's output says of jobs that failed, and the end of their logs."""

import re
from collections import deque
from pathlib import Path

RULE = re.compile(r"^ *(?:Error in rule|localrule|rule|checkpoint|localcheckpoint) (\S+):$")
ERROR = re.compile(r"^Error in rule (\S+):$")
JOB = re.compile(r"^ +jobid: (\d+)$")
LOG = re.compile(r"^ +log: (.+) \(check log file\(s\) for error details\)$")
FINISHED = re.compile(r"^Finished jobid: (\d+) ")
EXIT = re.compile(r"^Command '.*' (returned non-zero exit status \d+|died with <Signals\.\w+: \d+>)\.$")
KILLED = (
    "returned non-zero exit status 137",
    "died with <Signals.SIGKILL: 9>",
)  # as a shell tells it, and as Python does
LAST = 15  # lines of a log
WIDTH = 400  # characters of a line
KEPT = 60  # lines of Snakemake's own output
HEADER = re.compile(
    r"SNAKEMAKE$|=+$|  (Date|Workflow ID|Platform|Host|User|Snakemake version|Python version|Command|Snakefile|Base directory"
    r"|Run directory|Working directory|Config file\(s\)|Config MD5): "
)
NOISE = ("Command '", "Select jobs", "Execute ")  # the first repeats the whole shell command


class Failures:
    """Follows Snakemake's output, line by line."""

    def __init__(self):
        self.jobs: dict[str, tuple[str, list[str]]] = {}  # job -> its rule and its log files
        self._exits: list[str] = []  # how the commands of jobs ended that failed
        self.said: deque[str] = deque(maxlen=KEPT)
        self._rule, self._job, self._failed = "", "", False

    def read(self, line: str) -> None:
        line = line.rstrip("\n")
        if not line.startswith(NOISE) and not HEADER.match(line):
            self.said.append(line)
        if match := EXIT.match(line):
            self._exits.append(match[1])
        if match := RULE.match(line):
            self._rule, self._failed = match[1], bool(ERROR.match(line))
        elif match := JOB.match(line):
            self._job = match[1]
            if self._failed:
                self.jobs[self._job] = (self._rule, [])
        elif match := LOG.match(line):  # is said so only of a job that failed, alone or in a group
            self.jobs[self._job] = (self._rule, match[1].split(", "))
        elif match := FINISHED.match(line):  # at a later attempt
            self.jobs.pop(match[1], None)

    def describe(self) -> list[str]:
        """Lines that tell which jobs failed and how their logs end; where none did, how Snakemake's own output ends."""
        if not self.jobs:
            return list(self.said)
        told = []
        for rule, logs in self.jobs.values():
            told.append(f"error: rule {rule} failed; log: {', '.join(logs) or 'none'}")
            ends = [line for log in logs for line in end_of(Path(log))]
            told += [f"    {line}" for line in ends]
            if not ends and self._exits:
                told.append(f"    the log is empty; the command {self._exits[-1]}")
            elif not ends:  # the job never began, or did not make what it should
                told += [f"    {line[:WIDTH]}" for line in list(self.said)[-2 * LAST :]]
        if set(self._exits) & set(KILLED):
            told.append(
                "A job was killed, most often for want of memory: README, Out of memory, says what takes less (CORES=1 runs one job"
                " at a time)."
            )
        return told


def end_of(log: Path) -> list[str]:
    """The last lines of a job's log, which holds no prompts and no answers; none where there is no log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return ["".join(c if c.isprintable() else " " for c in line[:WIDTH]) for line in lines[-LAST:]]
