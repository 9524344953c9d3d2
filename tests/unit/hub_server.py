"""A stand-in for the Hugging Face hub on this machine: as much of its protocol as a download needs, and its ways to fail."""

import contextlib
import hashlib
import http.server
import json
import socket
import struct
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field

COMMIT, OLDER = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"


@dataclass
class Hub:
    """`repositories`: name → commit → file → content; a dataset's name begins with ``datasets/``. `main` is the newest commit.

    `branches`: name → branch → commit, of a repository that has more than one. `large`: files from so many bytes on stand on another host (the name ``localhost``), as the hub's large files do.
    `gated`: names of which everything but the list of files is closed. `cut`: a connection ends after so many bytes of a
    file; `resets`: so many connections are reset at the start of a large file; `failure`: every answer has this status;
    `down_after`: so many files are asked for before the hub answers 503.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]]
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    large: int = 10**9
    gated: set[str] = field(default_factory=set)
    cut: int | None = None
    resets: int = 0
    failure: int | None = None
    down_after: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)  # other paths, served as they are
    log: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    tokens: list[tuple[str, str | None]] = field(default_factory=list)  # host, Authorization
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = urllib.parse.unquote(self.path.partition("?")[0]).removeprefix("/")
        self.hub.log.append((self.command, path, self.headers.get("Range")))
        self.hub.tokens.append((self.headers["Host"].split(":")[0], self.headers.get("Authorization")))
        if self.hub.failure or self.down():
            self.reply(self.hub.failure or 503)
        elif path in self.hub.files:
            self.body(self.hub.files[path])
        elif path.startswith("cdn/"):
            everything = [c for r in self.hub.repositories.values() for files in r.values() for c in files.values()]
            self.body({digest(content): content for content in everything}[path.removeprefix("cdn/")])
        else:
            self.repository(path)

    def down(self) -> bool:
        if self.hub.down_after is None:
            return False
        asked = [path for method, path, _ in list(self.hub.log) if method == "GET" and not path.startswith("api/")]
        return len(asked) > self.hub.down_after

    def repository(self, path: str) -> None:
        api, path = path.startswith("api/"), path.removeprefix("api/").removeprefix("models/")
        name = next((n for n in self.hub.repositories if path.startswith(n + "/")), None)
        if name is None:
            return self.reply(404, **{"X-Error-Code": "RepoNotFound"})
        what, revision, file = [*path.removeprefix(name + "/").split("/", 2), ""][:3]
        commits = self.hub.repositories[name]
        newest = {"main": next(iter(commits))}
        commit = (newest | self.hub.branches.get(name, {})).get(revision, revision)
        if commit not in commits:
            return self.reply(404, **{"X-Error-Code": "RevisionNotFound"})
        files = commits[commit]
        if api and what == "revision":
            return self.reply(200, json.dumps({"id": name, "sha": commit, "siblings": []}).encode())
        if api:
            tree = [{"type": "file", "path": f, "size": len(c), "oid": digest(c)[:40]} for f, c in files.items()]
            return self.reply(200, json.dumps(tree).encode())
        if name in self.hub.gated:
            return self.reply(401, **{"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if file not in files:
            return self.reply(404, **{"X-Error-Code": "EntryNotFound"})
        self.file(files[file], commit)

    def file(self, content: bytes, commit: str) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest(content)}"'}
        if len(content) < self.hub.large:
            return self.body(content, **headers)
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost") + f"/cdn/{digest(content)}"
        linked = {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(content)), "Location": elsewhere}
        self.reply(302, **headers, **linked)

    def body(self, content: bytes, **headers: str) -> None:
        """The content from where Range says; less of it where the connection is to break."""
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
        if self.command == "GET" and self.hub.resets:
            self.hub.resets -= 1
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.reply(200, content[:1], length=len(content), **headers)
            self.wfile.flush()
            self.connection.close()
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        stop = None if self.hub.cut is None else start + self.hub.cut
        self.reply(206 if start else 200, content[start:stop], length=len(content) - start, **headers)

    def reply(self, status: int, content: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in {
            "Content-Length": str(len(content) if length is None else length),
            "Connection": "close",
            **headers,
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *_) -> None:
        pass


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub on a free port of this machine; `hub.url` is its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
