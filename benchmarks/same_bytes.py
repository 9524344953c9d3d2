"""Whether two checkouts of the project make the same study: tables byte for byte, safetensors tensor by tensor.

    python benchmarks/same_bytes.py OTHER_CHECKOUT [--configfile configs/smoke.yaml] [--made]

Each checkout runs its own code from nothing in a copy of its tracked files, one after the other; --made: compare the results that
stand in the two checkouts. Files are set beside each other by their name within the study; a file that moved is told, not compared.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--configfile", default="configs/smoke.yaml")
    parser.add_argument("--made", action="store_true", help="compare results that are there already")
    options = parser.parse_args()
    study = yaml.safe_load((ROOT / options.configfile).read_text(encoding="utf-8"))["study"]
    with tempfile.TemporaryDirectory() as scratch:
        folders = [options.other, ROOT]
        if not options.made:
            folders = [
                run(folder, Path(scratch) / name, options.configfile)
                for folder, name in zip(folders, "ab", strict=True)
            ]
        before, after = (contents(folder / "results" / study) for folder in folders)
    return report(before, after)


def run(checkout: Path, copy: Path, config: str) -> Path:
    """A copy of what git has (the index), with its study made."""
    subprocess.run(["git", "checkout-index", "--all", f"--prefix={copy.resolve()}/"], cwd=checkout, check=True)
    command = [sys.executable, "workflow/run.py", "--configfile", config, "--no-report"]
    subprocess.run(command, cwd=copy, check=True)
    return copy


def contents(results: Path) -> dict[str, dict[str, str]]:
    """File -> what is compared of it -> digest: a table as a whole, the tensors of a safetensors file by name."""
    files = {}
    for path in sorted((results / "tables").glob("*.csv")):
        files[str(path.relative_to(results))] = {"table": hashlib.sha256(path.read_bytes()).hexdigest()}
    for path in sorted(results.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = sorted(file.keys())
            tensors = {name: file.get_tensor(name).contiguous() for name in names}
        files[str(path.relative_to(results))] = {
            name: hashlib.sha256(
                repr((t.dtype, tuple(t.shape))).encode() + t.reshape(-1).view(torch.uint8).numpy().tobytes()
            ).hexdigest()
            for name, t in tensors.items()
        }
    return files


def report(before: dict, after: dict) -> int:
    """Prints what differs; 1 where something that both have does, or a table is not in both."""
    differ = [f"{file}: {name}" for file in before.keys() & after.keys()
              for name in before[file].keys() | after[file].keys() if before[file].get(name) != after[file].get(name)]  # fmt: skip
    alone = sorted(before.keys() ^ after.keys())
    shared = before.keys() & after.keys()
    print(f"{sum(file.endswith('.csv') for file in shared)} tables and {sum(len(before[f]) for f in shared if not f.endswith('.csv'))}"
          f" tensors in {sum(not f.endswith('.csv') for f in shared)} files compared; {len(differ)} differ")  # fmt: skip
    for line in sorted(differ):
        print(f"differs: {line}")
    for file in alone:
        print(f"only in {'the other' if file in before else 'this'}: {file}")
    return int(bool(differ) or any(file.endswith(".csv") for file in alone))


if __name__ == "__main__":
    sys.exit(main())
