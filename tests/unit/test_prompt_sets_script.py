"""prompt_sets.py on files as people have them: the same bytes under every locale, one plain line where something is wrong."""

import json
import os
import subprocess
import sys
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from safety_geometry.artefacts.tables.files import read_table

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
        "run": 1, "per_seed": True,
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


ROLES = {
    "suite": {"source": "mine", "n": 5, "kind": "evaluation"},
    "pool": {"source": "others", "n": 4, "kind": "train"},
    "judged": {"source": "labelled", "n": "all", "kind": "judge"},
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def a_study(folder: Path, per_seed: bool, runs: tuple[int, ...]) -> dict[int, dict[str, bytes]]:
    """Role files of each run, and of the study under 0, as the rules make them."""
    sources = [folder / f"{name}.jsonl" for name in ("mine", "others", "labelled")]
    folder.mkdir()
    for path in sources:
        write(path, [f"Draw {path.stem} {a} {b} kites" for a in NUMBERS[:5] for b in NUMBERS[5:]])
    write(sources[2], [f"Draw mine {a} seven kites" for a in NUMBERS[:5]] + [f"Sing {a} songs" for a in NUMBERS])
    names = ["mine", "others", "labelled"]
    params = {
        "sources": {n: {"format": "jsonl", "label": "benign", "path": i} for i, n in enumerate(names)}, "roles": ROLES,
        "seed": 7, "threshold": 0.9, "target_words": None,
    }  # fmt: skip
    judges = folder / "judged.jsonl"
    call("judge_prompts", params, "--sources", *sources, "--roles", judges)
    files = {0: {"judged": judges.read_bytes()}}
    for run_seed in runs:
        place = folder / str(run_seed)
        roles = [place / f"{name}.jsonl" for name in ("suite", "pool")]
        here = params | {"run": run_seed, "per_seed": per_seed, "on_leak": "fail"}
        leakage = place / "leakage.csv"
        call("prompt_sets", here, "--sources", *sources, "--judges", judges, "--roles", *roles, "--leakage", leakage)
        files[run_seed] = {path.stem: path.read_bytes() for path in roles}
    call(
        "leakage_table",
        {},
        "--parts",
        *(folder / f"{r}/leakage.csv" for r in runs),
        "--leakage",
        folder / "leakage.csv",
    )
    return files


def call(script: str, params: dict, *words) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, words), "--params", json.dumps(params)],
        capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(SCRIPTS.parents[1] / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()


def test_a_draw_for_each_seed_or_one_for_all(tmp_path):
    own, same = (a_study(tmp_path / name, name == "own", (42, 43)) for name in ("own", "same"))
    assert same[42] == same[43] and own[42] != own[43] and own[0] == same[0]
    assert own[42].keys() == {"suite", "pool"} and len(own[0]["judged"].splitlines()) == 10  # none of those like `mine`
    for name in ("own", "same"):
        table = read_table(tmp_path / name / "leakage.csv")
        assert table["seed"].tolist() == [42] * 6 + [43] * 6
        assert set(zip(table["role_a"], table["role_b"], strict=True)) == set(combinations_with_replacement(ROLES, 2))
        assert not (table["status"] == "leak").any()
