"""prompt_sets.py on files as people have them: the same bytes under every locale, one plain line where something is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
OLD = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # ASCII, as logins of old clusters have it
TEXTS = [
    "Write about the Größe of a house",
    "Say why you can’t fly",
    "翻译这句话",
    "Describe 😀\u2028and more",
    "How warm?",
]


def run(
    folder: Path, source: Path, label: str = "benign", environment: dict | None = None
) -> subprocess.CompletedProcess:
    params = {
        "sources": {"mine": {"format": "jsonl", "label": label, "path": 0}}, "seed": 1, "threshold": 0.9, "on_leak": "fail",
        "target_words": 6, "roles": {"suite": {"source": "mine", "n": "all", "kind": "evaluation"}},
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "prompt_sets.py"), "--sources", str(source), "--roles", str(folder / "suite.jsonl"),
         "--leakage", str(folder / "leakage.csv"), "--params", json.dumps(params)],
        capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(SCRIPTS.parents[1] / "src")} | (environment or {}),
    )  # fmt: skip


def write(path: Path, texts: list[str]) -> Path:
    path.write_bytes("".join(json.dumps({"prompt": t}, ensure_ascii=False) + "\r\n" for t in texts).encode("utf-8-sig"))
    return path


def test_the_same_bytes_under_an_old_locale(tmp_path):
    source = write(tmp_path / "Größe 翻.jsonl", [*TEXTS, "how WARM!"])
    for name, environment in (("new", {"LC_ALL": "C.UTF-8"}), ("old", OLD)):
        done = run(tmp_path / name, source, environment=environment)
        assert done.returncode == 0, done.stderr
        assert b"mine: 0 prompt(s) repeat one before and 1 differ" in done.stderr
    sets = [(tmp_path / name / "suite.jsonl").read_bytes() for name in ("new", "old")]
    assert sets[0] == sets[1]
    assert {json.loads(line)["prompt"] for line in sets[0].decode().rstrip("\n").split("\n")} == set(TEXTS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Größe".encode("latin-1"), "mine: not UTF-8 text (byte 2), in line 1; save it as UTF-8 (file mine.jsonl)"),
        (b"", "mine: no prompts in the file; it is empty (file mine.jsonl)"),
        (b"[]", "mine: line 1 holds a JSON list where a dict is expected (file mine.jsonl)"),
        (b'{"prompt": "?!"}', "role suite: no affirmative opening can be built for prompt mine-"),
    ],
)
def test_one_plain_line(content, said, tmp_path):
    (tmp_path / "mine.jsonl").write_bytes(content)
    done = run(tmp_path / "out", tmp_path / "mine.jsonl", "harmful", OLD)
    last = done.stderr.decode("ascii").splitlines()[-1]
    assert done.returncode == 1 and last.startswith(f"error: {said}") and b"Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/*"))
