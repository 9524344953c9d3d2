"""The published wording of a judge, out of JSON and Python files that look like their authors'."""

import hashlib
import json
import sys

import pytest

from safety_geometry.judges.templates import TemplateFileError, template_in

WORDING = "Request: {forbidden_prompt}\nAnswer: {response}\nIs {response} good? {{yes}}"
PYTHON = f"""
import no_such_package_at_all
OTHER = no_such_package_at_all.call()
PROMPT = {{"description": "a judge", "prompt": {WORDING!r}, "contextual": "In {{context}}"}}
raise RuntimeError("a file that is run")
"""
SHA = hashlib.sha256(WORDING.encode()).hexdigest()


def test_json_and_python_give_the_same_wording():
    from_json = template_in(json.dumps({"fine": WORDING}), "templates.json", ["fine"], sha256=SHA)
    assert from_json == template_in(PYTHON, "utils.py", ["PROMPT", "prompt"], sha256=SHA) == WORDING


def test_fields_are_renamed_all_at_once():
    fields = {"forbidden_prompt": "response", "response": "generation"}
    renamed = template_in(PYTHON, "utils.py", ["PROMPT", "prompt"], fields, SHA)
    assert renamed == "Request: {response}\nAnswer: {generation}\nIs {generation} good? {{yes}}"


@pytest.mark.parametrize(
    ("text", "name", "at", "message"),
    [
        ("{", "a.json", ["x"], "a.json is not JSON"),
        ('{"b": "c"}', "a.json", ["x"], "a.json has no x; there is b"),
        ('{"b": {"c": 1}}', "a.json", ["b", "x"], "a.json has no b.x; there is c"),
        ('{"b": {"c": 1}}', "a.json", ["b", "c"], "b.c is not a text but a int"),
        ('{"b": "c"}', "a.json", ["b", "x"], "no b.x; there is str"),
        (PYTHON, "a.py", ["MISSING"], "a.py has no constant MISSING"),
        (PYTHON, "a.py", ["OTHER"], "OTHER is not a plain value"),
        (PYTHON, "a.py", ["PROMPT", "other"], "a.py has no PROMPT.other; there is description, prompt, contextual"),
        ("def f(:", "a.py", ["F"], "a.py is not Python"),
        ("text", "a.txt", ["x"], "taken out of .json and .py files"),
        ('["x"]', "a.json", ["x"], "a.json holds a JSON list where a dict"),
        ('{"x": "a", "x": "b"}', "a.json", ["x"], "a.json has the key 'x' twice"),
        ("[" * 100_000, "a.json", ["x"], "a.json is no JSON that can be read"),
        ("", "a.json", ["x"], "a.json is not JSON"),
        ("X = 1\0", "a.py", ["X"], "a.py is no"),
        ("X = " + "-" * 100_000 + "1", "a.py", ["X"], "a.py"),
        ("X = {[]: 1}", "a.py", ["X"], "X is not a plain value"),
    ],
)
def test_faults_name_file_and_place(text, name, at, message):
    with pytest.raises(TemplateFileError) as refused:
        template_in(text, name, at)
    assert message in str(refused.value)


def test_another_wording_is_refused():
    with pytest.raises(TemplateFileError, match=rf"another SHA-256 than given: expected 0{{64}}, got {SHA}"):
        template_in(PYTHON, "a.py", ["PROMPT", "prompt"], sha256="0" * 64)
    with pytest.raises(TemplateFileError, match=r"PROMPT.prompt has no field \{behaviour\}"):
        template_in(PYTHON, "a.py", ["PROMPT", "prompt"], {"behaviour": "behavior"})


def test_script(tmp_path, monkeypatch):
    import judge_template as script

    (tmp_path / "source").mkdir()
    (tmp_path / "source/utils.py").write_text(PYTHON)
    params = {"name": "judges.models.harmbench.template", "file": "utils.py", "at": ["PROMPT", "contextual"]}

    def run(**changes) -> None:
        options = ["--source", str(tmp_path / "source"), "--template", str(tmp_path / "template.txt")]
        monkeypatch.setattr(sys, "argv", ["judge_template.py", *options, "--params", json.dumps(params | changes)])
        script.main()

    run()
    assert (tmp_path / "template.txt").read_text() == "In {context}"
    with pytest.raises(
        SystemExit, match=r"judges\.models\.harmbench\.template\.file: the source has no file other\.py"
    ):
        run(file="other.py")
    with pytest.raises(SystemExit, match=r"error: judges\.models\.harmbench\.template: utils\.py has no constant X"):
        run(at=["X"])
