"""A Hub for tests: a real HTTP server that speaks as much of the Hub's API as huggingface_hub's own client uses.

Repositories live in memory as commits, each a whole tree; a commit is applied at once or not at all, as on the Hub.
Large files go through the LFS batch API. Faults are told in advance: a status, or a connection that breaks.
"""

import hashlib
import json
import re
from base64 import b64decode
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub.constants
import tiny
import torch
import transformers.utils.hub
import yaml
from local_server import LocalServer

from llink import LlinkForCausalLM
from llink.hub_cards.staging import CODE_FILES
from llink.hub_cards.verify import check_canary

#: Every file of a light model that is pushed; a run record and an evaluation come on top.
WHOLE = {
    *("README.md", "NOTICE", "config.json", "generation_config.json", "model.safetensors", "processor_config.json"),
    *(
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "canary/facts.json",
        "weight_samples.safetensors",
    ),
    *("canary/expected.safetensors", "encoder_tokenizer/config.json", "encoder_tokenizer/tokenizer.json"),
    *("encoder_tokenizer/tokenizer_config.json", *CODE_FILES),
}
TOKEN = "hf_of_the_owner"
USER = "someone"
LFS = re.compile(r"\.(safetensors|png|bin|model)$")
DATASETS = re.compile(r"^/(api/)?datasets/")


class Answer(Exception):  # noqa: N818 - it also ends requests that went well
    """Ends a request: raised by whatever finds out what to answer."""

    def __init__(self, status=200, content=None, headers=None, code=None, message=None):
        self.status, self.content, self.headers = status, content, dict(headers or {})
        if code is not None:
            self.headers["X-Error-Code"] = code
        if message is not None:
            self.headers["X-Error-Message"] = message
            self.content = {"error": message}


@dataclass
class Fault:
    """The next `times` requests of this method and path get `status`; None breaks the connection.

    `late` breaks it only when the request has been carried out.
    """

    method: str
    path: str
    status: int | None = 500
    times: int = 1
    late: bool = False


@dataclass
class Repo:
    """`commits`: commit → {path: bytes}; `heads`: branch → commit."""

    private: bool = False
    gated: bool = False
    commits: dict = field(default_factory=dict)
    heads: dict = field(default_factory=dict)
    log: list = field(default_factory=list)

    def commit(self, files, branch="main", message="initial commit"):
        sha = hashlib.sha1(f"{len(self.log)} {branch} {message} {id(self)} {sorted(files)}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.heads[branch] = sha
        self.log.append((branch, message, sha))
        return sha

    def resolve(self, revision):
        sha = self.heads.get(revision, revision)
        if sha not in self.commits:
            raise Answer(404, code="RevisionNotFound", message=f"Invalid rev id: {revision}")
        return sha


class HubServer(LocalServer):
    """The Hub; `requests` holds every (method, path) that it was asked for."""

    def __init__(self):
        super().__init__()
        self.repos, self.blobs, self.requests, self.faults = {}, {}, [], []
        self.tokens = {TOKEN: USER}

    # ------------------------------------------------------------------ for tests

    def use(self, monkeypatch, home, token=TOKEN):
        """Points this process and its children at the server, with a cache of their own."""
        constants, cache = huggingface_hub.constants, str(home / "hub")
        for name, value in (
            ("ENDPOINT", self.url),
            ("HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"),
            ("HF_HUB_OFFLINE", False),
            ("HF_HUB_CACHE", cache),
            ("HF_HUB_DISABLE_XET", True),
        ):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
        for name, value in self.environment(home, token).items():
            monkeypatch.setenv(name, value)

    def environment(self, home, token=TOKEN):
        """What a fresh process needs to speak with the server."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": token,
            "DISABLE_SAFETENSORS_CONVERSION": "1",
        }

    def add(self, repo_id, folder, **options):
        """A repository that holds a folder; returns its commit."""
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.repos[repo_id] = Repo(**options)
        return self.repos[repo_id].commit(files)

    def files(self, repo_id, revision="main"):
        repo = self.repos[repo_id]
        return repo.commits[repo.resolve(revision)]

    def download(self, repo_id, folder, revision="main"):
        """Writes a revision's files into a folder."""
        for name, content in self.files(repo_id, revision).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    def asked(self, method, part=""):
        return [path for verb, path in self.requests if verb == method and part in path]

    # ------------------------------------------------------------------ requests

    def handle(self, request):
        body = self.read(request)
        address = urlsplit(request.path)
        path, query = unquote(address.path), {k: v[-1] for k, v in parse_qs(address.query).items()}
        path = DATASETS.sub(
            lambda match: "/api/models/" if match[1] else "/", path
        )  # repositories share one name space
        with self.lock:
            self.requests.append((request.command, path))
            fault = next((f for f in self.faults if f.method == request.command and f.path in path and f.times), None)
            if fault is not None:
                fault.times -= 1
            try:
                if fault is not None and not fault.late:
                    raise Answer(fault.status, message="made to fail")
                self.route(request, path, query, body)
            except Answer as answer:
                if fault is not None and (fault.late or fault.status is None):
                    request.close_connection = True
                    request.connection.close()
                    return
                content = b"" if answer.content is None else answer.content
                self.send(request, answer.status, content, answer.headers)

    @staticmethod
    def read(request):
        if request.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(request.rfile.readline().strip(), 16):
                parts.append(request.rfile.read(size))
                request.rfile.readline()
            request.rfile.readline()
            return b"".join(parts)
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))

    def route(self, request, path, query, body):
        user = self.tokens.get((request.headers.get("Authorization") or "").removeprefix("Bearer "))
        for method, pattern, function in (
            ("GET", r"/api/whoami-v2", self.whoami),
            ("POST", r"/api/validate-yaml", self.validate_yaml),
            ("POST", r"/api/repos/create", self.create),
            ("PUT", r"/lfs/(\w+)", self.store),
            ("POST", r"/REPO\.git/info/lfs/objects/batch", self.lfs_batch),
            ("POST", r"/api/REPO/preupload/(.+)", self.preupload),
            ("POST", r"/api/REPO/commit/(.+)", self.commit),
            ("POST", r"/api/REPO/branch/(.+)", self.branch),
            ("GET", r"/api/REPO/tree/([^/]+)/?(.*)", self.tree),
            ("GET", r"/api/REPO/revision/(.+)", self.info),
            ("GET", r"/api/REPO", self.info),
            ("(?:GET|HEAD)", r"/REPO/resolve/([^/]+|refs/pr/\d+)/(.+)", self.file),
        ):
            # Spaces are kept as `spaces/user/name`, models as `user/name`, which the API calls `models/user/name`.
            kinds = r"(?:models/)?" if "/api/" in pattern else ""
            pattern = pattern.replace("REPO", kinds + r"((?:spaces/)?[\w.-]+/[\w.-]+)")
            match = re.fullmatch(pattern, path)
            if match and re.fullmatch(method, request.command):
                function(user, query, body, *match.groups())
        raise Answer(404, message=f"no {request.command} {path}")

    def repo(self, repo_id, user, write=False):
        repo = self.repos.get(repo_id)
        if repo is None or (repo.private and user is None):
            raise Answer(404 if user else 401, code="RepoNotFound", message="Repository not found")
        if write and user != repo_id.removeprefix("spaces/").partition("/")[0]:
            raise Answer(403 if user else 401, message="You have no write access")
        return repo

    def whoami(self, user, query, body):
        if user is None:
            raise Answer(401, message="Invalid username or password.")
        raise Answer(content={"name": user, "type": "user", "auth": {}})

    def validate_yaml(self, user, query, body):
        text = json.loads(body)["content"]
        errors = []
        try:
            head = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
            for entry in head.get("model-index", []):
                for result in entry["results"]:
                    _ = result["task"]["type"], result["dataset"]["type"], result["dataset"]["name"]
                    _ = [(metric["type"], metric["value"]) for metric in result["metrics"]]
        except Exception as error:
            errors = [{"message": repr(error)}]
        raise Answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def create(self, user, query, body):
        asked = json.loads(body)
        if user is None or (asked.get("organization") or user) != user:
            raise Answer(403 if user else 401, message="You cannot create it")
        kind = asked.get("type") or "model"
        if kind == "space" and not asked.get("sdk"):
            raise Answer(400, message="A Space needs an sdk")
        repo_id = f"{'spaces/' if kind == 'space' else ''}{user}/{asked['name']}"
        answer = {"url": f"{self.url}/{repo_id}", "name": repo_id}
        if repo_id in self.repos:
            raise Answer(409, answer)
        self.repos[repo_id] = Repo(private=asked.get("visibility") == "private" or bool(asked.get("private")))
        self.repos[repo_id].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        raise Answer(content=answer)

    def info(self, user, query, body, repo_id, revision="main"):
        repo = self.repo(repo_id, user)
        sha = repo.resolve(revision)
        siblings = [{"rfilename": name} for name in sorted(repo.commits[sha])]
        raise Answer(
            content={"_id": "0", "id": repo_id.removeprefix("spaces/"), "sha": sha, "private": repo.private, "tags": []}
            | {"siblings": siblings, "downloads": 0, "likes": 0, "gated": "auto" if repo.gated else False}
        )

    def tree(self, user, query, body, repo_id, revision, folder):
        repo = self.repo(repo_id, user)
        files = repo.commits[repo.resolve(revision)]
        found = [name for name in sorted(files) if not folder or name.startswith(f"{folder}/")]
        if folder and not found:
            raise Answer(404, code="EntryNotFound", message=f"no {folder}")
        raise Answer(content=[{"type": "file", "path": n, "size": len(files[n]), "oid": blob(files[n])} for n in found])

    def file(self, user, query, body, repo_id, revision, name):
        repo = self.repo(repo_id, user)
        if repo.gated and user is None:
            raise Answer(401, code="GatedRepo", message=f"Access to model {repo_id} is restricted.")
        if repo.gated and user != USER:
            raise Answer(403, code="GatedRepo", message=f"Access to model {repo_id} is restricted.")
        sha = repo.resolve(revision)
        content = repo.commits[sha].get(name)
        if content is None:
            raise Answer(404, headers={"X-Repo-Commit": sha}, code="EntryNotFound", message=f"no {name}")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{blob(content)}"', "Content-Type": "application/octet-stream"}
        if LFS.search(name):
            headers |= {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        raise Answer(content=content, headers=headers)

    def preupload(self, user, query, body, repo_id, revision):
        repo = self.repo(repo_id, user, write=True)
        files = repo.commits[repo.resolve(revision)]
        answers = []
        for file in json.loads(body)["files"]:
            large, old = bool(LFS.search(file["path"])), files.get(file["path"])
            oid = None if old is None else hashlib.sha256(old).hexdigest() if large else blob(old)
            mode = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            answers.append(mode | {"oid": oid})
        raise Answer(content={"files": answers})

    def lfs_batch(self, user, query, body, repo_id):
        answers = []
        for wanted in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.url}/lfs/{wanted['oid']}", "header": {}}}
            answers.append(wanted | ({} if wanted["oid"] in self.blobs else {"actions": upload}))
        raise Answer(content={"transfer": "basic", "objects": answers})

    def store(self, user, query, body, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            raise Answer(400, message="the content is not what was announced")
        self.blobs[oid] = body
        raise Answer()

    def branch(self, user, query, body, repo_id, name):
        repo = self.repo(repo_id, user, write=True)
        if name in repo.heads:
            raise Answer(409, message="it exists")
        repo.heads[name] = repo.resolve(json.loads(body or b"{}").get("startingPoint") or "main")
        raise Answer(content={})

    def commit(self, user, query, body, repo_id, revision):
        repo = self.repo(repo_id, user, write=True)
        if revision not in repo.heads:
            raise Answer(404, code="RevisionNotFound", message=f"Invalid rev id: {revision}")
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        head = repo.heads[revision]
        if header.get("parentCommit") not in (None, head):
            raise Answer(412, message="A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[head])
        for line in lines[1:]:
            kind, value = line["key"], line["value"]
            if kind == "file":
                files[value["path"]] = b64decode(value["content"])
            elif kind == "lfsFile":
                if value["oid"] not in self.blobs:
                    raise Answer(400, message=f"{value['path']} was never uploaded")
                files[value["path"]] = self.blobs[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
            else:
                raise Answer(422, message=f"unknown operation {kind}")
        branch = revision
        if query.get("create_pr"):
            branch = f"refs/pr/{1 + sum(name.startswith('refs/pr/') for name in repo.heads)}"
        sha = repo.commit(files, branch, header["summary"])
        answer = {"commitUrl": f"{self.url}/{repo_id}/commit/{sha}", "commitOid": sha}
        if branch != revision:
            answer["pullRequestUrl"] = f"{self.url}/{repo_id}/discussions/{branch.rpartition('/')[2]}"
        raise Answer(content=answer)


def blob(content):
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


ENCODER, DECODER = "FacebookAI/xlm-roberta-tiny", "meta-llama/Llama-3.2-tiny"


def add_bases(hub, base_folder, encoder=ENCODER, decoder=DECODER):
    """Puts a tiny XLM-R and a tied Llama on the Hub."""
    hub.add(encoder, Path(base_folder("encoder", "xlm-roberta")))
    hub.add(decoder, Path(base_folder("decoder", "llama")))


def build(**config):
    """A tiny model on the Hub's bases, LoRA awake."""
    config = {"num_slots": 4, "stage": "inject", "teacher_conditioning": "none", **config}
    torch.manual_seed(0)
    return tiny.wake(LlinkForCausalLM.from_encoder_decoder_pretrained(ENCODER, DECODER, **config))


def reload_here(folder, cache_dir=None):
    """Stands for `publishing.reload` where the fresh process is not what is tested: it takes ten seconds."""
    return check_canary(LlinkForCausalLM.from_pretrained(folder))


def pushed(hub, repo, branch="main") -> set[str]:
    """The names of what was put into a repository."""
    return set(hub.files(repo, branch)) - {".gitattributes"}


def commits(hub, repo) -> list[str]:
    """The messages of a repository's commits after the first, which made it."""
    return [message for _, message, _ in hub.repos[repo].log][1:]


def serving():
    """A [`HubServer`] that answers while the block runs."""
    return HubServer().running()


@contextmanager
def tiny_hub(monkeypatch, home, base_folder):
    """A [`HubServer`] that this process uses, with the tiny bases on it."""
    with serving() as server:
        server.use(monkeypatch, home)
        add_bases(server, base_folder)
        yield server
