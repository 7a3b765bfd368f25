"""From a model or a checkpoint's folder to the Hub: staged, carded, checked in a fresh process, in one commit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, ModelCard

from ..arguments_llink import checked
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.sources import read_json
from ..modeling_llink.weights import BASES
from .canary import CANARY_FOLDER
from .card import bases_licences, write_card
from .licences import name_problem
from .staging import (
    CODE_FILES,
    EVALUATION_FOLDER,
    NOTICE,
    forget_folders,
    stage_folder,
    stage_model,
    temporary_stage,
    validate,
)
from .upload import README, LlinkPushError, commit_folder, look, with_own_text
from .verify import reload

#: Files of earlier pushes that the new one deletes unless it brings them: old shards, bases, code, and pickles.
OWNED = (
    *("model*.safetensors", "model.safetensors.index.json", "training_args.bin"),
    *(f"{folder}/*" for folder in (*BASES, "encoder_tokenizer", CANARY_FOLDER, EVALUATION_FOLDER)),
    *CODE_FILES,
    # Code of llink 0.1 that is gone or does not travel any more.
    *("canary.py", "foreign_text.py", "lexicon.py", "pooling.py", "processor_files.py", "projector.py"),
    *("publishing.py", "rendering.py", "state_attention.py", "upload.py"),
)


@checked
def push_to_hub(
    model: LlinkForCausalLM | str | os.PathLike,
    repo_id: str,
    *,
    self_contained: bool | None = None,
    max_shard_size: int | str = "50GB",
    evaluations: Sequence[str | os.PathLike] = (),
    **options: Any,
) -> CommitInfo:
    """Puts a model with its processor, code, card, canary and run record on the Hub, in one commit.

    Before anything leaves, the staged files are validated and reloaded in a fresh offline process that cannot import
    llink, where the canary must match. A reader's own text in the repository's card survives.

    Args:
        model: A model, or the folder that `save_pretrained` or a trainer wrote; not changed.
        repo_id: `user/name`.
        self_contained: Whether the bases go along; as they were loaded when not given.
        max_shard_size: As in `save_pretrained`, for a model.
        evaluations: Folders that `llink eval … --output-dir` wrote, besides `folder/evaluation`.
        options: `commit_message`, `commit_description`, `private`, `token`, `revision`, `create_pr`, `tags`,
            `cache_dir` of [`publish`].

    Raises:
        LlinkPushError: If the files are not complete, reload to another model, or the upload fails.
        LlinkCheckpointError: If a folder holds no llink model.
    """
    look(HfApi(token=options.get("token")), repo_id, options.get("revision"))  # can it be reached at all?
    with temporary_stage() as folder:
        stage = Path(folder)
        if isinstance(model, (str, os.PathLike)):
            stage_folder(Path(model), stage, self_contained, evaluations)
        else:
            stage_model(model, stage, repo_id, self_contained, max_shard_size)
            options = {"cache_dir": model.hub_options.get("cache_dir"), **options}
            options["tags"] = [*(options.get("tags") or ()), *(getattr(model, "model_tags", None) or ())]
        return publish(stage, repo_id, **options)


def publish(
    stage: Path,
    repo_id: str,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tags: list[str] | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> CommitInfo:
    """Validates, completes, reloads and uploads a staged folder, which holds nothing but what shall be on the Hub.

    Args:
        stage: Changed: the card is written into it, and folders of this machine are struck from its configuration.
        repo_id, commit_message, commit_description, private, token, revision, create_pr: As in [`commit_folder`].
        tags: Further tags of the card.
        cache_dir: Where the bases of a light checkpoint are cached.

    Raises:
        LlinkPushError: If the files are not complete, reload to another model, or the upload fails.
    """
    forget_folders(stage)
    validate(stage)
    api = HfApi(token=token)
    remote = look(api, repo_id, revision)
    if "adapter_config.json" in remote.files:
        raise LlinkPushError(
            f"{remote.repo_id} holds an adapter_config.json, which would redirect loading to another model. Push to "
            "another repository, or delete that file first."
        )
    complete_stage(stage, remote.repo_id, remote.readme, tags, cache_dir)
    message = commit_message or "Upload llink model"
    return commit_folder(api, stage, remote, message, OWNED, commit_description, private, revision, create_pr)


def complete_stage(
    stage: Path,
    repo_id: str,
    earlier: str | None = None,
    tags: list[str] | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> None:
    """Writes the card and the notices of a validated stage, and reloads the whole in a fresh process.

    Args:
        stage: Changed: the card is written into it.
        repo_id: Where it will be.
        earlier: The card that it replaces.
        tags, cache_dir: As in [`publish`].

    Raises:
        LlinkPushError: If it may not be there, or reloads to another model.
    """
    licences = bases_licences(read_json(stage / "config.json", str(stage)), ask_hub=True)
    if problem := name_problem(repo_id, licences):
        raise LlinkPushError(problem)
    notices = list(dict.fromkeys(licence.notice for licence in licences.values() if licence.notice))
    if notices:
        (stage / NOTICE).write_text("\n".join(notices) + "\n", "utf-8")
    card = ModelCard(with_own_text(str(write_card(stage, repo_id, ask_hub=True)), earlier))
    card.data.tags = list(dict.fromkeys([*(card.data.tags or ()), *(tags or ())])) or None
    (stage / README).write_text(str(card), "utf-8")
    findings = reload(stage, cache_dir)
    wrong = [f"{finding.what}: {finding.detail}" for finding in findings if not (finding.equal or finding.harmless)]
    if wrong:
        raise LlinkPushError(
            f"Reloaded in a fresh process, it is another model; nothing was pushed. {'; '.join(wrong)}"
        )
