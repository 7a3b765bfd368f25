"""`llink space`: a Gradio Space that shows the page of `llink app`.

A Space holds `app.py`, the page's own files as they are here (`PAGE_FILES`), its settings, and the model too unless
that is on the Hub already. It needs no llink: the model comes with the code that lies beside it.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import CommitInfo, HfApi, SpaceCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard import ModelCard
from huggingface_hub.utils import validate_repo_id
from transformers.utils.hub import cached_file

from ..hub_cards.card import bases_licences, escape, public_name
from ..hub_cards.licences import strictest
from ..hub_cards.packager import stage_folder
from ..modeling_llink.checkpoint import BASES, LlinkCheckpointError, write_json
from ..modeling_llink.publishing import complete_stage, forget_folders, temporary_stage, validate
from ..modeling_llink.sources import read_json
from ..modeling_llink.upload import OWN_END, OWN_START, README, LlinkPushError, commit_folder, look, with_own_text

ROOT = Path(__file__).parent.parent
#: The page's files, from the package's root; in a Space they lie in the same order under `CODE`.
PAGE_FILES = ("app/asking.py", "app/page.py", "evaluation/bootstrap.py", "evaluation/usage.py")
CODE, MODEL, SETTINGS = "llink_page", "model", "page.json"
OWNED = ("app.py", "requirements.txt", SETTINGS, f"{CODE}/*", f"{MODEL}/*")
#: What the model's code and the page import; Gradio comes with the Space's `sdk_version`.
LIBRARIES = ("torch", "transformers", "peft", "safetensors", "huggingface_hub", "tokenizers", "numpy", "regex", "tqdm")
#: Fields of the Space's metadata that stay as its owner sets them.
OWNERS = {"title": None, "emoji": "🌏", "colorFrom": "gray", "colorTo": "green", "pinned": False}
#: Seconds that the Space may take until it answers, models of billions of weights on a CPU included.
PATIENCE = 1800

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
) -> CommitInfo:
    """Puts a Space on the Hub in one commit, after it has answered once in a fresh process without llink.

    Args:
        model: A checkpoint's folder, which the Space then holds, or a repository on the Hub, which it loads at the
            commit that it has now.
        repo_id: The Space, `user/name`; created when missing.
        settings: From `page_settings`.
        self_contained: Whether the bases' weights go along with a folder; as in the folder when not given.
        message, private, token, revision, create_pr: As in `commit_folder`.

    Raises:
        LlinkPushError: If the model is not complete, the Space does not answer, or the upload fails.
        LlinkCheckpointError: If there is no llink model.
    """
    _check_name(repo_id)
    api = HfApi(token=token)
    with temporary_stage() as folder:
        stage = Path(folder)
        if Path(model).is_dir():
            stage_model(Path(model), stage / MODEL, repo_id, self_contained)
            config, source, name = read_json(stage / MODEL / "config.json", MODEL), f'HERE / "{MODEL}"', None
        else:
            config, commit = _on_the_hub(api, str(model), token)
            source, name = f"{str(model)!r}, revision={commit!r}", str(model)
        remote = look(api, repo_id, revision, kind="space")
        write_space(stage, source, config, settings, remote.readme, name)
        check_space(stage, settings["examples"][0], token)
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


def _on_the_hub(api: HfApi, model: str, token: str | None) -> tuple[dict[str, Any], str]:
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


# ------------------------------------------------------------------ writing


def write_space(
    stage: Path,
    source: str,
    config: dict[str, Any],
    settings: dict[str, Any],
    earlier: str | None = None,
    model: str | None = None,
) -> None:
    """Writes everything of a Space but the model.

    Args:
        stage: The Space's folder.
        source: Python: what `from_pretrained` is called with.
        config: The model's configuration.
        settings: From `page_settings`.
        earlier: The README that is replaced; its owner's text and looks stay.
        model: The model's repository, if it has one.
    """
    for name in PAGE_FILES:
        target = stage / CODE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    write_json(stage / SETTINGS, settings)
    (stage / "app.py").write_text(APP.format(code=CODE, settings=SETTINGS, source=source), "utf-8")
    pins = [f"{name}=={version(name).partition('+')[0]}\n" for name in LIBRARIES]
    (stage / "requirements.txt").write_text("".join(pins), "utf-8")
    (stage / README).write_text(_readme(config, settings["title"], earlier, model), "utf-8")


def _readme(config: dict[str, Any], title: str, earlier: str | None, model: str | None) -> str:
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
        start=OWN_START,
        end=OWN_END,
    )
    return with_own_text(text, earlier)


# ------------------------------------------------------------------ checking


def check_space(stage: Path, text: str, token: str | None = None) -> str:
    """Starts a Space in a fresh process that cannot import llink, asks it about a text, and ends it.

    Args:
        stage: The Space's folder.
        text: Foreign text.
        token: For a model that not everybody may read.

    Returns:
        The answer.

    Raises:
        LlinkPushError: If it does not start or does not answer.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="llink-space-") as scratch:
        environment = {
            **os.environ,
            **{"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": scratch},
            **{"HF_MODULES_CACHE": scratch, "PYTHONDONTWRITEBYTECODE": "1", "TOKENIZERS_PARALLELISM": "false"},
            **{"HF_HUB_DISABLE_PROGRESS_BARS": "1", "CUDA_VISIBLE_DEVICES": ""},
            **({"HF_TOKEN": token} if token else {}),
        }
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
                _wait_for(running, port, log)
                return ask_page(f"http://127.0.0.1:{port}", text)
            finally:
                running.terminate()
                running.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(running: subprocess.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if running.poll() is not None:
            lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
            raise LlinkPushError(f"The Space does not start without llink: {(lines or ['it said nothing'])[-1]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise LlinkPushError(f"The Space did not start within {PATIENCE} seconds.")


def ask_page(address: str, text: str) -> str:
    """Asks a running page about a text as a program does, and returns the answer.

    Raises:
        LlinkPushError: If it does not answer, or shows something else than an answer with its usage and tokens.
    """
    from gradio_client import Client

    try:
        client = Client(address, token=False, verbose=False, download_files=False, analytics_enabled=False)
        shown = client.predict(text, "", False, api_name="/ask")
    except Exception as error:
        raise LlinkPushError(f"The page at {address} does not answer: {str(error).partition(chr(10))[0]}") from error
    note, answer, _, usage, tokens, _ = shown
    if not (isinstance(answer, str) and usage and tokens):
        raise LlinkPushError(f"The page at {address} shows no answer, but {note!r}.")
    return answer
