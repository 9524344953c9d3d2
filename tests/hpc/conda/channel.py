"""A conda channel on this disk with two packages, `python` and `pip`, made from the interpreter that runs this.

    python channel.py FOLDER

It stands for conda-forge where that cannot be reached: the environments of envs/ take these two from conda and the rest, by
version, from the Python package index.
"""

import asyncio
import datetime
import ensurepip
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from rattler.index import index_fs
from rattler_build import assemble_package

PLATFORM = "linux-64"
SERIES = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"lib/python{SERIES}"
LEFT_OUT = ("site-packages", "test", "tests", "__pycache__", "idlelib", "turtledemo", "tkinter", "config-*")


def add_python(channel: Path) -> None:
    """The running interpreter with its standard library, made to find its shared library wherever it is unpacked."""
    base = Path(sys.base_prefix)
    with tempfile.TemporaryDirectory() as name:
        stage = Path(name)
        (stage / "bin").mkdir()
        program = Path(shutil.copy2(base / f"bin/python{SERIES}", stage / "bin"))
        for alias in ("python", "python3"):
            (stage / "bin" / alias).symlink_to(program.name)
        shutil.copytree(base / LIBRARY, stage / LIBRARY, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        (stage / LIBRARY / "site-packages").mkdir()
        (stage / LIBRARY / "site-packages" / "README.txt").write_text("empty\n")
        for shared in (base / "lib").glob(f"libpython{SERIES}.so*"):
            shutil.copy2(shared, stage / "lib", follow_symlinks=False)
        subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/../lib", str(program)], check=True)
        add(channel, "python", ".".join(map(str, sys.version_info[:3])), stage, [])


def add_pip(channel: Path) -> None:
    """The pip that the interpreter carries for new virtual environments."""
    (wheel,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    with tempfile.TemporaryDirectory() as name:
        site = Path(name) / LIBRARY / "site-packages"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        add(channel, "pip", wheel.name.split("-")[1], Path(name), [f"python {SERIES}.*"])


def add(channel: Path, name: str, version: str, stage: Path, depends: list[str]) -> None:
    (channel / PLATFORM).mkdir(parents=True, exist_ok=True)
    assemble_package(
        name=name, version=version, target_platform=PLATFORM, build_string="local_0", output_dir=channel / PLATFORM,
        files_dir=stage, depends=depends, compression_level=1, timestamp=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    )  # fmt: skip


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    (folder / "noarch").mkdir(parents=True, exist_ok=True)
    add_python(folder)
    add_pip(folder)
    asyncio.run(index_fs(folder, force=True))
