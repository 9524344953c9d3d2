"""What is read has to be what was written: damaged artefacts, the index of digests, whole studies, edits on purpose."""

import base64
import errno
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import _job
import numpy as np
import pytest
from _job import Job, JobError
from pipeline import damage
from safetensors import SafetensorError
from safetensors.numpy import save_file

from safety_geometry.artefacts import integrity as _integrity
from safety_geometry.artefacts.activations import Activations
from safety_geometry.artefacts.candidate_scores import (
    CandidateScores,
    Openings,
    RefusalScores,
    read_scores,
    write_scores,
)
from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.integrity import IntegrityError, content_digest, fault_of, sidecar
from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.artefacts.tensor_file import Tensors
from safety_geometry.artefacts.unit_store import UnitStore, content_key

STUDY = Path("results/mine")
TABLE = STUDY / "seed1/judged/sft/step4/judged.csv"
ANSWERS = STUDY / "private/seed1/completions/sft/step4.jsonl"
NONE = STUDY / "private/seed1/sweep/sft/step4/follow_up.jsonl"  # without a row, as it may be
CACHE = STUDY / "seed1/activations/sft/step4.safetensors"
STATE = STUDY / "private/seed1/training/sft/4/state.safetensors"
ADAPTER = STUDY / "seed1/checkpoints/sft/step4"
MODEL = STUDY / "models/base"
SOURCE = STUDY / "private/sources/labels"
CLAIMS = STUDY / "tables/claims.csv"
TENSORS = {"mean.harmful": np.arange(12, dtype=np.float32).reshape(1, 3, 4)}


def job(monkeypatch, inputs: dict[str, Path | list[Path]], *outputs: Path) -> Job:
    words = [f"--{name}={paths}" for name, paths in inputs.items() if isinstance(paths, Path)]
    for name, paths in inputs.items():
        words += [f"--{name}", *map(str, paths)] if isinstance(paths, list) else []
    monkeypatch.setattr(sys, "argv", ["writer.py", *words, "--out", *map(str, outputs), "--code", "c"])
    return Job("", [name + "*" * isinstance(paths, list) for name, paths in inputs.items()], ["out*"])


def put(writer: Job, path: Path, files: dict[str, bytes] | bytes) -> None:
    with writer.publish(path) as scratch:
        if isinstance(files, bytes):
            scratch.write_bytes(files)
            return
        for name, content in files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(content)


def make_study(monkeypatch) -> None:
    """A study of a file of every kind, in the folder that we are in."""
    writer = job(monkeypatch, {})
    put(writer, MODEL, {"config.json": b"{}", "model.safetensors": bytes(range(100))})
    put(writer, ADAPTER, {"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(100)})
    put(writer, SOURCE, {"data/first.csv": b"a,b\n1,2\n", "data/second.csv": b"a,b\n3,4\n"})
    for path in (CACHE, STATE):
        with writer.publish(path) as scratch:
            save_file(TENSORS, scratch, {"positions": "[-1]"})
    put(writer, NONE, b"")
    answers = job(monkeypatch, {"model": MODEL, "adapter": ADAPTER})
    answers.write_jsonl([{"id": "a", "completion": "Bread."}, {"id": "b", "completion": "Wind."}], ANSWERS)
    put(job(monkeypatch, {"completions": ANSWERS}), TABLE, b"id,refused\na,0\nb,1\n")
    put(job(monkeypatch, {"judged": [TABLE], "labels": [SOURCE / "data/first.csv"]}), CLAIMS, b"claim,holds\nc,True\n")


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(_integrity.CONFIG, "config.yaml")
    make_study(monkeypatch)
    return STUDY


def keep_time(change):
    """The same change of a file, after which it has its old times of access and change again."""

    def changed(path: Path) -> None:
        before = path.stat()
        change(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return changed


@keep_time
def flip(path: Path) -> None:
    """Another last bit in a byte in the middle of a file, in place."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)


@keep_time
def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


@keep_time
def empty(path: Path) -> None:
    os.truncate(path, 0)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"")


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def forge(path: Path) -> None:
    record = json.loads(sidecar(path).read_text())
    sidecar(path).write_text(json.dumps(record | {"sha256": "0" * 64}))


DAMAGED = {
    "a byte of a table": (TABLE, flip, "is not what writer.py wrote: its SHA-256 is"),
    "a byte of answers": (ANSWERS, flip, "is not what writer.py wrote"),
    "a byte of activations": (CACHE, flip, "is not what writer.py wrote"),
    "a byte of a training state": (STATE, flip, "is not what writer.py wrote"),
    "a byte of an adapter": (ADAPTER, lambda p: flip(p / "adapter_model.safetensors"), "is not what writer.py wrote"),
    "a byte of a model": (MODEL, lambda p: flip(p / "config.json"), "is not what writer.py wrote"),
    "activations cut off": (CACHE, cut, "is not what writer.py wrote"),
    "a model's weights cut off": (MODEL, lambda p: cut(p / "model.safetensors"), "is not what writer.py wrote"),
    "answers emptied": (ANSWERS, empty, "is empty and not what writer.py wrote"),
    "a table emptied": (TABLE, empty, "is empty and not what writer.py wrote"),
    "a file of a model deleted": (MODEL, lambda p: (p / "config.json").unlink(), "is not what writer.py wrote"),
    "a file put to a model": (MODEL, lambda p: (p / "tokenizer.json").write_text("{}"), "is not what writer.py wrote"),
    "a file of a model renamed": (MODEL, lambda p: (p / "config.json").rename(p / "Config.json"), "is not what"),
    "a row put to a table": (TABLE, lambda p: p.write_bytes(p.read_bytes() + b"c,1\n"), "is not what writer.py wrote"),
    "sidecar emptied": (TABLE, lambda p: empty(sidecar(p)), "judged.csv.provenance.json is empty or damaged"),
    "sidecar of a folder emptied": (MODEL, lambda p: empty(sidecar(p)), "base.provenance.json is empty or damaged"),
    "sidecar deleted": (TABLE, lambda p: sidecar(p).unlink(), "has no sidecar (judged.csv.provenance.json)"),
    "sidecar of a folder deleted": (ADAPTER, lambda p: sidecar(p).unlink(), "has no sidecar (step4.provenance.json)"),
    "sidecar of something else": (TABLE, lambda p: sidecar(p).write_text("[1]"), "is empty or damaged"),
    "sidecar no text": (TABLE, lambda p: sidecar(p).write_bytes(b"\xff\xfe"), "is empty or damaged"),
    "sidecar a folder": (TABLE, lambda p: to_folder(sidecar(p)), "is empty or damaged"),
    "sidecar of another digest": (TABLE, forge, "its sidecar says 0000000000000000"),
    "a folder for a file": (TABLE, to_folder, "is a folder where writer.py wrote a file"),
    "a folder for an empty file": (NONE, to_folder, "is a folder where writer.py wrote a file"),  # of one digest
    "a file for a folder": (MODEL, to_file, "is a file where writer.py wrote a folder"),
    "a pipe for a file": (TABLE, to_pipe, "is neither a file nor a folder"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_artefact_is_refused_with_its_name_and_its_command(study, monkeypatch, name):
    path, spoil, what = DAMAGED[name]
    monkeypatch.setenv("SAFETY_GEOMETRY_CONFIG", "configs/my own.yaml")
    job(monkeypatch, {"read": [path, CACHE]})  # well before
    spoil(path)
    with pytest.raises(JobError) as refused:
        job(monkeypatch, {"read": [path, CACHE]})
    said = str(refused.value)
    folder = "-r " * path.is_dir()
    assert what in said and str(path) in said and "\n" not in said
    assert f"make anew with `rm {folder}{path} && make run CONFIG='configs/my own.yaml' ARGS={path}`" in said
    assert (f"`make accept FILE={path}`" in said) == ("not what writer.py wrote" in said)
    with pytest.raises(SystemExit, match=str(path)):
        damage.stop_if_damaged(study, "config.yaml")


def test_a_file_that_is_read_out_of_a_fetched_folder(study, monkeypatch):
    first, second = SOURCE / "data/first.csv", SOURCE / "data/second.csv"
    job(monkeypatch, {"read": [first]})
    flip(second)  # the folder is one artefact
    with pytest.raises(JobError, match=f"^error: {SOURCE} is not what writer.py wrote.*ARGS={SOURCE}`"):
        job(monkeypatch, {"read": [first]})
    sidecar(SOURCE).unlink()
    with pytest.raises(JobError, match=f"^error: {SOURCE} has no sidecar"):
        job(monkeypatch, {"read": [first]})


def test_files_outside_a_study_need_no_sidecar(study, monkeypatch, tmp_path):
    own = tmp_path / "data/prompts.jsonl"
    own.parent.mkdir()
    own.write_text('{"prompt": "How warm is the sea?"}\n')
    reader = job(monkeypatch, {"read": [own, Path("data/prompts.jsonl")]}, TABLE)
    put(reader, TABLE, b"id\n")
    assert json.loads(sidecar(TABLE).read_text())["inputs"] == {"read/prompts.jsonl": content_digest(own)}


def test_all_that_is_wrong_is_said_at_once(study, monkeypatch):
    flip(TABLE)
    flip(MODEL / "config.json")
    with pytest.raises(JobError, match=rf"{TABLE} is not .*; {MODEL} is not .*`rm -r {TABLE} {MODEL} && make run "):
        job(monkeypatch, {"table": TABLE, "model": MODEL})


# ------------------------------------------------------------------------------------------------------- publishing


def test_inputs_are_recorded_by_their_place_and_equal_studies_have_equal_sidecars(study, monkeypatch, tmp_path):
    both = [TABLE, STUDY / "seed1/judged/sft/step5/judged.csv"]
    put(job(monkeypatch, {}), both[1], b"id,refused\n")
    put(job(monkeypatch, {"judged": both}), CLAIMS, b"claim\n")
    inputs = json.loads(sidecar(CLAIMS).read_text())["inputs"]
    assert inputs == {
        f"judged/{path.relative_to(STUDY)}": content_digest(path) for path in both
    }  # of one name, and both
    text = sidecar(TABLE).read_text()
    assert str(tmp_path) not in text and "mine" not in text
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    make_study(monkeypatch)
    assert sidecar(other / TABLE).read_bytes() == sidecar(tmp_path / TABLE).read_bytes()


def test_an_input_that_changes_under_a_job_is_not_vouched_for(study, monkeypatch):
    reader, before = job(monkeypatch, {"completions": ANSWERS}), TABLE.read_bytes()
    with pytest.raises(JobError, match=f"{ANSWERS} changed while this job read it"):  # noqa: SIM117
        with reader.publish(TABLE) as scratch:
            scratch.write_bytes(b"new")
            flip(ANSWERS)
    assert TABLE.read_bytes() == before and not list(TABLE.parent.glob(".*"))
    flip(ANSWERS)
    reader = job(monkeypatch, {"completions": ANSWERS})
    ANSWERS.unlink()
    with pytest.raises(JobError, match="was taken away while this job read it"):
        put(reader, TABLE, b"new")


@pytest.mark.parametrize(("renamed", "content"), [(0, b"old"), (1, b"new")])
def test_a_job_that_is_killed_between_artefact_and_sidecar_leaves_no_damage(study, monkeypatch, renamed, content):
    put(job(monkeypatch, {}), TABLE, b"old")
    plain, calls = _job._replace, []

    def killed(*paths: Path) -> None:
        calls.append(paths)
        if len(calls) > renamed:
            raise KeyboardInterrupt
        plain(*paths)

    monkeypatch.setattr(_job, "_replace", killed)
    with pytest.raises(KeyboardInterrupt):
        put(job(monkeypatch, {}), TABLE, b"new")
    monkeypatch.setattr(_job, "_replace", plain)
    assert TABLE.read_bytes() == content and fault_of(TABLE) is None
    job(monkeypatch, {"read": [TABLE]})
    flip(TABLE)
    assert fault_of(TABLE) is not None
    put(job(monkeypatch, {}), TABLE, b"new")
    assert fault_of(TABLE) is None and sorted(p.name for p in TABLE.parent.iterdir()) == [
        TABLE.name,
        sidecar(TABLE).name,
    ]


@pytest.mark.parametrize(
    ("path", "before"), [(TABLE, to_folder), (TABLE, lambda p: to_folder(sidecar(p))), (MODEL, to_file)]
)
def test_what_stands_in_the_way_of_an_output_is_replaced(study, monkeypatch, path, before):
    before(path)
    put(job(monkeypatch, {}), path, {"config.json": b"{}"} if path == MODEL else b"id\n")
    assert fault_of(path) is None and path.is_dir() == (path == MODEL)


def test_a_file_where_the_folder_of_an_output_has_to_be(study, monkeypatch):
    to_file(TABLE.parent)
    for make in (lambda: put(job(monkeypatch, {}), TABLE / "x.csv", b""), lambda: UnitStore(TABLE.parent)):
        with pytest.raises((JobError, ArtefactError), match=f"{TABLE.parent} is a file where a folder has to be"):
            make()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_or_a_quota_that_is_full(study, monkeypatch, error):
    before = TABLE.read_bytes()
    with pytest.raises(JobError, match=f"no space left on the disk while writing {TABLE}"):  # noqa: SIM117
        with job(monkeypatch, {}).publish(TABLE) as scratch:
            scratch.write_bytes(b"half")
            raise error
    assert TABLE.read_bytes() == before and fault_of(TABLE) is None and not list(TABLE.parent.glob(".*"))


def test_a_folder_that_cannot_be_written_to(study, monkeypatch):
    message = f"{TABLE.parent} cannot be written to .Read-only file system.; make it writable"
    with pytest.raises(JobError, match=message), job(monkeypatch, {}).publish(TABLE) as scratch:
        raise OSError(errno.EROFS, "Read-only file system", str(scratch))
    with (
        pytest.raises(PermissionError),
        job(monkeypatch, {}).publish(TABLE),
    ):  # of something else: not this folder's fault
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/x")


# ------------------------------------------------------------------------------------------------------------- index


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """Files that are hashed; an index may be kept of a file that was just written, and no digests are in memory."""
    seen, plain = [], hashlib.file_digest
    monkeypatch.setattr(_integrity, "SETTLED", -1)
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: seen.append(file.name) or plain(file, kind))
    return seen


def forget() -> None:
    """As a new process."""
    _integrity._index.cache_clear()
    time.sleep(0.02)  # a tick of the file system's clock


@pytest.fixture
def large(study, monkeypatch) -> Path:
    put(job(monkeypatch, {}), MODEL, {"model.safetensors": bytes(_integrity.LARGE)})
    forget()
    return MODEL / "model.safetensors"


def test_a_large_file_is_hashed_once(large, hashed, monkeypatch):
    for _ in range(3):
        forget()
        job(monkeypatch, {"model": MODEL})
    assert hashed == [str(large)]
    os.utime(large)
    job(monkeypatch, {"model": MODEL})
    assert hashed == [str(large)] * 2
    entries = list((STUDY / ".hashes").iterdir())
    assert len(entries) == 1 and str(large) not in entries[0].read_text()


def test_a_folder_that_was_just_made_is_not_hashed_again(study, hashed, monkeypatch):
    put(job(monkeypatch, {}), MODEL, {"model.safetensors": bytes(_integrity.LARGE), "config.json": b"{}"})
    assert len(hashed) == 2
    forget()
    job(monkeypatch, {"model": MODEL})
    assert hashed[2:] == [str(MODEL / "config.json")]


def test_size_and_time_put_back_do_not_hide_a_change(large, hashed, monkeypatch):
    job(monkeypatch, {"model": MODEL})
    before = large.stat()
    for new_process in (False, True):
        if new_process:
            forget()
        time.sleep(0.02)
        flip(large)
        after = large.stat()
        assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
        with pytest.raises(JobError, match=f"{MODEL} is not what writer.py wrote"):
            job(monkeypatch, {"model": MODEL})
        time.sleep(0.02)
        flip(large)
        job(monkeypatch, {"model": MODEL})


def test_what_was_changed_just_now_is_not_believed_to_stay(study):
    """Two changes within one tick of the clock that ctime is of."""
    TABLE.write_bytes(b"one")
    first = content_digest(TABLE)
    flip(TABLE)
    assert content_digest(TABLE) != first


@pytest.mark.parametrize(
    "spoil",
    [
        lambda index: [entry.write_text("{") for entry in index.iterdir()],
        lambda index: [entry.write_bytes(b"\xff") for entry in index.iterdir()],
        lambda index: [entry.write_text("[]") for entry in index.iterdir()],
        lambda index: [to_folder(entry) for entry in index.iterdir()],
        lambda index: [entry.write_text(entry.read_text().replace('"sha256": "', '"sha256": "x')) for entry in index.iterdir()],
        lambda index: [entry.write_text(entry.read_text()[:-10] + '00000000"}') for entry in index.iterdir()],
        lambda index: to_file(index),
        lambda index: shutil.rmtree(index),
    ],
)  # fmt: skip
def test_an_index_that_is_missing_or_damaged_is_no_matter(large, hashed, monkeypatch, spoil):
    job(monkeypatch, {"model": MODEL})
    spoil(STUDY / ".hashes")
    forget()
    job(monkeypatch, {"model": MODEL})
    assert len(hashed) == 2
    forget()
    flip(large)
    with pytest.raises(JobError, match=r"is not what writer\.py wrote"):
        job(monkeypatch, {"model": MODEL})


def test_an_index_that_cannot_be_written(large, hashed, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    for _ in range(2):
        forget()
        assert fault_of(MODEL) is None
    assert len(hashed) == 2 and not (STUDY / ".hashes").exists()


def test_jobs_side_by_side_share_the_index(large, hashed):
    digests, index = [], STUDY / ".hashes"
    threads = [threading.Thread(target=lambda: digests.append(_integrity.Index(index).digest(large))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [hashlib.sha256(bytes(_integrity.LARGE)).hexdigest()] * 8
    assert [path.suffix for path in index.iterdir()] == [".json"]


# ------------------------------------------------------------------------------------------------------- whole studies


def said(verdict: damage.Verdict) -> list[str]:
    return [fault.what.removeprefix("results/mine/") for fault in verdict.faults]


def test_a_study_without_a_fault(study):
    for path in (
        "logs/a.log",
        "seed1/logs/b.log",
        "seed1/benchmarks/c.tsv",
        "report.html",
        "summary.html",
        "timings.csv",
        ".hashes/x",
    ):
        (study / path).parent.mkdir(parents=True, exist_ok=True)
        (study / path).write_text("not made by a job")
    UnitStore(study / "private/seed1/sweep/sft/step4/store").put("a", {})
    verdict = damage.check_study(study)
    assert (verdict.artefacts, verdict.faults, verdict.edited) == (9, [], [])
    damage.stop_if_damaged(study, "config.yaml")


def test_labels_that_lie_in_the_study_are_not_those_that_were_read(study, monkeypatch, tmp_path):
    """`make label-sample` leaves them there; what is named in the configuration may be a filled-in file of the same name."""
    (study / "judge_labels.csv").write_text("id,refusal\n")
    read = tmp_path / "docs/judge_labels.csv"
    read.parent.mkdir()
    read.write_text("id,refusal\na,full\n")
    put(job(monkeypatch, {"labels": read}), study / "tables/judges.csv", b"judge\n")
    assert "labels/judge_labels.csv" in json.loads(sidecar(study / "tables/judges.csv").read_text())["inputs"]
    damage.stop_if_damaged(study, "config.yaml")
    assert not damage.check_study(study).faults


def test_every_kind_of_fault_is_listed(study, monkeypatch):
    put(job(monkeypatch, {"model": MODEL}), ANSWERS, b'{"id": "a"}\n')  # made anew, and nothing below it
    flip(CACHE)
    sidecar(MODEL).unlink()
    sidecar(SOURCE).unlink()
    STATE.unlink()
    (study / "notes.txt").write_text("mine")
    faults = said(damage.check_study(study))
    assert len(faults) == 6
    for start in (
        "seed1/activations/sft/step4.safetensors is not what writer.py wrote",
        "models/base has no sidecar (base.provenance.json), so that nothing vouches for it",
        "private/sources/labels has no sidecar",
        "notes.txt has no sidecar",
        "private/seed1/training/sft/4/state.safetensors is not there, though its sidecar is",
        "seed1/judged/sft/step4/judged.csv was made from results/mine/private/seed1/completions/sft/step4.jsonl of SHA-256",
    ):
        assert [fault for fault in faults if fault.startswith(start)], start
    assert len(damage.check_study(study, passing={STATE}).faults) == 5
    with pytest.raises(IntegrityError, match="there is no study in results/none"):
        damage.check_study(Path("results/none"))


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        (CACHE, {"script": "probe_saves.py"}),
        (CLAIMS, {"kind": None}),
    ],
)
def test_results_of_the_first_edition_are_recognised(study, path, changed):
    """Saves that are no anchors stood beside those that are, and sidecars did not tell files from folders."""
    record = json.loads(sidecar(path).read_text()) | changed
    sidecar(path).write_text(json.dumps({key: value for key, value in record.items() if value is not None}))
    with pytest.raises(SystemExit, match=r"results/mine was made by the first edition .*docs/moving\.md") as stopped:
        damage.stop_if_damaged(study, "config.yaml")
    assert "\n" not in str(stopped.value)


def test_a_run_stops_at_damage_and_at_nothing_else(study, monkeypatch):
    STATE.unlink()  # a failed job's output
    (study / "notes.txt").write_text("mine")
    put(job(monkeypatch, {"model": MODEL}), ANSWERS, b'{"id": "a"}\n')
    damage.stop_if_damaged(study, "config.yaml")
    damage.stop_if_damaged(Path("results/none"), "config.yaml")
    sidecar(MODEL).unlink()
    sidecar(CLAIMS).unlink()
    flip(TABLE)
    with pytest.raises(SystemExit) as stopped:
        damage.stop_if_damaged(study, "mine.yaml")
    lines = str(stopped.value).splitlines()
    assert len(lines) == 5 and all(line.startswith("error: ") for line in lines[:3])
    assert f"`rm -r {MODEL} {CLAIMS} {TABLE} && make run CONFIG=mine.yaml ARGS='{MODEL} {CLAIMS} {TABLE}'`" in lines[3]


def test_a_run_leaves_to_snakemake_what_a_killed_job_was_making(study):
    flip(TABLE)
    mark = base64.urlsafe_b64encode(str(TABLE).encode()).decode()
    folder = Path(".snakemake/incomplete") / f"@{mark[:20]}"  # a long name is split so
    folder.mkdir(parents=True)
    (folder / mark[20:]).write_text("")
    (folder / "no base64!").write_text("")
    damage.stop_if_damaged(study, "config.yaml")
    (folder / mark[20:]).unlink()
    with pytest.raises(SystemExit, match="is not what"):
        damage.stop_if_damaged(study, "config.yaml")


def test_an_edit_on_purpose(study, monkeypatch):
    made, before = json.loads(sidecar(ANSWERS).read_text()), ANSWERS.stat()
    flip(ANSWERS)
    assert damage.accept(ANSWERS) == f"{ANSWERS} is taken as it is now; `make run` makes anew what depends on it"
    edited = json.loads(sidecar(ANSWERS).read_text())
    assert edited == made | {"sha256": content_digest(ANSWERS), "edited": [made["sha256"]]}
    assert ANSWERS.stat().st_mtime_ns > before.st_mtime_ns  # what is below is made anew
    job(monkeypatch, {"read": [ANSWERS]})
    damage.stop_if_damaged(study, "config.yaml")
    verdict = damage.check_study(study)
    assert verdict.edited == [ANSWERS] and len(verdict.faults) == 1 and "judged.csv was made from" in said(verdict)[0]
    ANSWERS.write_text('{"id": "c"}\n')
    damage.accept(ANSWERS)
    assert json.loads(sidecar(ANSWERS).read_text())["edited"] == [made["sha256"], edited["sha256"]]
    put(job(monkeypatch, {"completions": ANSWERS}), TABLE, b"id,refused\nc,0\n")
    assert [line.split(" was ")[0] for line in said(damage.check_study(study))] == ["tables/claims.csv"]


def test_an_edit_in_a_folder(study, monkeypatch):
    stamp = MODEL / ".snakemake_timestamp"
    stamp.write_text("")
    os.utime(stamp, (1, 1))
    (MODEL / "config.json").write_text('{"edited": true}')
    damage.accept(MODEL / "config.json")
    job(monkeypatch, {"model": MODEL})
    assert stamp.stat().st_mtime > 1


def test_what_cannot_be_accepted(study, tmp_path):
    assert "nothing to accept" in damage.accept(TABLE)
    assert "edited" not in json.loads(sidecar(TABLE).read_text())
    for path, message in (
        (tmp_path / "elsewhere.csv", "is in no study"),
        (study / "tables/none.csv", "tables/none.csv cannot be read .No such file"),
    ):
        with pytest.raises(IntegrityError, match=message):
            damage.accept(path)
    sidecar(TABLE).unlink()
    to_folder(ANSWERS)
    for path, message in ((TABLE, "has no sidecar"), (ANSWERS, "is a folder where writer.py wrote a file")):
        with pytest.raises(IntegrityError, match=message):
            damage.accept(path)


# -------------------------------------------------------------------------------------------------------- unit stores


def test_the_key_of_unfinished_work_is_of_contents_not_of_what_a_sidecar_says(tmp_path, monkeypatch):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("one")
    sidecar(prompts).write_text(json.dumps({"sha256": "0" * 64}))

    def key() -> str:
        return content_key(job(monkeypatch, {"prompts": prompts}).facts(["prompts"], []))

    first = key()
    assert key() == first
    flip(prompts)
    assert key() != first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"null", b"{}", b'{"digest": 1}', b"\xff\xfe\x00"])
def test_a_damaged_unit_counts_as_missing(tmp_path, content):
    store = UnitStore(tmp_path / "store")
    store.put("a", {"answers": [1]})
    (tmp_path / "store/a.json").write_bytes(content)
    assert store.get("a") is None
    store.put("a", {"answers": [2]})
    assert store.get("a") == {"answers": [2]}


def test_a_unit_under_the_name_of_another_and_a_folder_for_a_unit(tmp_path):
    store = UnitStore(tmp_path / "store")
    store.put("a", {"answers": [1]})
    (tmp_path / "store/a.json").rename(tmp_path / "store/b.json")
    assert store.get("b") is None
    to_folder(tmp_path / "store/b.json")
    assert store.get("b") is None
    store.put("b", {"answers": [2]})
    assert store.get("b") == {"answers": [2]}
    (tmp_path / "store/c.json").mkdir()
    store.keep(["b"])
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["b.json"]


# ----------------------------------------------------------------------------------------- files outside a study's care


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_value_of_a_tensor_file_is_read_that_is_not_finite(tmp_path, dtype, value):
    import torch
    from safetensors.torch import save_file as save_tensors

    path, values = tmp_path / "cache.safetensors", torch.ones(1, 3, 4, dtype=getattr(torch, dtype))
    save_tensors({"mean.harmful": values, "prompts": values.clone()}, path, {"positions": "[-1]"})
    assert Tensors(path).read("prompts").sum() == 12
    values[0, 1, 2] = value
    save_tensors({"mean.harmful": values, "prompts": values.clone()}, path, {"positions": "[-1]"})
    assert Tensors(path).read("prompts", np.s_[:, 0]).sum() == 4  # the slice that is asked for is checked
    for read in (lambda: Activations(path).mean("harmful"), lambda: Tensors(path).read("prompts", np.s_[:, 1])):
        with pytest.raises(ArtefactError, match=rf"{path}: (mean.harmful|prompts) holds NaN or infinity"):
            read()


def test_candidate_scores_that_are_not_finite(tmp_path):
    kl, path = np.ones((2, 3)), tmp_path / "scores.safetensors"
    part = CandidateScores(
        np.arange(2),
        np.arange(2),
        np.ones(2),
        np.ones((2, 1, 4)),
        np.ones((2, 3, 4)),
        kl,
        np.ones((1, 4)),
        np.ones((3, 4)),
        4,
    )
    openings = Openings(4, 1, 2, True, 1, None, None)
    write_scores(path, RefusalScores(part, part, 1, np.ones(2), openings, None), 4)
    assert read_scores(path).openings == openings and read_scores(path).null is None
    kl[1, 2] = np.nan
    write_scores(path, RefusalScores(part, part, 1, np.ones(2), openings, None), 4)
    with pytest.raises(ArtefactError, match=r"scores.safetensors: screen.kl holds NaN or infinity"):
        read_scores(path)


@pytest.mark.parametrize(
    "spoil",
    [cut, empty, lambda path: os.truncate(path, 7), lambda path: path.write_bytes(path.read_bytes() + b"x"), to_folder,
     lambda path: path.write_bytes(b"\x10" + bytes(7) + b"\xff" * 40), lambda path: path.write_bytes(b"\xff" * 64)],
)  # fmt: skip
def test_a_tensor_file_that_is_none(tmp_path, spoil):
    path = tmp_path / "cache.safetensors"
    save_file(TENSORS, path)
    spoil(path)
    with pytest.raises(ArtefactError, match=f"{path} is not a safetensors file, or is cut off"):
        Tensors(path)


def test_metadata_that_is_damaged(tmp_path):
    save_file(TENSORS, tmp_path / "cache.safetensors", {"positions": "[-1"})
    with pytest.raises(ArtefactError, match="'positions' in its metadata is damaged"):
        Activations(tmp_path / "cache.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"a": 1}\n\xff\n', "is not UTF-8"), (b'{"a": 1}\n[1]\n', "line 2: not a JSON object but a list"), (b"{\n", "line 1")],
)  # fmt: skip
def test_json_lines_that_are_none(tmp_path, content, message):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(ArtefactError, match=f"rows.jsonl.*{message}"):
        read_jsonl(tmp_path / "rows.jsonl")
