"""A Snakemake that is waited for, and what Ctrl-C and its like do to it.

The first signal (SIGINT, SIGTERM, SIGHUP) asks all processes of the run to stop, the next kills them. Snakemake and its
jobs are a process group of their own, so that a Ctrl-C of the terminal reaches them once and by way of here; Ctrl-Z
halts them as well.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TextIO

import psutil

from pipeline.at_work import TAG, everyone, kill, members

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 10  # seconds that stopped jobs have to end after their Snakemake has


class Supervisor:
    """Runs Snakemake under a run's id. As a context it takes the signals.

    ours: which processes with the run's id are this machine's to kill.
    """

    def __init__(self, run_id: str, ours: Callable[[psutil.Process], bool] = everyone):
        self.run_id, self.ours = run_id, ours
        self.signal = 0  # the first that came
        self.lost = False  # Snakemake was killed: it cleaned nothing up
        self._killed = False
        self._process: subprocess.Popen | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Supervisor":
        for number in SIGNALS:
            # A caught signal, unlike an ignored one, acts on the programs started here as if nothing had been set.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._stop)
            elif number == signal.SIGINT:
                self._before[number] = signal.signal(number, lambda *_: None)
        self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._halt)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: list[str], read: Callable[[str], None], *descriptors: int) -> int:
        """Wait for Snakemake to end; returns its exit status, negative where a signal killed it.

        read: gets every line of its output. An error in it stops nothing. descriptors: open files that it gets besides.
        """
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                env=os.environ | {TAG: self.run_id},
                process_group=0,
                pass_fds=descriptors,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            sys.exit(
                f"error: {command[0]} cannot be started ({error.strerror}); `make run` makes its environment, .venv"
            )
        if self.signal:  # it came before there was anybody to pass it on to
            self._send(signal.SIGKILL if self._killed else signal.SIGINT)
        reader = threading.Thread(target=self._drain, args=(self._process.stdout, read), daemon=True)
        reader.start()
        status = self._process.wait()
        self.lost |= status < 0
        self._clear(reader)
        self._process = None
        return status

    def _drain(self, output: TextIO, read: Callable[[str], None]) -> None:
        """Read to the end whatever happens: a full pipe would hold Snakemake up for ever."""
        warned = False
        for line in output:
            try:
                read(line)
            except Exception as error:
                if not warned:
                    warned = True
                    say(f"error: the output of the run cannot be kept ({error!r}); the run goes on")

    def _clear(self, reader: threading.Thread) -> None:
        """Jobs end before their Snakemake does. What is left of one that was killed is given a moment, then killed."""
        until = time.monotonic() + (GRACE if self.signal else 1)
        while not self._killed and time.monotonic() < until and any(map(self.ours, members(self.run_id))):
            time.sleep(0.1)
        kill(self.run_id, self.ours)
        reader.join(GRACE)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal = number
            self._send(signal.SIGINT)  # what Snakemake takes for an end now: at SIGTERM it waits for the running jobs
            say("\nStopping: the running jobs are asked to end, which may take a moment. Once more kills them.")
        else:
            self._killed = True
            self._send(signal.SIGKILL)
            # Nobody is waited for here: that would take Snakemake's exit status away.
            for process in members(self.run_id):
                if self.ours(process):
                    with contextlib.suppress(psutil.Error):
                        process.kill()
            say("\nKilled the run and its jobs.")

    def _halt(self, number: int, frame: FrameType | None) -> None:
        self._send(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # until SIGCONT comes
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def say(text: str, error: bool = False) -> None:
    """Print, unless the terminal is gone: a run outlives its reader."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(text, file=stream, flush=True)
    except RuntimeError:  # a signal came while this very stream was written to
        with contextlib.suppress(OSError):
            os.write(stream.fileno(), f"{text}\n".encode(errors="replace"))
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):  # nor may the interpreter fail at its end for what is unwritten
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
