"""What every rule script needs: arguments, atomic outputs and provenance sidecars.

A script declares the names of its input and output files; each becomes an option that takes a path.
Everything else that the result depends on arrives as one JSON object in ``--params``, so that Snakemake's
`params` trigger sees exactly what the job sees, and the printed command can be rerun by hand.
"""

import argparse
import contextlib
import csv
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

SIDECAR = ".provenance.json"
PACKAGES = ("torch", "transformers", "peft", "safetensors", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib")


class JobError(SystemExit):
    """Bad input. Ends the script with exit status 1 and a message of what is wrong, where, and what to do."""

    def __init__(self, message: str):
        super().__init__(f"error: {message}")


class Job:
    """Parsed command line of one rule script: attributes for the files, `params` for the rest."""

    def __init__(self, doc: str, inputs: Iterable[str] = (), outputs: Iterable[str] = ()):
        """`inputs` and `outputs` are option names; a trailing ``*`` takes several paths, a trailing ``?`` none or one."""
        parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.inputs, self.outputs = [], []
        for names, known in ((inputs, self.inputs), (outputs, self.outputs)):
            for name in names:
                plain = name.rstrip("*?")
                known.append(plain)
                many = name.endswith("*")
                parser.add_argument(
                    f"--{plain.replace('_', '-')}", dest=plain, type=Path, nargs="*" if many else None,
                    default=[] if many else None, required=not name.endswith(("*", "?")), metavar="FILE",
                )  # fmt: skip
        parser.add_argument("--params", type=json.loads, default={}, metavar="JSON", help="settings of the rule")
        parser.add_argument("--code", default="", help="digest of the code, recorded in the sidecars")
        arguments = parser.parse_args()
        self.params: dict = arguments.params
        self.code: str = arguments.code
        self.batches: list = []  # BatchSize: where memory makes them smaller, the sidecars of what comes out say so
        for name in (*self.inputs, *self.outputs):
            setattr(self, name, getattr(arguments, name))
        for name in self.inputs:
            for path in self._paths(name):
                if not path.exists():
                    raise JobError(f"--{name}: {path} does not exist; run the rule that makes it")

    def _paths(self, name: str) -> list[Path]:
        value = getattr(self, name)
        return value if isinstance(value, list) else [value] if value is not None else []

    @contextlib.contextmanager
    def publish(self, path: Path) -> Iterator[Path]:
        """A scratch path beside `path` (file or folder); renamed to it, with a sidecar, when the block succeeds."""
        scratch = path.with_name(f".{path.name}.partial-{os.getpid()}{path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            _replace(scratch, path)
        except OSError as error:
            if error.errno == 28:
                raise JobError(f"no space left on the disk while writing {path}; free some and run again") from error
            raise
        finally:
            _remove(scratch)
        self._sidecar(path)

    def layout_changed(self) -> dict[str, dict[str, int]]:
        """Rows of a forward pass, asked for and used, where memory made them fewer."""
        return {b.what: {"asked": b.asked, "used": b.rows} for b in self.batches if b.changed}

    def write_json(self, value: object, path: Path) -> None:
        with self.publish(path) as scratch:
            scratch.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def write_jsonl(self, rows: Iterable[dict], path: Path) -> None:
        with self.publish(path) as scratch, scratch.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def write_table(self, frame, path: Path) -> None:
        """CSV, six significant digits, empty cell for a missing value; checked against workflow/schemas/tables/."""
        from _tables import check_table  # pandas only where tables are written

        check_table(frame, path.stem)
        with self.publish(path) as scratch:
            frame.to_csv(scratch, index=False, float_format="%.6g", quoting=csv.QUOTE_MINIMAL, lineterminator="\n")

    def _sidecar(self, path: Path) -> None:
        """No time stamp and no absolute path: equal runs have equal sidecars."""
        record = {
            "artefact": path.name,
            "sha256": digest(path),
            "script": Path(sys.argv[0]).name,
            "code": self.code,
            "params": self.params,
            "inputs": {f"{name}/{p.name}": recorded_digest(p) for name in self.inputs for p in self._paths(name)},
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
            "python": sys.version.split()[0],
        }
        if changed := self.layout_changed():
            record["layout_changed"] = changed  # smaller batches for want of memory round otherwise
        sidecar(path).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def sidecar(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and digests of a folder's files."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        lines = "".join(f"{p.relative_to(path)} {digest(p)}\n" for p in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def recorded_digest(path: Path) -> str:
    """The digest in the artefact's sidecar; hashes the file where there is none (a file of the project)."""
    beside = sidecar(path)
    return json.loads(beside.read_text(encoding="utf-8"))["sha256"] if beside.exists() else digest(path)


def read_jsonl(path: Path) -> list[dict]:
    """Rows of a JSON Lines file. Raises JobError with file and line when one is not JSON."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise JobError(f"{path}, line {number}: not a JSON object ({error.msg})") from error
    return rows


def _version(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _replace(scratch: Path, path: Path) -> None:
    if path.is_dir():
        _remove(path)
    os.replace(scratch, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        import shutil

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
