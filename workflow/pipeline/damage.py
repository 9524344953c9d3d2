"""A whole study against its sidecars: what `make check` lists, and what `make run` stops at before it plans anything.

Apart from _integrity.py, which every job imports: nothing reruns after an edit here.
"""

import base64
import contextlib
import json
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config_file import MOVING
from safety_geometry.artefacts.integrity import (
    CONFIG,
    SIDECAR,
    Fault,
    IntegrityError,
    advice,
    artefact_of,
    coming,
    content_digest,
    fault_of,
    kind_of,
    read_sidecar,
    remake,
    sidecar,
    study_of,
)

INCOMPLETE = Path(".snakemake/incomplete")  # where Snakemake notes the outputs of jobs that have begun and not ended
NO_ARTEFACTS = ("logs", "benchmarks")  # folders of a study, and of a seed
OF_THE_RUN = ("report.html", "summary.html", "timings.csv", "judge_labels.csv")  # files of a study that no job makes


def name_in_advice(config: Path, root: Path) -> None:
    """Jobs that find damage name the configuration of their study in the command that they advise."""
    os.environ[CONFIG] = os.path.relpath(config, root)


@dataclass
class Contents:
    """What stands in a study: artefacts with a sidecar, sidecars whose artefact is not there, artefacts without a
    sidecar."""

    results: Path
    artefacts: list[Path]
    lost: list[Path]
    loose: list[Path]
    records: dict[Path, dict]  # sidecars that can be read, by artefact

    def inputs(self) -> Iterator[tuple[Path, Path, str]]:
        """(artefact, what it was made from in this study, digest of that then)."""
        for path, record in self.records.items():
            for key, digest in record.get("inputs", {}).items():
                place = key.partition("/")[2]  # of a file from elsewhere its name alone
                if place not in OF_THE_RUN:
                    yield path, self.results / place, digest


@dataclass
class Verdict:
    artefacts: int
    faults: list[Fault]
    edited: list[Path]


def check_study(results: Path, passing: Collection[Path] = ()) -> Verdict:
    """All faults of a study. passing: artefacts that are taken away once they were used.

    Raises IntegrityError when there is no study, or it cannot be listed.
    """
    if not results.is_dir():
        raise IntegrityError(f"there is no study in {results}; make it with `make run`")
    study = _contents(results)
    faults = [fault for path in study.artefacts if (fault := fault_of(path))]
    faults += [_unvouched(path) for path in study.loose]
    faults += [
        Fault(path, f"{path} is not there, though its sidecar is (delete {sidecar(path)} if the study has it no more)")
        for path in study.lost
        if path not in passing
    ]
    faults += _outdated(study, {fault.path for fault in faults})
    edited = [path for path, record in study.records.items() if record.get("edited")]
    return Verdict(len(study.artefacts), faults, edited)


def stop_if_damaged(results: Path, config: str) -> None:
    """Ends with a message where an artefact is not what was written. What is not there, or will be made anew, does not
    count."""
    os.environ[CONFIG] = config
    if not results.is_dir():
        return
    try:
        study = _contents(results)
    except IntegrityError as error:
        sys.exit(f"error: {error}")
    if (path := next(_first_edition(study), None)) is not None:
        sys.exit(
            f"error: {results} was made by the first edition of this project ({path}), and would be remade in part and"
            f" mixed; delete it, or give the study another name ({MOVING})"
        )
    used = {source for _, source, _ in study.inputs()}
    shown = (results / "tables", results / "figures")
    faults = [_unvouched(path) for path in study.loose if path in used or path.parent in shown]
    faults += [fault for path in study.artefacts if (fault := fault_of(path))]
    incomplete = _incomplete()
    if faults := [fault for fault in faults if fault.path not in incomplete]:
        lines = [f"error: {fault.what}" for fault in faults]
        sys.exit("\n".join([*lines, advice(faults), "`make check` looks at the whole study."]))


def _first_edition(study: Contents) -> Iterator[Path]:
    """Artefacts that stand, or are vouched for, as they did then: saves beside the anchors, sidecars that tell no file
    from a folder."""
    for path, record in study.records.items():
        if "kind" not in record or (record.get("script") == "probe_saves.py" and path.parent.name != "saves"):
            yield path


def accept(path: Path) -> str:
    """Let an artefact that was edited on purpose stand: its sidecar gets the new digest, and in `edited` the former
    ones.

    Returns what was done. Raises IntegrityError when it has no sidecar that can be read, or is a folder for a file.
    """
    if study_of(path) is None:
        raise IntegrityError(f"{path} is in no study (results/STUDY/…): no sidecar vouches for it")
    artefact = artefact_of(path)
    now, record, fault = content_digest(artefact, anew=True), read_sidecar(artefact), fault_of(artefact)
    if fault is None:
        return f"{artefact} is what its sidecar says: nothing to accept"
    if not fault.acceptable:
        raise IntegrityError(f"{fault.what}; make it anew with `{remake([artefact])}`")
    record |= {"sha256": now, "kind": kind_of(artefact), "edited": [*record.get("edited", []), record["sha256"]]}
    coming(artefact).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    coming(artefact).replace(sidecar(artefact))
    for touched in (artefact, artefact / ".snakemake_timestamp"):  # which Snakemake takes for the time of a folder
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.utime(touched)  # so that what is below is made anew, also where the editor kept the time
    return f"{artefact} is taken as it is now; `make run` makes anew what depends on it"


def _contents(results: Path) -> Contents:
    artefacts, lost, loose, records = [], [], [], {}
    for folder, names, files in os.walk(results, onerror=_unlisted):
        here = Path(folder)
        top, entries = here == results, {*names, *files}
        vouched = {name.removesuffix(SIDECAR) for name in entries if name.endswith(SIDECAR)}
        artefacts += [here / name for name in sorted(vouched & entries)]
        lost += [here / name for name in sorted(vouched - entries)]
        known = vouched | {name for name in entries if name.startswith(".") or name.endswith(SIDECAR)}
        loose += [here / name for name in sorted({*files} - known - {*(OF_THE_RUN if top else ())})]
        stores = {name for name in names if name == "store" or name.endswith(".store")}
        outside = NO_ARTEFACTS if top or (here.parent == results and here.name.startswith("seed")) else ()
        names[:] = sorted({*names} - known - stores - {*outside})
    for path in (*artefacts, *lost):
        with contextlib.suppress(IntegrityError):
            records[path] = read_sidecar(path)
    study = Contents(results, artefacts, lost, [], records)
    used = {source for _, source, _ in study.inputs()}
    study.loose = list(dict.fromkeys(_whole(path, used) for path in loose))
    return study


def _whole(path: Path, used: set[Path]) -> Path:
    """The folder that was an input of something and that the file is in; else what the file is a part of."""
    return next((parent for parent in reversed(path.parents) if parent in used), artefact_of(path))


def _unvouched(path: Path) -> Fault:
    return Fault(path, f"{path} has no sidecar ({path.name}{SIDECAR}), so that nothing vouches for it")


def _outdated(study: Contents, faulty: Collection[Path]) -> Iterator[Fault]:
    """Artefacts that were made from another content of an input than that which stands there (and is what its sidecar
    says)."""
    for path, source, digest in study.inputs():
        if source in faulty or path in study.lost:
            continue
        if source in study.records:
            now = study.records[source]["sha256"]
        else:
            now = content_digest(source) if source.exists() else digest
        if now != digest:
            yield Fault(path, f"{path} was made from {source} of SHA-256 {digest[:16]}…, which is now {now[:16]}…")


def _incomplete() -> set[Path]:
    """Outputs of jobs that were killed: Snakemake makes them anew."""
    marks = [path.relative_to(INCOMPLETE) for path in INCOMPLETE.rglob("*") if path.is_file()]
    names = ["".join(part.removeprefix("@") for part in mark.parts) for mark in marks]
    decoded = set()
    for name in names:
        with contextlib.suppress(ValueError):
            decoded.add(Path(base64.urlsafe_b64decode(name).decode()))
    return decoded


def _unlisted(error: OSError) -> None:
    raise IntegrityError(f"{error.filename} cannot be listed ({error.strerror})")
