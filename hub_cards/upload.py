"""One folder, one commit: uploading to the Hub so that a revision is whole before and after, and a reader's text stays.

`HfApi.upload_folder` may split a folder over several commits, so the commit is built here.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..configuration_llink import LlinkError

README = "README.md"
OWN_START = "<!-- Your own text goes between this line and the next such line: it survives every push. -->"
OWN_END = "<!-- End of your own text. -->"
#: Metadata that every push writes anew; the reader's other fields stay, and tags are joined.
GENERATED_FIELDS = {
    *("library_name", "pipeline_tag", "language", "license", "license_name", "license_link"),
    *("base_model", "base_model_relation", "model_name", "eval_results", "tags"),
}


class LlinkPushError(LlinkError, RuntimeError):
    """A model or processor was not put on the Hub."""


@dataclass(frozen=True)
class Remote:
    """A revision as it is before a push: its commit, files and card; all empty where there is none yet.

    `kind` is the Hub's repo_type: `model` or `space`.
    """

    repo_id: str
    commit: str | None = None
    files: tuple[str, ...] = ()
    readme: str | None = None
    branch_exists: bool = True
    kind: str = "model"


def look(api: HfApi, repo_id: str, revision: str | None = None, kind: str = "model") -> Remote:
    """What the Hub holds at `repo_id`, a `model` or a `space`, now.

    Raises:
        LlinkPushError: If the Hub cannot be asked, or refuses.
    """
    try:
        if "/" not in repo_id:
            repo_id = f"{api.whoami()['name']}/{repo_id}"
        exists = True
        try:
            info = api.repo_info(repo_id, revision=revision, repo_type=kind)
        except RevisionNotFoundError:
            exists, info = False, api.repo_info(repo_id, repo_type=kind)  # the branch will start from the default one
        files = tuple(sibling.rfilename for sibling in info.siblings or ())
        readme = None
        if README in files:
            path = api.hf_hub_download(repo_id, README, revision=info.sha, repo_type=kind)
            readme = Path(path).read_text("utf-8")
    except RepositoryNotFoundError:  # or one that the token may not see: creating it will tell
        return Remote(repo_id, branch_exists=False, kind=kind)
    except OfflineModeIsEnabled as error:
        raise LlinkPushError(f"{repo_id}: offline mode is on. Unset HF_HUB_OFFLINE to push.") from error
    except Exception as error:
        raise LlinkPushError(f"{repo_id} cannot be read: {_reason(error)}") from error
    return Remote(repo_id, info.sha, files, readme, exists, kind)


def commit_folder(
    api: HfApi,
    folder: Path,
    remote: Remote,
    message: str,
    owned: tuple[str, ...] = (),
    description: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Uploads every file of a folder in one commit on top of `remote`.

    Args:
        api: With the token to use.
        folder: Nothing but what shall be on the Hub.
        remote: From [`look`]; if the revision has moved since, the Hub refuses the commit.
        message, description: Of the commit.
        owned: Patterns of files that the commit deletes unless the folder holds them, such as shards of earlier pushes.
        private: Whether a new repository is private.
        revision: Branch; created from the default branch when missing.
        create_pr: Open a pull request instead.

    Raises:
        LlinkPushError: If anything fails. The revision is then what it was, as far as the Hub answers.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    stale = [old for old in remote.files if old not in names and any(fnmatch(old, pattern) for pattern in owned)]
    operations = [CommitOperationAdd(name, str(path)) for name, path in zip(names, files, strict=True)]
    operations += [CommitOperationDelete(old) for old in stale]
    repo_id, parent, kind = remote.repo_id, remote.commit, remote.kind
    try:
        if parent is None:
            sdk = "gradio" if kind == "space" else None
            repo_id = api.create_repo(repo_id, repo_type=kind, space_sdk=sdk, private=private, exist_ok=True).repo_id
            parent = api.repo_info(repo_id, repo_type=kind).sha
        if revision is not None and not remote.branch_exists and not revision.startswith("refs/"):
            api.create_branch(repo_id, repo_type=kind, branch=revision, exist_ok=True)
        return api.create_commit(
            repo_id,
            operations,
            repo_type=kind,
            commit_message=message,
            commit_description=description,
            revision=revision,
            create_pr=create_pr,
            parent_commit=parent,
        )
    except Exception as error:
        state = _state_after(api, repo_id, revision, parent, kind)
        raise LlinkPushError(f"{repo_id} was not pushed: {_reason(error)} {state}") from error


def _state_after(api: HfApi, repo_id: str, revision: str | None, parent: str | None, kind: str) -> str:
    """What a failed push has left on the Hub, asked there."""
    try:
        now = api.repo_info(repo_id, revision=revision, repo_type=kind).sha
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return "Nothing was changed there."
    except Exception:
        return "Whether the commit arrived is not known: look at the repository before you push again."
    if now == parent:
        return f"Nothing was changed: {revision or 'main'} still stands at {now}. Push again when that is mended."
    return f"{revision or 'main'} now stands at {now}: the commit arrived after all, or someone else pushed."


def _reason(error: Exception) -> str:
    """An error of the Hub in one line, with the remedy where it is known."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3]) or type(error).__name__
    status = getattr(error.response, "status_code", None) if isinstance(error, HfHubHTTPError) else None
    if status in (401, 403):
        text += " Log in with `hf auth login`, or pass a token that may write there."
    elif status == 412:
        text += " Someone pushed meanwhile: push again on top of that."
    elif isinstance(error, EntryNotFoundError | RevisionNotFoundError):
        text += " Give an existing branch."
    return text if text.endswith(".") else f"{text}."


# ------------------------------------------------------------------ the reader's own text


def own_text(card: str) -> str:
    """What a card's reader has written: between the markers, or all of a card that has none."""
    if OWN_START not in card:
        return ModelCard(card, ignore_metadata_errors=True).text.strip()
    return card.partition(OWN_START)[2].rpartition(OWN_END)[0].strip()


def with_own_text(card: str, earlier: str | None) -> str:
    """A new card with the text, the tags and the further metadata of an earlier one.

    Args:
        card: Holds the markers once.
        earlier: The card that it replaces.
    """
    if earlier is None:
        return card
    head, _, tail = card.partition(OWN_START)
    texts = [own_text(earlier), own_text(card)]  # written on the Hub, and beside the model
    texts = [text for text in texts if text and not any(text != other and text in other for other in texts)]
    own = "\n\n".join(dict.fromkeys(texts))
    merged = ModelCard(f"{head}{OWN_START}\n{own}\n{OWN_END}{tail.partition(OWN_END)[2]}")
    old = ModelCard(earlier, ignore_metadata_errors=True).data
    for name, value in vars(old).items():
        if name not in GENERATED_FIELDS and value is not None and getattr(merged.data, name, None) is None:
            setattr(merged.data, name, value)
    tags = [*(merged.data.tags or ()), *(old.tags or ())]
    merged.data.tags = list(dict.fromkeys(tags)) or None
    return str(merged)
