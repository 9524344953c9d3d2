"""What a finished run has made: every table and figure, and nothing that should have stayed private."""

import base64
import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import yaml
from harness import ATTACK_FIGURES, CAUSAL_FIGURES, CAUSAL_TABLES, FIGURES, ROOT, SMOKE, TABLES
from pipeline.config_file import read_config

from safety_geometry.artefacts.integrity import SIDECAR, content_digest
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.artefacts.tables.registry import TABLES as SPECIFIED
from safety_geometry.artefacts.tables.working import ATTACK_PARTS

pytestmark = pytest.mark.slow

LENGTH = 20  # characters of a private string that must not be found outside
# Names, not text. `must`: the answer rules of data/benign_utility.jsonl, which are public.
NAMES = {"id", "prompt_id", "suite", "arm", "role", "label", "source", "type", "bucket", "must", "quadrant"}
NAMES |= {"pair"}  # the id of a look-alike
NAMES |= {"log_odds", "kl", "kl_answer", "digest"}  # of a sweep's units: numbers by the cell's name


def public_files(folder: Path, results: Path) -> list[Path]:
    """Everything that a run leaves outside private/, Snakemake's own log and the terminal's text included."""
    found = [p for p in results.rglob("*") if p.is_file() and results / "private" not in p.parents]
    return sorted([*found, *(folder / ".snakemake" / "log").glob("*"), folder / "terminal.txt"])


def test_all_tables_and_figures_are_there(finished):
    tables = {p.stem for p in (finished.results / "tables").glob("*.csv")}
    assert {*TABLES, *CAUSAL_TABLES} <= tables
    figures = {p.name for p in (finished.results / "figures").iterdir() if not p.name.endswith(SIDECAR)}
    assert figures == {
        f"{name}.{kind}" for name in (*FIGURES, *ATTACK_FIGURES, *CAUSAL_FIGURES) for kind in ("svg", "png")
    }
    assert (finished.results / "report.html").stat().st_size > 100_000
    assert 10_000 < (finished.results / "summary.html").stat().st_size <= 1_000_000


def test_every_table_fits_its_specification(finished):
    paths = [p for p in finished.results.rglob("*.csv") if p.name != "timings.csv"]
    assert {p.stem for p in paths} >= {*TABLES, *CAUSAL_TABLES, "judged", "cells", "readout"}
    for path in paths:
        read_table(path, SPECIFIED.get(path.stem, ATTACK_PARTS))


def test_every_summary_table_has_rows_of_every_regime(finished):
    regimes = set(read_config(ROOT / SMOKE)["regimes"])
    for name in ("five_anchor", "trajectory", "behaviour", "coupling", "geometry", "training"):
        frame = pd.read_csv(finished.results / "tables" / f"{name}.csv")
        assert set(frame["regime"]) == regimes, name


def test_the_terminal_is_told_where_the_report_is(finished):
    assert "results/smoke/report.html" in finished.terminal
    assert "Summary: results/smoke/summary.html" in finished.terminal
    assert re.search(r"\d+/\d+ jobs", finished.terminal)


# ------------------------------------------------------------------------------------------------------- provenance


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def test_sidecars_are_true_and_hold_no_path_and_no_time(finished):
    sidecars = list(finished.results.rglob(f"*{SIDECAR}"))
    assert len(sidecars) > 60
    today = date.today().isoformat()
    for path in sidecars:
        record = json.loads(path.read_text())
        artefact = path.with_name(path.name.removesuffix(SIDECAR))
        assert record["sha256"] == content_digest(artefact), artefact
        assert record["code"] and record["script"].endswith(".py")
        for text in strings(record):
            assert not text.startswith("/") and str(finished.folder) not in text, f"{path}: an absolute path"
            assert today not in text and not re.search(r"\d\d:\d\d:\d\d", text), f"{path}: a time"


def test_every_table_and_artefact_has_a_sidecar(finished):
    kinds = ("*.csv", "*.svg", "*.png", "*.safetensors", "*.jsonl")
    files = [p for kind in kinds for p in finished.results.rglob(kind)]
    inside = [p for p in files if "checkpoints" in p.parts or "base" in p.parts]  # folders have one for the whole
    missing = [p for p in files if p not in inside and not p.with_name(p.name + SIDECAR).exists()]
    missing = [p for p in missing if p.name != "timings.csv"]
    assert not missing
    folders = [*finished.results.glob("seed*/checkpoints/*/step*"), finished.results / "models/base"]
    assert all(p.with_name(p.name + SIDECAR).exists() for p in folders if p.is_dir())


# ---------------------------------------------------------------------------------------------------------- private


def private_strings(results: Path) -> set[str]:
    """Prompts, targets, suffixes and completions: every text of 20 characters or more below private/, fetched files included."""
    found = set()
    for path in (results / "private").rglob("*"):
        if path.suffix in READERS and not path.name.endswith(SIDECAR):
            within = path.suffix in (".json", ".jsonl") or results / "private/sources" in path.parents
            values = READERS[path.suffix](path.read_text("utf-8-sig")) if within else []
            found |= {s.strip() for s in strings(without_names(values)) if len(s.strip()) >= LENGTH}
    return found


READERS = {  # of the kinds of prompt files that a source can have
    ".json": json.loads,
    ".jsonl": lambda text: [json.loads(line) for line in text.splitlines()],
    ".csv": lambda text: list(csv.reader(text.splitlines(keepends=True))),
    ".txt": str.splitlines,
    ".prompt": yaml.safe_load,
}


def without_names(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_names(each) for key, each in value.items() if key not in NAMES}
    return [without_names(each) for each in value] if isinstance(value, list) else value


def windows(text: str) -> set[str]:
    return {text[i : i + LENGTH] for i in range(len(text) - LENGTH + 1)}


def readable(path: Path) -> list[str]:
    """The text of a file, and of what it carries base64-encoded (a report embeds its tables and figures so)."""
    text = path.read_bytes().decode("utf-8", "replace")
    texts = [text]
    for encoded in re.findall(r"base64,([A-Za-z0-9+/=]{80,})", text):
        content = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        texts.append(content.decode("utf-8", "replace"))
    # JSON and XML write some characters in another way.
    return [
        *texts,
        *(t.encode().decode("unicode_escape", "ignore") for t in texts if "\\u" in t and path.suffix == ".json"),
    ]


def leaks(paths: list[Path], secret: set[str]) -> dict[str, list[str]]:
    """Names of files that hold a private window, each with hashes of the windows, never the text itself."""
    found = {}
    for path in paths:
        common = set().union(*(windows(text) & secret for text in readable(path)))
        if common:
            found[str(path)] = sorted(f"{zlib.crc32(w.encode()):08x}" for w in common)[:5]
    return found


@pytest.fixture(scope="module")
def secret(finished) -> set[str]:
    """20-character windows of all private strings, without those that the project itself publishes.

    Its harmless prompts are among these: "the difference between" stands in a report's program code as well.
    """
    public = [*(ROOT / "workflow").rglob("*.*"), *(ROOT / "src").rglob("*.py"), ROOT / SMOKE]
    public += [*(ROOT / "data").glob("benign_*.jsonl"), ROOT / "data/lookalikes.jsonl"]
    known = set()
    for path in public:
        if path.is_file() and path.suffix in (".py", ".smk", ".yaml", ".rst", ".jsonl"):
            known |= windows(path.read_text())
    every = set().union(*map(windows, private_strings(finished.results)))
    return {w for w in every - known if len(set(w)) > 4}


def test_no_private_text_outside_private(finished, secret):
    assert len(secret) > 1000
    assert leaks(public_files(finished.folder, finished.results), secret) == {}


def test_the_scan_sees_a_leak(finished, secret, tmp_path):
    """A completion in a table, a prompt in a figure and a suffix embedded in a report are found."""
    completion = next(s for s in sorted(private_strings(finished.results)) if windows(s) <= secret)
    (tmp_path / "table.csv").write_text(f'id,answer\n1,"{completion}"\n')
    (tmp_path / "figure.svg").write_text(f"<svg><text>{completion}</text></svg>")
    body = base64.b64encode(f"id,answer\n1,{completion}{' ' * 100}".encode()).decode()
    (tmp_path / "report.html").write_text(f"<script>data:text/csv;base64,{body}</script>")
    (tmp_path / "clean.csv").write_text("id,score\n1,0.5\n")
    found = leaks(sorted(tmp_path.iterdir()), secret)
    assert {Path(name).name for name in found} == {"table.csv", "figure.svg", "report.html"}


def test_fetched_prompt_files_are_private(tmp_path):
    """Made here, since the smoke study fetches nothing: each kind of file, a cell of two lines and a key of YAML among it."""
    texts = [f"please fold a paper boat of kind number {i}" for i in range(6)]
    files = {
        "a/deep/table.csv": f'behaviour,label\n"{texts[0]},\nand one of kind {texts[1]}",1\n',
        "b/lines.txt": f"\ufeff{texts[2]}\nshort\n",
        "c/set.prompt": f"name: boats\nprompts:\n  - value: {texts[3]}\n",
        "d/list.json": json.dumps([texts[4]]),
        "e/rows.jsonl": json.dumps({"goal": texts[5]}) + "\n",
    }
    for name, text in files.items():
        path = tmp_path / "private/sources" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "private/training.csv").write_text("a header that is no prompt,b\n1,2\n")
    found = private_strings(tmp_path)
    assert all(any(text in s for s in found) for text in texts)
    assert not any("no prompt" in s or s in ("short", "boats") for s in found)
    (tmp_path / "public.svg").write_text(f"<text>{texts[1]}</text>")
    (tmp_path / "clean.svg").write_text("<text>a figure of nothing at all</text>")
    secret = set().union(*map(windows, found))
    assert list(leaks([tmp_path / "public.svg", tmp_path / "clean.svg"], secret)) == [str(tmp_path / "public.svg")]


def test_private_files_are_ignored_by_git():
    assert re.search(r"^/?results/", (ROOT / ".gitignore").read_text(), re.MULTILINE)
