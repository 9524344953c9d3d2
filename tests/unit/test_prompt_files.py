"""Prompt files on the disk: several at once, Parquet, samples, and faults that name the file."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompt_text import parse

from safety_geometry.prompts.files import read_prompts
from safety_geometry.prompts.rows import PromptError

CHATS = [
    {"prompt": f"Draw bird {i}", "prompt_id": f"{i:04x}", "messages": [
        {"content": f"Draw bird {i}", "role": "user"}, {"content": f"Bird {i} has wings.", "role": "assistant"},
        {"content": "And a tail?", "role": "user"}, {"content": "Yes.", "role": "assistant"}]}
    for i in range(3000)
]  # fmt: skip


def parquet(path, rows: list[dict]):
    """As the hub's data sets are written: a list of structs."""
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_parquet_gives_the_rows_that_json_lines_give(tmp_path):
    found = read_prompts([parquet(tmp_path / "train.parquet", CHATS)], "ultrachat", "chats")
    assert found == parse("ultrachat", "\n".join(map(json.dumps, CHATS)), "chats") and len(found) == 3000
    assert found[7]["messages"] == [{"role": m["role"], "content": m["content"]} for m in CHATS[7]["messages"]]


def test_a_sample_does_not_depend_on_the_order_of_the_file(tmp_path):
    shuffled = random.Random(3).sample(CHATS, len(CHATS))
    one = parquet(tmp_path / "all.parquet", CHATS)
    two = [parquet(tmp_path / f"{k}.parquet", shuffled[k::2]) for k in range(2)]
    drawn = [read_prompts(files, "ultrachat", "chats", sample=40, seed=5) for files in ([one], two)]
    assert drawn[0] == drawn[1] and len({row["id"] for row in drawn[0]}) == 40
    fewer = read_prompts([one], "ultrachat", "chats", sample=10, seed=5)
    assert fewer == drawn[0][:10]
    assert read_prompts([one], "ultrachat", "chats", sample=40, seed=6) != drawn[0]
    assert len(read_prompts([one, one], "ultrachat", "chats", sample=10**6)) == 3000  # each prompt once
    places = sorted(int(row["prompt"].split()[-1]) for row in drawn[0])
    assert places[0] < 600 and places[-1] > 2400  # from the whole file


def test_targets_of_several_files_go_with_behaviours_of_several_files(tmp_path):
    head = "Behavior,Category,Tags,ContextString,BehaviorID\n"
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(head + f"Bake {name},,,,bake_{name}\n")
        (tmp_path / f"{name}.json").write_text(json.dumps({f"bake_{name}": [f"Sure, {name}", "", "Yes"]}))
    files, targets = [[tmp_path / f"{name}.{kind}" for name in ("a", "b")] for kind in ("csv", "json")]
    rows = read_prompts(files, "harmbench_csv", "hb", targets)
    assert [row["targets"] for row in rows] == [["Sure, a", "Yes"], ["Sure, b", "Yes"]]
    with pytest.raises(PromptError, match=r"no behaviour of the file is in its targets file.*\(file b\.csv\)"):
        read_prompts(files, "harmbench_csv", "hb", targets[:1])


def test_faults_name_the_file(tmp_path):
    (tmp_path / "good.csv").write_text("category,source,forbidden_prompt\na,b,Bake a cake\n")
    (tmp_path / "bad.csv").write_text("category,prompt\na,Bake a cake\n")
    said = r"sr: the CSV file has no column forbidden_prompt; it has \['category', 'prompt'\], and category, forbidden_prompt are"
    with pytest.raises(PromptError, match=said + r" needed \(file bad\.csv\)"):
        read_prompts([tmp_path / "good.csv", tmp_path / "bad.csv"], "strongreject_csv", "sr")
    (tmp_path / "latin.txt").write_bytes("Bake a café cake".encode("latin-1"))
    with pytest.raises(PromptError, match=r"not UTF-8 text \(byte 10\).*\(file latin\.txt\)"):
        read_prompts([tmp_path / "latin.txt"], "lines", "plain")
    columns = parquet(tmp_path / "other.parquet", [{"prompt": "a", "text": "b"}])
    with pytest.raises(
        PromptError, match=r"no column messages; it has \['prompt', 'text'\], and prompt, messages are needed.*other"
    ):
        read_prompts([columns], "ultrachat", "chats")
    with pytest.raises(PromptError, match=r"file other\.parquet: Parquet is read as format ultrachat, not as lines"):
        read_prompts([columns], "lines", "chats")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(PromptError, match=r"not a Parquet file .*\(file cut\.parquet\)"):
        read_prompts([tmp_path / "cut.parquet"], "ultrachat", "chats")
    silent = parquet(
        tmp_path / "silent.parquet", [{"prompt": "a", "messages": [{"role": "user", "content": "SECRETWORD"}]}]
    )
    with pytest.raises(PromptError, match="chats: no prompts in its files; are they of format ultrachat") as caught:
        read_prompts([silent], "ultrachat", "chats")
    assert "SECRETWORD" not in str(caught.value)


def test_repeated_prompts_are_counted_over_all_files(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("Bake bread\nFly a kite\nBake bread\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("bake bread!\nFly a kite\nPlant a tree\n", encoding="utf-8")
    rows = read_prompts([tmp_path / "a.txt", tmp_path / "b.txt"], "lines", "mine")
    assert [row["prompt"] for row in rows] == ["Bake bread", "Fly a kite", "Plant a tree"]
    (said,) = caplog.messages
    assert said.startswith(
        "mine: 2 prompt(s) repeat one before and 1 differ from one before in case, white space or punct"
    )
    caplog.clear()
    assert len(read_prompts([tmp_path / "a.txt", tmp_path / "b.txt"], "lines", "mine", sample=2)) == 2
    assert caplog.messages == [said]
    caplog.clear()
    (tmp_path / "c.txt").write_text("Bake bread\nFly a kite\n", encoding="utf-8")
    read_prompts([tmp_path / "c.txt"], "lines", "mine")
    assert not caplog.messages


@pytest.mark.parametrize("format", ["lines", "jsonl", "harmbench_csv", "cosmic_json", "advbench_prompt", "ultrachat"])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("latin", "Größe\n".encode("latin-1"), "not UTF-8 text"),
        ("wide", "Bake".encode("utf-16"), "but UTF-16"),
        ("nul", b"{}\n\0", "line 2 holds a NUL"),
        ("empty", b"", "it is empty|no column|not JSON|not a seed file"),
        ("mark", b"\xef\xbb\xbf", "it is empty|no column|not JSON|not a seed file"),
        ("folder", None, "a folder where a file is expected"),
        ("missing", None, "there is no such file"),
        ("cut.parquet", b"PAR1 and no more", "not a Parquet file|Parquet is read as"),
        ("gone.parquet", None, "no such file|Parquet is read as"),
    ],
)
def test_files_as_people_have_them(format, name, content, said, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name == "folder":
        (tmp_path / name).mkdir()
    with pytest.raises(PromptError, match=rf"^mine.*({said}).*\(file {name}\)$"):
        read_prompts([tmp_path / name], format, "mine")
    if not name.endswith("parquet"):
        with pytest.raises(PromptError, match=rf"({said}|a JSON object|no opening).*\(file {name}\)$"):
            (tmp_path / "good.csv").write_text("Behavior,ContextString,BehaviorID\nBake,,bake\n", encoding="utf-8")
            read_prompts([tmp_path / "good.csv"], "harmbench_csv", "mine", [tmp_path / name])


def test_parquet_that_breaks_in_the_middle(tmp_path):
    path = parquet(tmp_path / "whole.parquet", CHATS)
    data = bytearray(path.read_bytes())
    data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)
    path.write_bytes(data)
    with pytest.raises(PromptError, match=r"not a Parquet file \(.*\(file whole\.parquet\)"):
        read_prompts([path], "ultrachat", "chats")
    texts = parquet(
        tmp_path / "texts.parquet", [{"prompt": "a", "messages": "SECRET"}, {"prompt": "b", "messages": None}]
    )
    with pytest.raises(PromptError, match=r"messages of row 1 are not a list .*\(file texts\.parquet\)") as caught:
        read_prompts([texts], "ultrachat", "chats")
    assert "SECRET" not in str(caught.value)
