"""Where the project's files stand for jobs: commands in the project and in an importer's folder, and the paths of a configuration."""

import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from pipeline import ROOT
from pipeline.home import HERE, Home, file_keys, imported_config
from pipeline.stages import STAGES
from test_settings import leaves

from safety_geometry.artefacts.integrity import CONFIG, RESULTS, advice, fault_of, place, study_of
from safety_geometry.settings.kinds import FileName, Form
from safety_geometry.settings.study import StudySettings

AWAY = Home("deep/measured/results/")
# Files within a source; all others are of this machine.
WITHIN = {
    "sources.*.members", "sources.*.file", "sources.*.subfolder", "checkpoints.*.source.members",
    "checkpoints.*.source.repo", "checkpoints.*.source.revision", "checkpoints.*.source.subfolder", "judges.embeddings.folder", "prompts.sets.*.targets.files",
    "judges.models.*.template.file", "judges.models.*.contextual_template.file",
}  # fmt: skip
(FILE,) = (part for part in get_args(FileName) if isinstance(part, Form))


def test_commands_in_the_project_name_no_place():
    assert HERE.command("workflow/scripts/probe.py") == "python workflow/scripts/probe.py"
    assert HERE.file("data/a.jsonl") == "data/a.jsonl" and HERE.study("mine") == ROOT / "results/mine"


def test_commands_elsewhere_bring_their_environment():
    words = shlex.split(AWAY.command("workflow/scripts/probe.py"))
    assert words[:3] == ["env", "-u", "PYTHONDONTWRITEBYTECODE"]
    assert words[-2:] == ["python", str(ROOT / "workflow/scripts/probe.py")]
    assert {f"PYTHONPATH={ROOT / 'src'}", "HF_HUB_OFFLINE=1", f"{RESULTS}=deep/measured/results/"} < set(words)
    assert "HF_HUB_OFFLINE=1" not in shlex.split(AWAY.command("workflow/scripts/fetch_source.py", online=True))
    assert AWAY.study("mine") == Path("deep/measured/results/mine")
    assert [name for name, stage in STAGES.items() if stage.online] == ["fetch_source", "fetch_passing"]


def test_rules_ask_where_files_of_the_project_are():
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        bare = re.findall(
            r"""(?<!home\.file\()(?<!ROOT / f)["'](?:data|docs|src|workflow|configs)/""",
            path.read_text(encoding="utf-8"),
        )
        assert bare == [], f"{path.name}: home.file(…)"


def test_every_key_that_names_a_file_is_known():
    named = {keys for keys, kind in leaves(StudySettings) if FILE.words in repr(kind)}
    assert {".".join(keys) for keys in named} >= WITHIN | {"model.chat_template", "judges.models.*.template"}
    for keys in named:
        local = ".".join(keys) not in WITHIN
        config: dict = {keys[-1]: "a.txt", "source": None if local else "mine"}
        for key in reversed(keys[:-1]):
            config = {key: config}
        assert [(*above, key) for above, _, key in file_keys(config)] == [keys] * local


def test_paths_are_the_importer_s_where_it_names_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("benign_instructions.jsonl", "mine.jsonl"):
        (tmp_path / "data" / name).touch()
    given = {
        "study": "s",
        "sources": {"own": {"kind": "path", "path": "models/own"}, "full": {"kind": "path", "path": "/full"}},
        "prompts": {"sets": {"mine": {"source": None, "files": ["data/mine.jsonl", "data/smoke_harmful.jsonl"]}}},
        "sweep": {"directions": {"d": {"file": "d.gguf"}}},
        "checkpoints": {"runs": {"source": {"kind": "path", "path": "runs/step-{step}"}, "steps": [1, 2]}},
    }
    config, layers = imported_config(given)
    sets = config["prompts"]["sets"]
    assert sets["mine"]["files"] == [f"{tmp_path}/data/mine.jsonl", f"{ROOT}/data/smoke_harmful.jsonl"]
    assert sets["benign"]["files"] == [f"{ROOT}/data/benign_instructions.jsonl"]  # not the importer's of that name
    assert config["sources"]["own"]["path"] == f"{tmp_path}/models/own" and config["sources"]["full"]["path"] == "/full"
    assert config["sweep"]["directions"]["d"]["file"] == f"{tmp_path}/d.gguf"
    assert config["checkpoints"]["runs"]["source"]["path"] == f"{tmp_path}/runs/step-{{step}}"
    assert given["sources"]["own"]["path"] == "models/own" and "config.yaml" in layers  # which it may use besides


def test_a_module_needs_a_study():
    with pytest.raises(SystemExit, match="needs a `config:` with at least `study`"):
        imported_config({"seeds": [1]})


def test_artefacts_are_known_below_the_importer_s_prefix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("deep/measured/results/mine/seed1/a.csv")
    assert study_of(path) is None
    monkeypatch.setenv(RESULTS, "deep/measured/results/")
    monkeypatch.delenv(CONFIG, raising=False)
    assert study_of(path) == Path("deep/measured/results/mine") and place(path) == "seed1/a.csv"
    assert study_of(Path("results/mine/seed1/a.csv")) is None
    path.parent.mkdir(parents=True)
    path.write_text("a\n")
    fault = replace(fault_of(path), acceptable=True)
    assert advice([fault]) == f"make anew with `rm {path} && snakemake {path}`"
    monkeypatch.setenv(RESULTS, str(tmp_path / "deep/measured/results"))
    assert study_of(path.absolute()) == Path("deep/measured/results/mine") and os.environ[RESULTS].startswith("/")
