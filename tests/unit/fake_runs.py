"""`make run`'s program in a small folder of its own, with a stand-in for Snakemake on PATH."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_FILE = ".snakemake/safety-geometry-run.json"
# Says what it is, notes its id, and does what the test says; `job` begins a program that goes on for a minute.
STAND_IN = """#!{python}
import os, signal, subprocess, sys, time
from pathlib import Path
def job():
    return subprocess.Popen(["sleep", "60"])
def note(name, text=""):
    Path(name).write_text(str(text))
if "--unlock" in sys.argv:
    [path.unlink() for path in Path(".snakemake/locks").glob("*")]
    sys.exit()
if "prompt_sets" in sys.argv:
    sys.exit()
{deed}
"""
# Runs the logger plugin as Snakemake would: three jobs are planned; `plugin.do(n, "a")` does one, `plugin.close()` is the end.
PLAN = f"""
sys.path.append({str(Path(__file__).parent)!r})
from plugin_records import Plugin
plugin = Plugin.of(sys.argv)
plugin.plan(Path("results/smoke"), {{"a": 2, "all": 1}})
"""


class Folder:
    """The project's part that `make run` needs before Snakemake, copied."""

    def __init__(self, path: Path):
        self.path = path
        for name in (
            "workflow/pipeline",
            "workflow/snakemake_logger_plugin_safety_geometry",
            "src",
        ):
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("workflow/run.py", "workflow/cluster.py", "configs/smoke.yaml", "config.yaml"):
            (path / name).parent.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
        (path / "there").mkdir()
        (path / "there/profile.yaml").write_text("executor: slurm\n")
        self.log = path / "results/smoke/logs/snakemake.log"

    def stand_in(self, deed: str) -> None:
        program = self.path / "bin/snakemake"
        program.parent.mkdir(exist_ok=True)
        program.write_text(STAND_IN.format(python=sys.executable, deed=deed), encoding="utf-8")
        program.chmod(0o755)

    def start(self, *arguments: str, program: str = "run", **variables: str) -> subprocess.Popen:
        """In a session of its own, its two streams in one."""
        path = f"{self.path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [sys.executable, f"workflow/{program}.py", "--configfile", "configs/smoke.yaml", *arguments],
            cwd=self.path, env=os.environ | {"PATH": path} | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, encoding="utf-8", start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str, **options: str) -> tuple[int, str]:
        """Exit status and what was said."""
        process = self.start(*arguments, **options)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def leave_note(self, **changes: object) -> None:
        note = {"id": "1" * 32, "pid": 2**22 + 1, "started": 1.0} | changes
        (self.path / ".snakemake").mkdir(exist_ok=True)
        (self.path / RUN_FILE).write_text(json.dumps(note))

    @property
    def noted(self) -> bool:
        return (self.path / RUN_FILE).exists()


def ended(process: subprocess.Popen, *signals: int, after: Callable[[], bool]) -> tuple[int, str]:
    """Send signals to a program alone, the first after something has come about and each later one half a second on."""
    wait_for(after)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.5)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
