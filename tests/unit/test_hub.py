"""Sources of kind hub against a stand-in on this machine: pins, broken downloads, closed models, the cache without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from conftest import make_model, make_tokenizer
from hub_server import COMMIT, OLDER, Hub, serving

from safety_geometry.models.loading import load_model
from safety_geometry.models.tokenizer import load_tokenizer
from safety_geometry.prompts.source_files import digest, members_of
from safety_geometry.prompts.sources import SourceError, fetch

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
BIG = bytes(range(256)) * 40
FILES = {"config.json": b'{"tiny": true}', "data/mild.txt": b"Bake bread\n", "model.safetensors": BIG}
SOURCE = {"kind": "hub", "repo": "me/tiny", "revision": COMMIT}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one repository of two commits, which this process asks; nothing is cached yet and no wait is real."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    older = FILES | {"config.json": b'{"tiny": false}'}
    with serving(Hub({"me/tiny": {COMMIT: FILES, OLDER: older}})) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


def paths(hub: Hub, method: str = "GET") -> list[str]:
    return [path for used, path, _ in hub.log if used == method]


def test_the_pinned_revision_is_asked_for_and_no_other(hub, tmp_path):
    for commit, config in ((COMMIT, b'{"tiny": true}'), (OLDER, b'{"tiny": false}')):
        fetched = fetch(SOURCE | {"revision": commit}, tmp_path / commit, "tiny")
        assert fetched.revision == commit and fetched.files == tuple(sorted(FILES))
        assert (tmp_path / commit / "config.json").read_bytes() == config
    assert not [path for path in paths(hub) + paths(hub, "HEAD") if "main" in path or "/revision/" in path]
    assert fetch(SOURCE | {"revision": "main"}, tmp_path / "main", "tiny").revision == COMMIT  # the script says so


def test_only_the_members_come_and_their_hashes_are_checked(hub, tmp_path):
    import hashlib

    right = hashlib.sha256(b"Bake bread\n").hexdigest()
    member = {"path": "data/mild.txt", "sha256": right}
    assert fetch(SOURCE | {"members": [member]}, tmp_path / "out").files == ("data/mild.txt",)
    assert not [path for path in paths(hub) if path.endswith("safetensors")]
    with pytest.raises(SourceError, match=r"wrong SHA-256 of mild\.txt.*sources\.tiny\.members"):
        fetch(SOURCE | {"members": [member | {"sha256": "f" * 64}]}, tmp_path / "two", "tiny")


@pytest.mark.parametrize("large", [10**9, 1000], ids=["small file", "large file on another host"])
def test_a_download_that_breaks_is_resumed_where_it_broke(hub, tmp_path, monkeypatch, large):
    monkeypatch.setattr(
        huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000
    )  # what is kept of a broken one: whole chunks
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    hub.large, hub.cut = large, 4500
    fetch(SOURCE | {"members": ["model.safetensors"]}, tmp_path / "out", "tiny")
    assert (tmp_path / "out/model.safetensors").read_bytes() == BIG
    assert [part for method, path, part in hub.log if method == "GET" and "api/" not in path] == [
        None, "bytes=4000-", "bytes=8000-",
    ]  # fmt: skip
    assert {host for host, _ in hub.tokens} == ({"127.0.0.1"} if large > len(BIG) else {"127.0.0.1", "localhost"})
    assert not [token for host, token in hub.tokens if host == "localhost" and token]  # a token stays with the hub


def test_a_connection_that_is_reset_is_tried_again_and_then_given_up(hub, tmp_path, capsys):
    hub.resets = 1
    fetch(SOURCE | {"members": ["model.safetensors"]}, tmp_path / "out", "tiny")
    assert (tmp_path / "out/model.safetensors").read_bytes() == BIG
    assert "sources.tiny: the connection broke" in capsys.readouterr().err
    hub.resets = 10**6
    with pytest.raises(SourceError, match=r"no network: .* did not give it \(ReadError\)"):
        fetch(SOURCE | {"revision": OLDER, "members": ["config.json"]}, tmp_path / "two", "tiny")
    assert not (tmp_path / "two").exists()


def test_what_came_before_a_failure_is_not_fetched_again(hub, tmp_path):
    fetch(SOURCE | {"members": ["model.safetensors"]}, tmp_path / "one", "tiny")
    hub.log.clear()
    fetch(SOURCE, tmp_path / "two", "tiny")
    assert sorted(path.rpartition("/")[2] for path in paths(hub)) == ["config.json", "mild.txt"]


def test_a_gated_model_says_what_to_do(hub, tmp_path):
    """The list of its files is open, its files are closed: so a refusal comes at the first file."""
    hub.gated.add("me/tiny")
    with pytest.raises(SourceError) as refused:
        fetch(SOURCE, tmp_path / "out", "mistral")
    message = str(refused.value)
    assert message.startswith(f"sources.mistral: model me/tiny at revision {COMMIT} is gated: ")
    for advice in (f"accept its licence at {hub.url}/me/tiny", "hf auth login", "HF_TOKEN", "sources.mistral.path"):
        assert advice in message
    assert "\n" not in message and not (tmp_path / "out").exists()


def test_a_gated_data_set_names_its_own_page(hub, tmp_path):
    hub.repositories["datasets/me/chats"] = {COMMIT: FILES}
    source = SOURCE | {"repo": "me/chats", "repo_type": "dataset"}
    assert fetch(source, tmp_path / "out").files == tuple(sorted(FILES))
    hub.repositories["datasets/me/closed"] = {COMMIT: FILES}
    hub.gated.add("datasets/me/closed")
    with pytest.raises(SourceError, match=r"accept its licence at http://127\.0\.0\.1:\d+/datasets/me/closed, log in"):
        fetch(source | {"repo": "me/closed"}, tmp_path / "two")


def test_other_troubles_are_named(hub, tmp_path):
    with pytest.raises(SourceError, match=r"me/tiny has no revision f{40}; correct sources\.tiny\.revision"):
        fetch(SOURCE | {"revision": "f" * 40}, tmp_path / "out", "tiny")
    with pytest.raises(SourceError, match=r"has no model me/other, or it is private: correct sources\.tiny\.repo"):
        fetch(SOURCE | {"repo": "me/other"}, tmp_path / "out", "tiny")
    with pytest.raises(
        SourceError, match=r"no file fits '\*\.bin'; nearest of 1: config\.json; correct sources\.tiny\.members"
    ):
        fetch(SOURCE | {"members": ["*.json", "*.bin"]}, tmp_path / "out", "tiny")
    for status, advice in ((503, "run again later"), (403, "see that your token may read it")):
        hub.failure = status
        with pytest.raises(
            SourceError, match=rf"{hub.url} answers {status}: {advice}, or set sources\.tiny\.kind: path"
        ):
            fetch(SOURCE | {"repo": f"me/tiny-{status}"}, tmp_path / "out", "tiny")
    assert not (tmp_path / "out").exists()


def test_the_cache_serves_without_a_network(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        SourceError, match=r"HF_HUB_OFFLINE is set and it is not in the hub cache: unset it, or set sources"
    ):
        fetch(SOURCE, tmp_path / "out", "tiny")
    assert hub.log == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fetch(SOURCE | {"members": ["config.json"]}, tmp_path / "one", "tiny")
    hub.log.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(SOURCE | {"members": ["config.json"]}, tmp_path / "two", "tiny").files == ("config.json",)
    with pytest.raises(SourceError, match="not in the hub cache"):  # a part of the repository is there, not all
        fetch(SOURCE, tmp_path / "three", "tiny")
    assert hub.log == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # no server: the cache serves, and is not asked to
    assert fetch(SOURCE | {"members": ["config.json"]}, tmp_path / "four", "tiny").files == ("config.json",)


# ------------------------------------------------------------------------------------------- the files of a model only

TEXTS = {"config.json": b"{}", "tokenizer.json": b"[]", "chat_template.jinja": b"jinja", "training_args.bin": b"pickle"}
SHARDS = {"model-00001-of-00002.safetensors": BIG, "model-00002-of-00002.safetensors": BIG[::-1]}
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
UNUSED = {"optimizer.pt": BIG, "original/consolidated.00.pth": BIG, "consolidated.safetensors": BIG, "model.gguf": BIG}
SINGLE = TEXTS | {"model.safetensors": BIG} | UNUSED
SHARDED = TEXTS | SHARDS | {"model.safetensors.index.json": INDEX.encode()} | UNUSED
NEEDED = {"config.json", "tokenizer.json", "chat_template.jinja"}
ADAPTER = {"adapter_config.json": b"{}", "adapter_model.safetensors": BIG, "README.md": b"no"}
MODEL = {"kind": "hub", "repo": "me/run", "only": "model"}


@pytest.fixture
def run(hub):
    """A repository of a training run: a revision, and a folder, for each step."""
    folders = {f"step-{step:04d}/{name}": content for step in (5, 10) for name, content in SHARDED.items()}
    hub.repositories["me/run"] = {"step1": SINGLE, "step2": SHARDED, "step3": ADAPTER, "folders": folders}
    return hub


@pytest.mark.parametrize(
    ("source", "weights"),
    [
        ({"revision": "step1"}, {"model.safetensors"}),
        ({"revision": "step2"}, {"model.safetensors.index.json", *SHARDS}),
        ({"revision": "folders", "subfolder": "step-0005"}, {"model.safetensors.index.json", *SHARDS}),
    ],
    ids=["single", "sharded", "folder"],
)
def test_of_a_model_only_what_is_needed_is_downloaded(run, tmp_path, source, weights):
    fetched = fetch(MODEL | source, tmp_path / "out", "run")
    assert set(fetched.files) == NEEDED | weights  # without the folder's name before them
    assert (tmp_path / "out" / max(weights)).read_bytes() == SHARDED.get(max(weights), BIG)
    asked = [path for path in paths(run) if not path.startswith("api/")]
    assert {path.rpartition("/")[2] for path in asked} == NEEDED | weights
    assert not [path for path in asked if "step-0010" in path]


def test_an_adapter_is_its_settings_and_weights(run, tmp_path):
    assert set(fetch(MODEL | {"revision": "step3"}, tmp_path / "out").files) == set(ADAPTER) - {"README.md"}


def test_a_branch_that_moves_between_settings_and_weights_gives_the_first_commit(run, tmp_path, monkeypatch):
    from safety_geometry.prompts import hub_files

    run.repositories["me/run"] = {COMMIT: SINGLE, OLDER: SHARDED}
    weights = hub_files._weights

    def moving(*given):
        run.repositories["me/run"] = {OLDER: SHARDED, COMMIT: SINGLE}  # main is another commit now
        return weights(*given)

    monkeypatch.setattr(hub_files, "_weights", moving)
    fetched = fetch(MODEL | {"revision": "main"}, tmp_path / "out")
    assert fetched.revision == COMMIT and "model.safetensors" in fetched.files


LOST = {name: content for name, content in SHARDED.items() if "00002-of" not in name}
OF_MODELS = [
    ({}, SINGLE, {"revision": "step7"}, r"me/run has no revision step7; correct checkpoints\.run\.source\.revision"),
    ({}, LOST, {}, r"at revision c names model-00002-of-00002\.safetensors, which is not there.*correct checkpoints"),
    ({}, TEXTS | {"pytorch_model.bin": BIG}, {}, r"has no model\.safetensors: .*pickled weights, \.bin, are not read"),
    ({}, SINGLE, {"subfolder": "step-0001"}, r"folder step-0001, is not there or has neither config\.json nor adapter"
     r"_config\.json; models are in its top; correct checkpoints\.run\.source\.subfolder"),
    ({}, {f"step-{n:04d}/config.json": b"{}" for n in range(1, 9)}, {"subfolder": "step-9"}, r"models are in step-000\d, .* and 5 more"),
    ({}, {"README.md": b""}, {}, r"has neither config\.json nor adapter_config\.json; no folder of it has"),
    ({}, SHARDED | {"model.safetensors.index.json": b'{"weight_map": {"a": "../../x.safetensors"}}'}, {}, "names no files of weights"),
    ({}, SHARDED | {"model.safetensors.index.json": b"[]"}, {}, "names no files of weights"),
    ({"gated": {"me/run"}}, SINGLE, {}, r"checkpoints\.run\.source: model me/run at revision c is gated: accept its"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "files", "source", "message"), OF_MODELS)
def test_what_a_repository_of_steps_lacks_is_named(hub, tmp_path, state, files, source, message):
    hub.repositories["me/run"] = {"c": files}
    vars(hub).update(state)
    with pytest.raises(SourceError, match=message) as refused:
        fetch(MODEL | {"revision": "c"} | source, tmp_path / "out", "run_step7", "checkpoints.run.source")
    assert str(refused.value).startswith("checkpoints.run.source: ") and "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_cache_of_its_own_is_gone_when_all_came_and_serves_the_next_attempt_when_not(run, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    source, own = MODEL | {"revision": "step2"}, tmp_path / "own"
    run.down_after = 5  # settings and one of two shards come, and nothing answers from then on
    with pytest.raises(SourceError, match=r"answers 503: run again later"):
        fetch(source, tmp_path / "out", "run", cache=own)
    assert own.exists() and not (tmp_path / "out").exists()
    run.down_after, run.cut = None, 4500  # the other one breaks twice on its way
    run.log.clear()
    fetch(source, tmp_path / "out", "run", cache=own)
    files = [path.rpartition("/")[2] for path in paths(run) if not path.startswith("api/")]
    assert len(set(files)) == 1 and files[0] in SHARDS and len(files) > 1  # resumed, and nothing that was there
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in SHARDS.items())
    assert not own.exists() and not (tmp_path / "cache").exists()  # nor is anything left in the user's


def run_script(folder: Path, home: Path, source: dict, offline: str = "0") -> tuple[int, str, str]:
    """Exit status, last line and all of what fetch_source.py says in a process of its own, as a rule runs it."""
    command = [sys.executable, str(SCRIPTS / "fetch_source.py"), "--folder", str(folder)]
    command += ["--params", json.dumps({"name": "mistral", "source": source})]
    settings = {"HF_HOME": str(home), "PYTHONPATH": str(SCRIPTS.parents[1] / "src"), "HF_HUB_OFFLINE": offline}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)
    return done.returncode, done.stderr.splitlines()[-1], done.stderr


def test_the_script_in_a_process_of_its_own(hub, tmp_path):
    """Its settings come by the environment, which huggingface_hub reads when it is imported."""
    home = tmp_path / "home"
    status, said, _ = run_script(tmp_path / "out", home, SOURCE | {"revision": "main"})
    assert status == 0
    assert said == f"mistral: 3 file(s), 0.0 MB at commit {COMMIT} (set sources.mistral.revision to it: main may move)"
    hub.log.clear()
    status, said, _ = run_script(tmp_path / "again", home, SOURCE, offline="1")
    assert (status, hub.log) == (0, []) and said == f"mistral: 3 file(s), 0.0 MB at commit {COMMIT}"
    assert digest(tmp_path / "again") == digest(tmp_path / "out")
    hub.gated.add("me/tiny")
    status, said, everything = run_script(tmp_path / "three", tmp_path / "empty", SOURCE)
    assert status == 1 and said.startswith("error: sources.mistral: model me/tiny at revision ") and "is gated" in said
    assert "Traceback" not in everything and not (tmp_path / "three").exists()


def test_a_tiny_model_comes_whole(hub, tmp_path, tokenizer):
    """What is loaded from the fetched folder is the model that was put there."""
    model, home = make_model("mistral"), tmp_path / "home"
    model.save_pretrained(home)
    make_tokenizer().save_pretrained(home)
    hub.repositories["me/mistral"] = {COMMIT: {p.name: p.read_bytes() for p in home.iterdir()}}
    hub.large = 5000
    source = SOURCE | {"repo": "me/mistral", "members": ["*.json", "*.safetensors"]}
    fetch(source, tmp_path / "out", "mistral")
    loaded, ids = (
        load_model(tmp_path / "out"),
        torch.tensor([load_tokenizer(tmp_path / "out")("Bake bread")["input_ids"]]),
    )
    assert ids.tolist() == [tokenizer("Bake bread")["input_ids"]]
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_the_client_is_given_its_patterns_loosely_and_the_members_are_exact(hub, tmp_path):
    """The hub's `*` crosses folders, ours does not."""
    hub.repositories["me/tiny"][COMMIT] = FILES | {"deep/config.json": b"{}"}
    assert fetch(SOURCE | {"members": ["*.json"]}, tmp_path / "out").files == ("config.json",)
    assert members_of({"members": ["*.json"]}) == {"*.json": None}
