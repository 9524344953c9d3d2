"""What every rule script needs: arguments, atomic outputs and provenance sidecars.

A script declares the names of its input and output files; each becomes an option that takes a path.
Everything else that the result depends on arrives as one JSON object in ``--params``, so that Snakemake's
`params` trigger sees exactly what the job sees, and the printed command can be rerun by hand.
What is read is hashed before the work begins, and has to be what its sidecar says (_integrity.py).
"""

import argparse
import contextlib
import csv
import errno
import functools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from _integrity import IntegrityError, advice, coming, content_digest, faults_of, kind_of, place, sidecar

from safety_geometry.disk import disk_full

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
        self._digests = self._verified()

    def _verified(self) -> dict[Path, str]:
        """Digests of all inputs. Raises JobError with file, expectation and remedy where one is not what was written."""
        paths = [path for name in self.inputs for path in self._paths(name)]
        try:
            if faults := faults_of(paths):
                raise JobError(f"{'; '.join(fault.what for fault in faults)}; {advice(faults)}")
            return {path: content_digest(path) for path in paths}
        except IntegrityError as error:
            raise JobError(str(error)) from error

    def _paths(self, name: str) -> list[Path]:
        value = getattr(self, name)
        return value if isinstance(value, list) else [value] if value is not None else []

    @contextlib.contextmanager
    def publish(self, path: Path) -> Iterator[Path]:
        """A scratch path beside `path` (file or folder); renamed to it, with a sidecar, when the block succeeds.

        Raises JobError when the disk is full, the place cannot be written to, or an input is no longer what it was.
        """
        scratch = path.with_name(f".{path.name}.partial-{os.getpid()}{path.suffix}")
        make_folder(path.parent)
        with writing(path):
            try:
                yield scratch
                record = json.dumps(self._record(scratch, path), indent=1, sort_keys=True) + "\n"
                coming(path).write_text(record, encoding="utf-8")
                _replace(scratch, path)
                _replace(coming(path), sidecar(path))
            finally:
                remove(scratch)

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

    def _record(self, scratch: Path, path: Path) -> dict:
        """The sidecar of what `scratch` holds. No time stamp, no path but places in the study: equal runs have equal sidecars."""
        record = {
            "artefact": path.name,
            "kind": kind_of(scratch),
            "sha256": content_digest(scratch),
            "script": Path(sys.argv[0]).name,
            "code": self.code,
            "params": self.params,
            "inputs": self._recorded_inputs(),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
            "python": sys.version.split()[0],
        }
        if changed := self.layout_changed():
            record["layout_changed"] = changed  # smaller batches for want of memory round otherwise
        return record

    def _recorded_inputs(self) -> dict[str, str]:
        """Digest of each input by option and place; others of one name that are outside the study are numbered."""
        recorded: dict[str, str] = {}
        for name in self.inputs:
            for path in self._paths(name):
                key, digest = f"{name}/{place(path)}", self._unchanged(path)
                number = 1
                while recorded.get(key, digest) != digest:
                    number += 1
                    key = f"{name}/{place(path)}#{number}"
                recorded[key] = digest
        return recorded

    def _unchanged(self, path: Path) -> str:
        """Digest of an input, which is still what it was when the job began."""
        try:
            now = content_digest(path)
        except IntegrityError as error:
            raise JobError(f"{error}: it was taken away while this job read it; run again") from error
        if self._digests.setdefault(path, now) != now:
            raise JobError(f"{path} changed while this job read it; run again, and leave it alone meanwhile")
        return now


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises JobError when the disk gets full while `path` is written, or its folder cannot be written to."""
    try:
        yield
    except Exception as error:
        if disk_full(error):
            raise JobError(f"no space left on the disk while writing {path}; free some and run again") from error
        refused = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        if refused and path.parent in Path(error.filename or path).parents:
            raise JobError(f"{path.parent} cannot be written to ({error.strerror}); make it writable") from error
        raise


def make_folder(folder: Path) -> None:
    """Raises JobError when a file stands in its way, or its place cannot be written to."""
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        blocking = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        raise JobError(f"{blocking} is a file where a folder has to be; move it away and run again") from error


def read_jsonl(path: Path) -> list[dict]:
    """Rows of a JSON Lines file. Raises JobError with file and line when one is no JSON object, or the file no UTF-8."""
    rows = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise JobError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise JobError(f"{path}, line {number}: not a JSON object ({error.msg})") from error
            if not isinstance(rows[-1], dict):
                raise JobError(f"{path}, line {number}: not a JSON object but a {type(rows[-1]).__name__}")
    return rows


@functools.cache
def _version(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _replace(scratch: Path, path: Path) -> None:
    """Put `scratch` in the place of `path`, be that a file, a folder or nothing; a folder is never there in part."""
    if path.is_dir() and not path.is_symlink():
        old = path.with_name(f".{path.name}.partial-{os.getpid()}.old")
        path.rename(old)
        scratch.rename(path)
        remove(old)
        return
    if scratch.is_dir():
        path.unlink(missing_ok=True)
    os.replace(scratch, path)


def remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
