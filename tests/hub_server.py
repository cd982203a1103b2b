"""A small Hugging Face Hub on loopback, for tests of publishing and loading over real HTTP.

It speaks the part of the Hub's protocol that the unmodified clients (huggingface_hub, diffusers, datasets) use to
create repositories, commit to them and read them, and holds everything in memory. huggingface_hub reads `HF_ENDPOINT`
when it is imported, so clients run in processes of their own, with :meth:`HubServer.environment`. Files travel by the
LFS protocol: the newer Xet storage has a server of its own that is not built here, hence `HF_HUB_DISABLE_XET=1`.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

USER = "user"
_SDKS = ("gradio", "docker", "static")
_LFS_SUFFIXES = (".safetensors", ".parquet", ".jpg", ".png")
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_DATE = "2026-01-01T00:00:00.000Z"


@dataclass
class Commit:
    """All files of one revision."""

    sha: str
    message: str
    files: dict[str, bytes]
    lfs: set[str]


@dataclass
class Repo:
    """A repository: its branches and every commit that was ever made."""

    kind: str  # "models", "datasets" or "spaces"
    name: str
    private: bool
    sdk: str | None = None  # of a Space
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch or a sha names."""
        return self.commits.get(self.branches.get(revision, revision))

    def add(self, branch: str, message: str, files: dict[str, bytes], lfs: set[str]) -> Commit:
        sha = hashlib.sha1(f"{self.name} {len(self.commits)} {message}".encode()).hexdigest()
        self.commits[sha] = Commit(sha, message, files, lfs)
        self.branches[branch] = sha
        return self.commits[sha]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Path -> content at a revision."""
        commit = self.at(revision)
        assert commit is not None, f"{self.name} has no revision {revision!r}"
        return commit.files


class HubServer:
    """The server's address, the only token that it accepts, and what has been stored.

    `repos` maps ("models", "datasets" or "spaces", "user/name") to :class:`Repo`; `requests` lists (method, path,
    status).
    """

    def __init__(self) -> None:
        self.token = f"hf_{secrets.token_hex(17)}"
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}  # uploaded LFS objects by their sha256
        self.upload_key = secrets.token_hex(8)  # stands for the signature in the storage's URLs
        self.requests: list[tuple[str, str, int]] = []
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def environment(self, home: str | Path, token: str | None = None) -> dict[str, str]:
        """Environment of a client process whose caches, modules and login lie in `home`."""
        cleared = ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
        settings = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        kept = {key: value for key, value in os.environ.items() if key not in cleared}
        return kept | settings | ({} if token is None else {"HF_TOKEN": token})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def hub_server() -> Iterator[HubServer]:
    hub = HubServer()
    try:
        yield hub
    finally:
        hub.close()


class _Failure(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass  # HubServer.requests remembers them

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET

    # HTTP

    def _handle(self) -> None:
        self.body = self._read_body()  # also where the answer does not depend on it: the connection is kept
        self.address = urlsplit(self.path)
        parts = [unquote(part) for part in self.address.path.strip("/").split("/")]
        try:
            with self.hub.lock:
                self._route(parts)
        except _Failure as failure:
            headers = {"X-Error-Message": str(failure)} | ({"X-Error-Code": failure.code} if failure.code else {})
            self._send(json.dumps({"error": str(failure)}).encode(), failure.status, headers)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.hub.requests.append((self.command, self.address.path, status))
        self.send_response(status)
        for key, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, answer: object) -> None:
        self._send(json.dumps(answer).encode())

    # Who may do what

    def _authorized(self) -> bool:
        """Whether a token came along; a wrong one is refused even where none is needed."""
        header = self.headers.get("Authorization")
        if header is not None and header != f"Bearer {self.hub.token}":
            raise _Failure(401, "Invalid credentials in Authorization header")
        return header is not None

    def _require_token(self) -> None:
        if not self._authorized():
            raise _Failure(401, "Invalid username or password.")

    def _repo(self, kind: str, name: str, write: bool = False) -> Repo:
        if write:
            self._require_token()
        authorized = self._authorized()
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not authorized):
            raise _Failure(404 if authorized else 401, "Repository not found", "RepoNotFound")
        if write and not name.startswith(f"{USER}/"):
            raise _Failure(403, "You don't have the required permissions")
        return repo

    @staticmethod
    def _commit(repo: Repo, revision: str) -> Commit:
        commit = repo.at(revision)
        if commit is None:
            raise _Failure(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # Routes

    def _route(self, parts: list[str]) -> None:
        match self.command, parts:
            case "GET", ["api", "whoami-v2"]:
                self._require_token()
                self._json({"type": "user", "name": USER, "orgs": [], "auth": {"type": "access_token"}})
            case "POST", ["api", "validate-yaml"]:
                self._validate_card(json.loads(self.body)["content"])
            case "POST", ["api", "repos", "create"]:
                self._create(json.loads(self.body))
            case method, ["api", ("models" | "datasets" | "spaces") as kind, user, name, *rest]:
                repo = self._repo(kind, f"{user}/{name}", write=rest[:1] in (["preupload"], ["commit"], ["branch"]))
                self._repo_api(method, repo, rest)
            case "POST", [*owner, user, repository, "info", "lfs", "objects", "batch"]:
                repo = self._repo((owner or ["models"])[0], f"{user}/{repository.removesuffix('.git')}", write=True)
                self._lfs_batch(repo, json.loads(self.body))
            case "PUT", ["lfs", key, oid] if key == self.hub.upload_key:
                if hashlib.sha256(self.body).hexdigest() != oid:
                    raise _Failure(400, "the content does not match its sha256")
                self.hub.blobs[oid] = self.body
                self._send(b"")
            case "POST", ["lfs", "verify"]:
                self._require_token()
                wanted = json.loads(self.body)
                if len(self.hub.blobs.get(wanted["oid"], b"")) != wanted["size"]:
                    raise _Failure(404, "the object was not uploaded")
                self._json({})
            case (("GET" | "HEAD"), [("datasets" | "spaces") as kind, user, name, "resolve", revision, *path]):
                self._resolve(self._repo(kind, f"{user}/{name}"), revision, "/".join(path))
            case (("GET" | "HEAD"), [user, name, "resolve", revision, *path]):
                self._resolve(self._repo("models", f"{user}/{name}"), revision, "/".join(path))
            case _:
                raise _Failure(404, f"no such route: {self.command} {self.path}")

    def _repo_api(self, method: str, repo: Repo, rest: list[str]) -> None:
        match method, rest:
            case "GET", []:
                self._json(self._info(repo, "main"))
            case "GET", ["revision", revision]:
                self._json(self._info(repo, revision))
            case "GET", ["tree", revision, *path]:
                recursive = parse_qs(self.address.query).get("recursive", ["false"])[0].lower() == "true"
                folder = "/".join(path)
                prefix = f"{folder}/" if folder else ""
                entries = self._entries(self._commit(repo, revision))
                inside = [entry for entry in entries if entry["path"].startswith(prefix)]
                if folder and not inside:
                    raise _Failure(404, f"{folder} does not exist", "EntryNotFound")
                self._json([entry for entry in inside if recursive or "/" not in entry["path"][len(prefix) :]])
            case "POST", ["paths-info", revision]:
                wanted = set(parse_qs(self.body.decode()).get("paths", []))
                entries = self._entries(self._commit(repo, revision))
                self._json([entry for entry in entries if entry["path"] in wanted])
            case "GET", ["refs"]:
                branches = [
                    {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
                    for name, sha in repo.branches.items()
                ]
                self._json({"branches": branches, "tags": [], "converts": []})
            case "POST", ["branch", branch]:
                if branch in repo.branches:
                    raise _Failure(409, f"Reference already exists: {branch}")
                start = json.loads(self.body or b"{}").get("startingPoint", "main")
                repo.branches[branch] = self._commit(repo, start).sha
                self._json({})
            case "POST", ["preupload", revision]:
                self._preupload(self._commit(repo, revision), json.loads(self.body)["files"])
            case "POST", ["commit", branch]:
                self._make_commit(repo, branch)
            case _:
                raise _Failure(404, f"no such route: {self.command} {self.path}")

    def _validate_card(self, content: str) -> None:
        block = _FRONT_MATTER.match(content)
        try:
            fine = block is None or isinstance(yaml.safe_load(block[1]), dict)
        except yaml.YAMLError:
            fine = False
        problems = [] if fine else [{"message": "the front matter is not a YAML mapping"}]
        answer = {"errors": problems, "warnings": [] if block else [{"message": "empty or missing yaml metadata"}]}
        self._send(json.dumps(answer).encode(), 400 if problems else 200)

    def _create(self, wanted: dict) -> None:
        self._require_token()
        owner = wanted.get("organization") or USER
        if owner != USER:
            raise _Failure(403, f"You don't have the rights to create a repo under the namespace {owner}")
        kind, name = f"{wanted.get('type', 'model')}s", f"{owner}/{wanted['name']}"
        url = f"{self.hub.url}/{'' if kind == 'models' else f'{kind}/'}{name}"
        if (kind, name) in self.hub.repos:
            self._send(json.dumps({"error": "You already created this repo", "url": url}).encode(), 409)
            return
        sdk = wanted.get("sdk")
        if kind == "spaces" and sdk not in _SDKS:
            raise _Failure(400, f"sdk must be one of {', '.join(_SDKS)}")
        repo = self.hub.repos[kind, name] = Repo(kind, name, wanted.get("visibility") == "private", sdk)
        repo.add("main", "initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"}, set())
        self._json({"url": url, "name": name, "private": repo.private})

    # Reading

    def _info(self, repo: Repo, revision: str) -> dict:
        commit = self._commit(repo, revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        facts = {"id": repo.name, "sha": commit.sha, "private": repo.private, "gated": False, "disabled": False}
        return facts | {"tags": [], "siblings": siblings, "lastModified": _DATE, "createdAt": _DATE}

    @staticmethod
    def _entries(commit: Commit) -> list[dict]:
        """Files and folders of a commit, in the format of the tree."""
        files, folders = [], set()
        for path, content in sorted(commit.files.items()):
            entry = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
            if path in commit.lfs:
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            files.append(entry)
            folders.update(str(parent) for parent in Path(path).parents if str(parent) != ".")
        return [
            {"type": "directory", "path": path, "size": 0, "oid": _git_oid(path.encode())} for path in sorted(folders)
        ] + files

    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        commit = self._commit(repo, revision)
        headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if path not in commit.files:
            self._send(b"", 404, headers | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            return
        content = commit.files[path]
        digest = hashlib.sha256(content).hexdigest() if path in commit.lfs else _git_oid(content)
        headers["ETag"] = f'"{digest}"'
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None or self.command == "HEAD":
            self._send(content, 200, headers)
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        if first > last:
            self._send(b"", 416, headers | {"Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(content[first : last + 1], 206, headers)

    # Writing

    def _preupload(self, commit: Commit, files: list[dict]) -> None:
        modes = []
        for file in files:
            lfs = file["path"].endswith(_LFS_SUFFIXES)
            old = commit.files.get(file["path"])
            oid = None if old is None else hashlib.sha256(old).hexdigest() if lfs else _git_oid(old)
            mode = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid}
            modes.append(mode)
        self._json({"files": modes})

    def _lfs_batch(self, repo: Repo, wanted: dict) -> None:
        objects = []
        for item in wanted["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.blobs:
                upload = {"href": f"{self.hub.url}/lfs/{self.hub.upload_key}/{item['oid']}"}
                answer["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs/verify"}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def _make_commit(self, repo: Repo, branch: str) -> None:
        if branch not in repo.branches:
            raise _Failure(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        old = self._commit(repo, branch)
        files, lfs, message = dict(old.files), set(old.lfs), ""
        for line in self.body.splitlines():
            if not line:
                continue
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "header":
                    message = value["summary"]
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                    lfs.discard(value["path"])
                case "lfsFile":
                    if value["oid"] not in self.hub.blobs:
                        raise _Failure(400, f"{value['path']}: its content was not uploaded")
                    files[value["path"]] = self.hub.blobs[value["oid"]]
                    lfs.add(value["path"])
                case "deletedFile":
                    del files[value["path"]]
                    lfs.discard(value["path"])
                case unknown:
                    raise _Failure(400, f"unknown operation {unknown}")
        commit = repo.add(branch, message, files, lfs)
        prefix = "" if repo.kind == "models" else f"{repo.kind}/"
        url = f"{self.hub.url}/{prefix}{repo.name}/commit/{commit.sha}"
        self._json({"success": True, "commitOid": commit.sha, "commitUrl": url, "hookOutput": ""})


def _git_oid(content: bytes) -> str:
    """Git's id of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
