"""Text files as people have them: read right, or refused in one sentence that names the row and quotes nothing."""

import json

import pytest

from safety_geometry.artefacts.text_files import (
    TextFileError,
    below_comments,
    decoded,
    json_lines,
    json_value,
    read_text,
    table,
)

COLUMNS = ("text", "kind")
SEPARATORS = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"  # where str.splitlines cuts


def rows(text: str) -> list[dict]:
    return list(table(text, COLUMNS))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end(end):
    text = f'kind,text{end}x,"Bake{end}bread"{end}{end}y,{SEPARATORS}{end}'
    assert rows(text) == [{"kind": "x", "text": "Bake\nbread"}, {"kind": "y", "text": SEPARATORS}]
    lines = end.join([json.dumps({"a": SEPARATORS}, ensure_ascii=False), "", " ", '{"a": 2}'])
    assert list(json_lines(lines)) == [(1, {"a": SEPARATORS}), (4, {"a": 2})]


def test_cells_of_any_size_and_with_any_signs():
    long = "word, " * 60_000
    assert rows(f'text,kind\n"{long}",x\n"say ""hi"", 5"" wide",y\n5" wide,z\n')[0]["text"] == long
    assert [row["text"] for row in rows('text,kind\n"say ""hi""",y\n5" wide,z\n')] == ['say "hi"', '5" wide']


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text,kind\nSECRET\n", r"row 1 \(from line 2 on\) has 1 cells where the header has 2"),
        ('text,kind\n"SECRET\n\nmore",x\nSECRET\n', r"row 2 \(from line 5 on\) has 1 cells"),
        ("text,kind\nSECRET, and more,x\n", "row 1 .* has 3 cells .*put quotes around a text that has commas"),
        ('text,kind\na,b\n"SECRET,x\nc,d\n', r"row 2 \(from line 3 on\) is no CSV.*is a quote not closed"),
        ('text,kind\n"SECRET,x\n"c",d\n', "row 1 .* is no CSV"),
        ('text,kind\n"SECRET" more,x\n', "row 1 .* is no CSV"),
        ("text;kind\nSECRET;x\n", "no column text, kind.*semicolons"),
        ("text\tkind\nSECRET\tx\n", "no column text, kind.*tabs"),
        ("SECRET is the first request,x\n", r"it has \['…', 'x'\]"),
        ("text,kind,text\nSECRET,x,y\n", "has the column text twice"),
        (" text,kind\nSECRET,x\n", "no column text;"),
        ("", r"no column text, kind; it has \[\]"),
    ],
)
def test_broken_tables(text, said):
    with pytest.raises(TextFileError, match=said) as caught:
        rows(text)
    assert "SECRET" not in str(caught.value) and str(caught.value).isprintable()


def test_cells_beyond_the_header_are_told(caplog):
    assert rows("text,kind\na,x,,\nb,y,more,and more\n") == [{"text": "a", "kind": "x"}, {"text": "b", "kind": "y"}]
    assert caplog.messages == [
        "the file: 1 row(s) have more cells than the header (first: row 2); what is beyond is left out"
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Bäcker\nGröße\n".encode("latin-1"), r"not UTF-8 text \(byte 1\), in line 1"),
        (b"one\n\xff\n", r"not UTF-8 text \(byte 4\), in line 2"),
        ("Bake".encode("utf-16"), "but UTF-16"),
        ("Bake".encode("utf-32"), "but UTF-32"),
        (b"one\nt\x00o\n", "line 2 holds a NUL"),
        ("Bake".encode("utf-16-le"), "line 1 holds a NUL"),
    ],
)
def test_what_is_no_text(content, said, tmp_path):
    for read in (lambda: decoded(content), lambda: read_text(tmp_path / "a.txt")):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(TextFileError, match=said):
            read()


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfBake\r\nbread")
    assert read_text(tmp_path / "a.txt") == "Bake\nbread"
    for path, said in (
        (tmp_path, "a folder where a file"),
        (tmp_path / "b", "no such file"),
        ("/dev/null", "neither a file"),
    ):
        with pytest.raises(TextFileError, match=said):
            read_text(type(tmp_path)(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is not JSON"),
        ("{'a': 1}", "the file is not JSON"),
        ("[1]", "holds a JSON list where a dict"),
        ('"SECRET"', "holds a JSON str where a dict"),
        ('{"a": "SECRET", "a": 2}', "has the key 'a' twice"),
        ('{"b": {"c": 1, "c": 2}}', "has the key 'c' twice"),
        ('{"a": "SECRET \\ud83d"}', "half of a surrogate pair"),
        ('{"a": ' + "9" * 5000 + "}", "no JSON that can be read"),
        ("[" * 100_000, "no JSON that can be read"),
    ],
)
def test_broken_json(text, said):
    with pytest.raises(TextFileError, match=said) as caught:
        json_value(text, dict)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(TextFileError, match="line 2 "):
        list(json_lines('{"a": 1}\n' + (text or "x")))


def test_surrogate_pairs_that_are_whole():
    assert json_value('{"a": "\\ud83d\\ude00"}', dict) == {"a": "😀"}


def test_comments_above_the_header():
    assert below_comments('# one\n"# two, and",,\n  # three\na,b\n# not at the head\n') == "a,b\n# not at the head\n"
    assert below_comments("#") == ""
