"""A Hugging Face Hub of one process on 127.0.0.1: the calls that downloads and uploads make, and what can go wrong.

Downloads: HEAD and GET of /{repo}/resolve/{revision}/{file} with ETag, X-Repo-Commit and ranges; weights are redirected
to another host name, as to the storage of the real one. Uploads: create, validate-yaml, preupload, git-lfs batch, PUT,
verify, commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_of_the_tests"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_large(file: str) -> bool:
    return file.endswith(".safetensors")


@dataclass
class Repo:
    """Commits, the last one is `main`; who may read."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, files: Mapping[str, bytes]) -> str:
        """Add a commit; its 40 digits."""
        merged = {**(list(self.commits.values())[-1] if self.commits else {}), **files}
        number = hashlib.sha1(repr((len(self.commits), sorted(merged.items()))).encode()).hexdigest()
        self.commits[number] = merged
        return number

    def resolve(self, revision: str) -> str | None:
        """The commit that a revision stands for."""
        if revision == "main":
            return list(self.commits)[-1] if self.commits else None
        revision = self.tags.get(revision, revision)
        return revision if revision in self.commits else None


class Hub:
    """Context manager; `endpoint` is what HF_ENDPOINT must be."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}  # by sha256, what was uploaded
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.cuts: list[int] = []  # for the next downloads of weights: bytes after which the connection is cut
        self.portal = False  # every GET gets a page to log in
        self.spoiled = False  # weights arrive with one bit flipped

    def __enter__(self) -> Hub:
        handler = type("Handler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.storage = f"http://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo: str, files: Mapping[str, bytes]) -> str:
        """A commit of a repository, which is made when it is not there."""
        return self.repos.setdefault(repo, Repo()).commit(files)


class Handler(BaseHTTPRequestHandler):
    """One request to the Hub or to its storage."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        if self.hub.portal:
            return self._answer(200, b"<html>")
        if path.startswith("/storage/"):
            return self._content(self.hub.stored[path.removeprefix("/storage/")], {}, weights=True)
        if "/resolve/" in path:
            repo, _, rest = path.strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            return self._resolve(repo, revision, file)
        return self._refuse(404, "")

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._known()):
            return self._refuse(401, "RepoNotFound")
        if repo.gated:
            return self._refuse(403, "GatedRepo")
        commit = repo.resolve(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        if file not in repo.commits[commit]:
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        data = repo.commits[commit][file]
        if not is_large(file):
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            return self._content(data, {"ETag": f'"{blob}"', "X-Repo-Commit": commit})
        self.hub.stored[sha256(data)] = data
        headers = {
            "ETag": '"of the redirect"',
            "X-Linked-Etag": f'"{sha256(data)}"',
            "X-Linked-Size": str(len(data)),
            "X-Repo-Commit": commit,
            "Location": f"{self.hub.storage}/storage/{sha256(data)}",
        }
        return self._answer(302, b"", headers)

    def _content(self, data: bytes, headers: dict[str, str], weights: bool = False) -> None:
        """The bytes, or those of a range; cut short or with a wrong bit where a test wants that."""
        if weights and self.hub.spoiled:
            data = data[:-1] + bytes([data[-1] ^ 1])
        begin, status = 0, 200
        if (wanted := self.headers.get("Range", "")).startswith("bytes="):
            self.hub.ranges.append(wanted)
            begin, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        cut = self.hub.cuts.pop(0) if weights and self.command == "GET" and self.hub.cuts else None
        self._answer(status, data[begin:], headers, cut)

    def do_PUT(self) -> None:
        data = self._body()
        self.hub.stored[sha256(data)] = data
        self._answer(200 if self.path == f"/upload/{sha256(data)}" else 400)

    def do_POST(self) -> None:
        body, path = self._body(), unquote(self.path.split("?")[0])
        if not self._known() and path != "/api/validate-yaml":
            return self._refuse(401, "", {"X-Error-Message": "Invalid credentials in Authorization header"})
        repo, _, _ = path.removeprefix("/api/models").strip("/").partition(".git/")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path.endswith("/info/lfs/objects/batch"):
            return self._json({"transfer": "basic", "objects": [self._lfs(o) for o in json.loads(body)["objects"]]})
        if path == "/verify":
            return self._answer(200 if json.loads(body)["oid"] in self.hub.stored else 404)
        repo, _, branch = repo.partition("/preupload/" if "/preupload/" in path else "/commit/")
        if repo not in self.hub.repos or branch != "main":
            return self._refuse(404, "RepoNotFound")
        if "/preupload/" in path:
            modes = [
                (file["path"], "lfs" if is_large(file["path"]) else "regular") for file in json.loads(body)["files"]
            ]
            return self._json({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes]})
        return self._commit(repo, [json.loads(line) for line in body.splitlines()])

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        there = name in self.hub.repos
        self.hub.repos.setdefault(name, Repo(private=wanted.get("visibility") == "private"))
        self._json({"url": f"{self.hub.endpoint}/{name}"}, 409 if there else 200)

    def _lfs(self, wanted: dict[str, Any]) -> dict[str, Any]:
        upload = {"href": f"{self.hub.storage}/upload/{wanted['oid']}"}
        return {**wanted, "actions": {"upload": upload, "verify": {"href": f"{self.hub.endpoint}/verify"}}}

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files: dict[str, bytes] = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        number = self.hub.repos[repo].commit(files)
        self._json({"commitUrl": f"{self.hub.endpoint}/{repo}/commit/{number}", "commitOid": number})

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, headers: Mapping[str, str] = {}) -> None:
        self._answer(status, b"", {**headers, **({"X-Error-Code": code} if code else {})})

    def _answer(
        self,
        status: int,
        data: bytes = b"",
        headers: Mapping[str, str] = {},
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut])
        if cut is not None:
            self.close_connection = True
