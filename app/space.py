"""`llink space`: a Gradio Space that shows the page of `llink app`.

A Space holds `app.py`, the page's own files as they are here (`PAGE_FILES`), its settings, and the model too unless
that is on the Hub already. It needs no llink: the model comes with the code that lies beside it.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import CommitInfo, HfApi, SpaceCardData
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.repocard import ModelCard
from huggingface_hub.utils import validate_repo_id
from transformers.utils.hub import cached_file

from ..hub_cards.card import bases_licences, escape, public_name
from ..hub_cards.licences import strictest
from ..hub_cards.publishing import complete_stage
from ..hub_cards.staging import forget_folders, stage_folder, temporary_stage, validate
from ..hub_cards.upload import OWN_END, OWN_START, README, LlinkPushError, commit_folder, look, with_own_text
from ..modeling_llink.checkpoint import write_json
from ..modeling_llink.errors import LlinkCheckpointError
from ..modeling_llink.sources import read_json
from ..modeling_llink.weights import BASES
from .page import STARTED

ROOT = Path(__file__).parent.parent
#: The page's files, from the package's root; in a Space they lie in the same order under `CODE`.
PAGE_FILES = (
    *("app/asking.py", "app/page.py", "evaluation/bootstrap.py", "evaluation/usage.py"),
    *("data/errors.py", "errors_llink.py"),
)
CODE, MODEL, SETTINGS = "llink_page", "model", "page.json"
OWNED = ("app.py", "requirements.txt", SETTINGS, f"{CODE}/*", f"{MODEL}/*")
#: What the model's code and the page import; Gradio comes with the Space's `sdk_version`.
LIBRARIES = ("torch", "transformers", "peft", "safetensors", "huggingface_hub", "tokenizers", "numpy", "regex", "tqdm")
#: Fields of the Space's metadata that stay as its owner sets them.
OWNERS = {"title": None, "emoji": "🌏", "colorFrom": "gray", "colorTo": "green", "pinned": False}
#: Seconds that the Space may take until it starts or answers, models of billions of weights on a CPU included.
PATIENCE = 1800
#: What tokens are read from.
LOGINS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

logger = logging.getLogger(__name__)

APP = '''\
"""Asks an llink model about foreign text. Written by `llink space`; the page is in {code}/, its texts in {settings}."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from {code}.app.page import build, launch

HERE = Path(__file__).resolve().parent
model = AutoModelForCausalLM.from_pretrained({source}, trust_remote_code=True, dtype="auto")
model = model.to("cuda" if torch.cuda.is_available() else "cpu")
launch(build(model, **json.loads((HERE / "{settings}").read_text("utf-8"))))
'''
README_TEMPLATE = """---
{{ data }}
---

# {{ title }}

Ask questions about foreign text: a page for {{ model }}, an [llink](https://arxiv.org/abs/2510.27254) model. It
shows the answer as it grows, whether the answer needed the text, what the prompt costs with slots and as raw text, and
the English sentences nearest to the text. `{{ settings }}` holds its examples and sentences.
{%- if closed %}

{{ closed }}
{%- endif %}

{{ start }}

{{ end }}
"""
#: Starts a Space as the Hub does, but where llink cannot be imported.
START = """
import runpy, sys
sys.modules["llink"] = None
sys.path.insert(0, ".")
runpy.run_path("app.py", run_name="__main__")
"""


def push_space(
    model: str | os.PathLike,
    repo_id: str,
    settings: dict[str, Any],
    self_contained: bool | None = None,
    message: str = "Upload llink page",
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    trust_remote_code: bool = False,
) -> CommitInfo:
    """Puts a Space on the Hub in one commit, after it has answered once in a fresh process without llink.

    If the model, or a base that it loads, is private or gated, a warning and the Space's README say what it needs.

    Args:
        model: A checkpoint's folder, which the Space then holds, or a repository on the Hub, which it loads at the
            commit that it has now.
        repo_id: The Space, `user/name`; created when missing.
        settings: From `page_settings`.
        self_contained: Whether the bases' weights go along with a folder; as in the folder when not given.
        message, private, token, revision, create_pr: As in `commit_folder`.
        trust_remote_code: Whether the code of a model on the Hub may run here; needed for one. It gets no token unless
            it could not be loaded without.

    Raises:
        LlinkPushError: If a model on the Hub is not trusted, the model is not complete, the Space does not
            answer, or the upload fails.
        LlinkCheckpointError: If there is no llink model.
    """
    _check_name(repo_id)
    local = Path(model).is_dir()
    if not local and not trust_remote_code:
        raise LlinkPushError(
            f"{model} is no folder here. A Space is tried on this machine before it is pushed, which runs the code of "
            "a model on the Hub: look at it, and if you trust it pass --trust_remote_code (trust_remote_code=True)."
        )
    api = HfApi(token=token)
    with temporary_stage() as folder:
        stage = Path(folder)
        if local:
            stage_model(Path(model), stage / MODEL, repo_id, self_contained)
            config, source, name = read_json(stage / MODEL / "config.json", MODEL), f'HERE / "{MODEL}"', None
        else:
            config, commit = _on_the_hub(api, str(model), token)
            source, name = f"{str(model)!r}, revision={commit!r}", str(model)
        remote = look(api, repo_id, revision, kind="space")
        closed = closed_repositories(api, config, name)
        if closed:
            logger.warning("The Space %s: %s", repo_id, _needs_a_token(closed))
        write_space(stage, source, config, settings, remote.readme, name, closed)
        check_space(stage, settings["examples"][0], token, logged_in=local or bool(closed))
        return commit_folder(api, stage, remote, message, OWNED, None, private, revision, create_pr)


def stage_model(folder: Path, stage: Path, repo_id: str, self_contained: bool | None = None) -> None:
    """Copies a checkpoint for a Space, checked as for any push.

    Raises:
        LlinkPushError: If it is not complete, may not be there, or reloads to another model.
        LlinkCheckpointError: If there is no llink model.
    """
    stage.mkdir()
    stage_folder(folder, stage, self_contained)
    forget_folders(stage)
    validate(stage)
    complete_stage(stage, repo_id)
    (stage / README).unlink()  # its example would load the Space, which is no model


def _check_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise LlinkPushError(f"{repo_id!r} is no name of a Space: give user/name. {error}") from error


def _on_the_hub(api: HfApi, model: str, token: str | None) -> tuple[dict[str, Any], str | None]:
    """The configuration of a model on the Hub, and its commit."""
    try:
        commit = api.model_info(model).sha
        config = read_json(Path(cached_file(model, "config.json", revision=commit, token=token)), model)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise LlinkPushError(f"{model} is no folder, and no model that can be read from the Hub: {reason}") from error
    if config.get("model_type") != "llink" or "AutoModelForCausalLM" not in config.get("auto_map", {}):
        raise LlinkCheckpointError(f"{model} holds no llink model with its code: push one with `llink push`.")
    return config, commit


def closed_repositories(api: HfApi, config: dict[str, Any], model: str | None = None) -> list[str]:
    """The repositories that a model is loaded from and not everybody may read: private or gated ones.

    Args:
        api: With the token to use.
        config: The model's configuration, which names its bases.
        model: The model's repository, if it is loaded from one.

    Raises:
        LlinkPushError: If the Hub cannot be asked.
    """
    bases = [] if config.get("self_contained") else [public_name(config.get(f"{kind}_name_or_path")) for kind in BASES]
    return [name for name in dict.fromkeys([model, *bases]) if name and _is_closed(api, name)]


def _is_closed(api: HfApi, name: str) -> bool:
    try:
        info = api.model_info(name)
    except RepositoryNotFoundError:  # such as one that this token may not see
        return True
    except Exception as error:
        raise LlinkPushError(f"{name} cannot be read: {str(error).strip().partition(chr(10))[0]}") from error
    return bool(info.private or info.gated)


def _needs_a_token(closed: Sequence[str]) -> str:
    return (
        f"Not everybody may read {' and '.join(closed)}: set the secret HF_TOKEN in the Space's settings to a token "
        "that may, or it will not start."
    )


# ------------------------------------------------------------------ writing


def write_space(
    stage: Path,
    source: str,
    config: dict[str, Any],
    settings: dict[str, Any],
    earlier: str | None = None,
    model: str | None = None,
    closed: Sequence[str] = (),
) -> None:
    """Writes everything of a Space but the model.

    Args:
        stage: The Space's folder.
        source: Python: what `from_pretrained` is called with.
        config: The model's configuration.
        settings: From `page_settings`.
        earlier: The README that is replaced; its owner's text and looks stay.
        model: The model's repository, if it has one.
        closed: From `closed_repositories`.
    """
    for name in PAGE_FILES:
        target = stage / CODE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    write_json(stage / SETTINGS, settings)
    (stage / "app.py").write_text(APP.format(code=CODE, settings=SETTINGS, source=source), "utf-8")
    pins = [f"{name}=={version(name).partition('+')[0]}\n" for name in LIBRARIES]
    (stage / "requirements.txt").write_text("".join(pins), "utf-8")
    (stage / README).write_text(_readme(config, settings["title"], earlier, model, closed), "utf-8")


def _readme(config: dict[str, Any], title: str, earlier: str | None, model: str | None, closed: Sequence[str]) -> str:
    old = ModelCard(earlier, ignore_metadata_errors=True).data.to_dict() if earlier else {}
    looks = {name: old.get(name, value) for name, value in (OWNERS | {"title": title}).items()}
    licence = strictest(list(bases_licences(config, ask_hub=True).values()))
    bases = [name for kind in BASES if (name := public_name(config.get(f"{kind}_name_or_path")))]
    data = SpaceCardData(
        **looks,
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version=".".join(platform.python_version_tuple()[:2]),
        app_file="app.py",
        models=[model] if model else bases or None,
        license=licence.id if licence.on_hub else "other",
        tags=["llink"],
    )
    text = jinja2.Template(README_TEMPLATE, keep_trailing_newline=True, undefined=jinja2.StrictUndefined).render(
        data=data.to_yaml().strip(),
        title=escape(title),
        model=f"[{model}](https://huggingface.co/{model})" if model else f"the model in `{MODEL}/`",
        settings=SETTINGS,
        closed=_needs_a_token(closed) if closed else None,
        start=OWN_START,
        end=OWN_END,
    )
    return with_own_text(text, earlier)


# ------------------------------------------------------------------ checking


def check_space(stage: Path, text: str, token: str | None = None, logged_in: bool = True) -> str:
    """Starts a Space in a fresh process that cannot import llink, asks it about a text, and ends it.

    Args:
        stage: The Space's folder.
        text: Foreign text.
        token: For a model that not everybody may read.
        logged_in: Whether it gets this token, or the one logged in with.

    Returns:
        The answer.

    Raises:
        LlinkPushError: If it does not start or does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="llink-space-") as scratch:
        environment = {
            **os.environ,
            **{"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(free_port()), "GRADIO_TEMP_DIR": scratch},
            **{"HF_MODULES_CACHE": scratch, "PYTHONDONTWRITEBYTECODE": "1", "TOKENIZERS_PARALLELISM": "false"},
            **{"HF_HUB_DISABLE_PROGRESS_BARS": "1", "CUDA_VISIBLE_DEVICES": ""},
            **({"HF_TOKEN": token} if token else {}),
        }
        if not logged_in:
            environment = {name: value for name, value in environment.items() if name not in LOGINS}
            environment |= {"HF_TOKEN_PATH": f"{scratch}/none", "HF_STORED_TOKENS_PATH": f"{scratch}/none"}
        log = Path(scratch) / "log.txt"
        with log.open("w") as output:
            running = subprocess.Popen(
                [sys.executable, "-c", START],
                cwd=stage,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                return ask_page(_address(running, log), text)
            finally:
                _end(running)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _address(running: subprocess.Popen, log: Path) -> str:
    """Where a Space says that it can be asked."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended = running.poll() is not None
        lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
        if ended:
            raise LlinkPushError(f"The Space does not start without llink: {(lines or ['it said nothing'])[-1]}")
        for line in lines:
            if line.startswith(STARTED):
                return line.removeprefix(STARTED).strip()
        time.sleep(0.2)
    raise LlinkPushError(f"The Space did not start within {PATIENCE} seconds.")


def _end(running: subprocess.Popen) -> None:
    running.terminate()
    try:
        running.wait(10)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def ask_page(address: str, text: str, patience: float = PATIENCE) -> str:
    """Asks a running page about a text as a program does, and returns the answer.

    Raises:
        LlinkPushError: If it does not answer within `patience` seconds, or gives something else than an answer with its
            usage and tokens.
    """
    from gradio_client import Client

    try:
        client = Client(address, token=False, verbose=False, download_files=False, analytics_enabled=False)
        reply = client.submit(text, "", False, api_name="/ask").result(timeout=patience)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__  # running out of time has no words
        raise LlinkPushError(f"The page at {address} does not answer: {reason}") from error
    known = reply if isinstance(reply, dict) else {}
    if not (isinstance(known.get("answer"), str) and known.get("usage") and known.get("slot_tokens")):
        raise LlinkPushError(f"The page at {address} gives no answer, but {reply!r:.200}.")
    return known["answer"]
