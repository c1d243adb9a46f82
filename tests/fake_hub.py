"""A model hub on this machine: repositories in memory, behind the calls of huggingface_hub."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "a" * 34
"""The token that may write."""


@dataclass
class Repository:
    """The files of the newest commit."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(self.commits).encode()).hexdigest()


@dataclass
class FakeHub:
    """The repositories by name, and what went wrong."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    """Calls that it does not know."""
    status: int | None = None
    """An HTTP status with which it refuses all that is written."""


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that serves until the end of the block."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_HEAD = do_GET  # noqa: N815

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        writes = self.command == "POST" and "/preupload" not in path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and self.command == "POST":
            self._send(401, {"error": "Invalid username or password."})
        elif writes and self.hub.status is not None:
            self._send(self.hub.status, {"error": "refused by the test"})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/agent-harnesses":  # which program calls: statistics of the hub
            self._send(404, {"error": "no statistics here"})
        elif path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/preupload/main", path):
            files = json.loads(body)["files"]
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in files
            ]
            self._send(200, {"files": modes})
        elif match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/commit/main", path):
            self._commit(match[1], body)
        elif match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/tree/\w+(/.+)?", path):
            self._tree(match[1], match[2])
        elif match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/\w+)?", path):
            self._about(match[1])
        elif match := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/\w+/(.+)", path):
            self._file(match[1], match[2])
        else:
            self.hub.unknown.append(f"{self.command} {path}")
            self._send(404, {"error": "unknown call"})

    def _create(self, content: dict[str, Any]) -> None:
        name = "/".join(filter(None, (content.get("organization"), content["name"])))
        url = f"{self.hub.address}/{name}"
        if name in self.hub.repositories:
            self._send(409, {"error": "You already created this model repo", "url": url})
            return
        private = content.get("private") is True or content.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private)
        self._send(200, {"url": url, "name": name, "id": name})

    def _commit(self, name: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        for line in body.splitlines():
            each = json.loads(line)
            value = each["value"]
            if each["key"] == "file":
                assert value["encoding"] == "base64"
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif each["key"] == "deletedFile":
                del repository.files[value["path"]]
        repository.commits += 1
        url = f"{self.hub.address}/{name}/commit/{repository.sha}"
        self._send(200, {"success": True, "commitOid": repository.sha, "commitUrl": url})

    def _repository(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return repository

    def _tree(self, name: str, folder: str | None) -> None:
        if folder is not None:
            self._send(404, {"error": "no folder"}, {"X-Error-Code": "EntryNotFound"})
        elif repository := self._repository(name):
            files = [
                {"type": "file", "path": path, "size": len(data), "oid": _oid(data)}
                for path, data in repository.files.items()
            ]
            self._send(200, files)

    def _about(self, name: str) -> None:
        if repository := self._repository(name):
            files = [{"rfilename": path} for path in repository.files]
            about = {"id": name, "sha": repository.sha, "siblings": files, "private": False}
            self._send(200, {**about, "tags": [], "cardData": repository.card})

    def _file(self, name: str, path: str) -> None:
        if repository := self._repository(name):
            data = repository.files.get(path)
            if data is None:
                self._send(404, {"error": "no file"}, {"X-Error-Code": "EntryNotFound"})
            else:
                marks = {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": repository.sha}
                self._send(200, data, marks)

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
