"""The plumbing of every script: arguments, atomic outputs and provenance sidecars. `_model.py` has that of models.

A script declares the names of its input and output files; each becomes an option that takes a path.
Everything else that the result depends on arrives as one JSON object in ``--params``, so that Snakemake's
`params` trigger sees exactly what the job sees, and the printed command can be rerun by hand.
What is read is hashed before the work begins, and has to be what its sidecar says (artefacts/integrity.py).
"""

import argparse
import contextlib
import copy
import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from types import TracebackType

from safety_geometry.artefacts import jsonl
from safety_geometry.artefacts.disk import make_folder, remove, writing
from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.integrity import (
    IntegrityError,
    advice,
    coming,
    content_digest,
    faults_of,
    kind_of,
    place,
    sidecar,
)

PACKAGES = ("torch", "transformers", "peft", "safetensors", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib")


class JobError(SystemExit):
    """Bad input. Ends the script with exit status 1 and a message of what is wrong, where, and what to do."""

    def __init__(self, message: str):
        super().__init__(f"error: {message}")


class Job:
    """Parsed command line of one rule script: attributes for the files, `params` for the rest."""

    def __init__(self, doc: str, inputs: Iterable[str] = (), outputs: Iterable[str] = ()):
        """`inputs` and `outputs` are names of options; a trailing ``*`` takes several paths, a trailing ``?`` none or
        one."""
        parser = argparse.ArgumentParser(
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            fromfile_prefix_chars="@",  # @FILE: its lines are arguments, where they are too many for a command
        )
        for name in (*inputs, *outputs):
            parser.add_argument(
                f"--{name.rstrip('*?').replace('_', '-')}", type=Path, metavar="FILE",
                **({"nargs": "*", "default": []} if name.endswith("*") else {"required": not name.endswith("?")}),
            )  # fmt: skip
        parser.add_argument("--params", type=json.loads, default={}, metavar="JSON", help="settings of the rule")
        parser.add_argument("--code", default="", help="digest of the code, recorded in the sidecars")
        parser.parse_args(namespace=self)
        sys.excepthook = self._end
        logging.basicConfig(format="%(message)s")
        logging.getLogger("safety_geometry").setLevel(logging.INFO)
        self.inputs = [name.rstrip("*?") for name in inputs]
        self.model_folder: Path | None = None  # of the model that is loaded
        self.batches: list = []  # BatchSize: where other rows were used than asked for, the sidecars say so
        self.gpu_memory: Callable[[], dict] = dict  # MB of a GPU, given and seen; set, as `grows`, with the device
        self.grows = False  # whether batches may become larger than asked for
        self.graphs: str | None = None  # how blocks are run, where settings ask for graphs
        for name, path in self._files(self.inputs):
            if not path.exists():
                raise JobError(f"--{name}: {path} does not exist; run the rule that makes it")
        self._digests = self._verified()

    def _verified(self) -> dict[Path, str]:
        """Digests of all inputs. Raises JobError with file, expectation and remedy where one is not what was
        written."""
        paths = [path for _, path in self._files(self.inputs)]
        with explained(IntegrityError):
            if faults := faults_of(paths):
                raise JobError(f"{'; '.join(fault.what for fault in faults)}; {advice(faults)}")
            return {path: content_digest(path) for path in paths}

    def _end(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """An ArtefactError that nothing caught ends the job with its sentence, whatever it was at, and so does a model
        that overflows (`runner.NotFinite`) or whose training diverges."""
        if issubclass(kind, ArtefactError):
            print(f"error: {error}", file=sys.stderr)
        elif issubclass(kind, FloatingPointError) and self.model_folder is not None:
            print(f"error: model {self.model_folder}: {error}", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)

    def _files(self, inputs: Iterable[str]) -> list[tuple[str, Path]]:
        """Every file of these inputs, with the name of its option."""
        values = ((name, getattr(self, name)) for name in inputs)
        lists = ((name, value if isinstance(value, list) else [value]) for name, value in values if value is not None)
        return [(name, path) for name, paths in lists for path in paths]

    def part(self, **inputs: Path | list[Path]) -> "Job":
        """This job where it makes one of several outputs: of these inputs only those named go into it, and into its
        sidecar."""
        part = copy.copy(self)
        vars(part).update(inputs)
        return part

    @contextlib.contextmanager
    def publish(self, path: Path) -> Iterator[Path]:
        """A scratch path beside `path` (file or folder); renamed to it, with a sidecar, when the block succeeds.

        Raises JobError when the disk is full, the place cannot be written to, or an input is no longer what it was.
        """
        scratch = path.with_name(f".{path.name}.partial-{os.getpid()}{path.suffix}")
        with explained(), writing(path):
            make_folder(path.parent)
            try:
                yield scratch
                record = json.dumps(self._record(scratch, path), indent=1, sort_keys=True) + "\n"
                coming(path).write_text(record, encoding="utf-8")
                _replace(scratch, path)
                _replace(coming(path), sidecar(path))
            finally:
                remove(scratch)

    def write(self, path: Path, writer: Callable, *contents: object, **options: object) -> None:
        """`path` by a function of the library: writer(scratch path, *contents, **options)."""
        with self.publish(path) as scratch:
            writer(scratch, *contents, **options)

    def layout_changed(self) -> dict[str, dict[str, int]]:
        """Rows of a forward pass, asked for and used, where memory made them fewer, or a GPU had room for more."""
        return {size.what: {"asked": size.asked, "used": size.rows} for size in self.batches if size.changed}

    def facts(self, inputs: Iterable[str], settings: Iterable[str]) -> dict:
        """What work depends on that reads these inputs and settings: contents, values and the code."""
        files = [[name, content_digest(path)] for name, path in self._files(inputs)]
        return {"files": files, "settings": {name: self.params[name] for name in settings}, "code": self.code}

    def write_json(self, value: object, path: Path) -> None:
        self.write(path, Path.write_text, json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def write_jsonl(self, rows: Iterable[dict], path: Path) -> None:
        with self.publish(path) as scratch:
            jsonl.write_jsonl(rows, scratch)

    def write_table(self, table, path: Path, name: str = "") -> None:
        """CSV of the table of that name, without one of the file's; see safety_geometry.artefacts.tables.files.

        table: a frame, or rows as mappings, of which what one does not have is missing.
        """
        from safety_geometry.artefacts.tables import files  # pandas only where tables are written

        specified = files.table_of(path.with_stem(name) if name else path)
        frame = table if hasattr(table, "columns") else files.frame_of(table, specified)
        with self.publish(path) as scratch:
            files.write_table(frame, scratch, specified)

    def _record(self, scratch: Path, path: Path) -> dict:
        """The sidecar of what `scratch` holds. No time stamp, no path but places in the study: equal runs have equal
        sidecars."""
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
            record["layout_changed"] = changed  # other batches round otherwise
        if memory := self.gpu_memory():
            record["gpu_memory"] = memory
        if self.graphs is not None:
            record["graphs"] = self.graphs
        return record

    def _recorded_inputs(self) -> dict[str, str]:
        """Digest of each input by option and place; others of one name that are outside the study are numbered."""
        recorded: dict[str, str] = {}
        for name, path in self._files(self.inputs):
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
def explained(*kinds: type[Exception], of: object = "", fix: str = "") -> Iterator[None]:
    """Raises JobError with the sentence of an ArtefactError, or of an error of `kinds`; `of` says what it is about, and
    `fix` where to mend an error of `kinds` (with none, an ArtefactError)."""
    try:
        yield
    except (ArtefactError, *kinds) as error:
        advice = fix if isinstance(error, kinds or ArtefactError) else ""
        raise JobError(f"{of}: {error}{advice}" if str(of) else f"{error}{advice}") from error


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
