"""The part of the `conda` command that Snakemake uses, for machines that cannot get conda: solving and installing by py-rattler.

    front_end.py env create --file ENVIRONMENT.yaml --prefix FOLDER ...

Also `info --json`, `--version`, `config --get channel_priority --json` and `clean`. CONDA_STAND_IN is the folder with bin/conda,
bin/activate, the package cache and `channel`, which stands for conda-forge.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PLATFORM = "linux-64"
VERSION = "24.7.1"  # the oldest that Snakemake 9 takes
BASE = Path(os.environ["CONDA_STAND_IN"])


def main(words: list[str]) -> int:
    match words:
        case ["--version"]:
            print(f"conda {VERSION}")
        case ["info", *_]:
            print(json.dumps({"conda_prefix": str(BASE), "platform": PLATFORM, "conda_version": VERSION}))
        case ["config", "--get", "channel_priority", *_]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["clean", *_]:
            pass
        case ["env", "create", *options]:
            parser = argparse.ArgumentParser()
            parser.add_argument("--file", type=Path, required=True)
            parser.add_argument("--prefix", type=Path, required=True)
            known, _ = parser.parse_known_args(options)
            create(known.file, known.prefix)
        case _:
            print(f"conda stand-in: cannot do {' '.join(words)}", file=sys.stderr)
            return 2
    return 0


def create(file: Path, prefix: Path) -> None:
    """Solve the file's specs against the channel, install them, then its `pip` list with the new interpreter."""
    import yaml

    whole = yaml.safe_load(file.read_text(encoding="utf-8"))
    if whole["channels"] != ["conda-forge"]:
        raise SystemExit(f"conda stand-in: {file}: the only channel here is conda-forge, not {whole['channels']}")
    specs = [entry for entry in whole["dependencies"] if isinstance(entry, str)]
    wheels = [wheel for entry in whole["dependencies"] if isinstance(entry, dict) for wheel in entry["pip"]]
    asyncio.run(install(specs, prefix))
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as listed:
        listed.write("\n".join(wheels))
        listed.flush()
        pip = [str(prefix / "bin/python"), "-m", "pip", "install", "--quiet", "--no-warn-script-location"]
        subprocess.run([*pip, "--requirement", listed.name], check=True)


async def install(specs: list[str], prefix: Path) -> None:
    import rattler

    virtual = [package.into_generic() for package in rattler.VirtualPackage.detect()]
    channel = (BASE / "channel").as_uri()
    records = await rattler.solve([channel], specs, platforms=[PLATFORM, "noarch"], virtual_packages=virtual)
    await rattler.install(records, target_prefix=prefix, cache_dir=BASE / "packages", show_progress=False)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # py-rattler's threads sometimes crash a normal exit
