"""The dataset card: written from the manifest alone, checked before it leaves, and what the Hub shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .errors import DataError
from .prepared_folder import CARD, columns_of
from .scripts import primary_language
from .target import LANGUAGE_NAMES

_TEMPLATE = "data_card.md.jinja"
_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
_NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
_FAILURES = (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError)


def write_card(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """Writes the card of a prepared folder, with what `load_dataset` needs to find the splits.

    Raises:
        DataError: If what was written does not read back as it was meant.
    """
    data = _card_data(manifest)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template(_TEMPLATE).render(
        card_data=data.to_yaml(),
        columns=columns_of(manifest["target_language"]),
        target_name=_target_name(manifest),
        **manifest,
    )
    path = folder / CARD
    path.write_text(text, "utf-8", newline="\n")
    if (back := DatasetCard.load(path).data.to_dict()) != data.to_dict():
        raise DataError(f"The card's metadata does not read back: {back}.")
    return path


def _card_data(manifest: Mapping[str, Any]) -> DatasetCardData:
    splits, source = manifest["splits"], manifest["source"] or {}
    pairs = sum(split["pairs"] for split in splits)
    patterns = [{"split": split["name"], "path": f"data/{split['name']}-*.parquet"} for split in splits]
    return DatasetCardData(
        language=[primary_language(manifest[name]) for name in ("target_language", "language")],
        license=source.get("license", "unknown"),
        multilinguality=["translation"],
        size_categories=[_NAMES[sum(pairs >= size for size in _SIZES)]],
        task_categories=["translation"],
        pretty_name=f"{_target_name(manifest)}–{manifest['language']} pairs"
        + (f" from {source['title']}" if source else ""),
        tags=["parallel-corpus", "llink"],
        configs=[{"config_name": "default", "data_files": patterns}],
    )


def _target_name(manifest: Mapping[str, Any]) -> str:
    language = manifest["target_language"]
    return LANGUAGE_NAMES.get(primary_language(language), language)


def check_repository(repo_id: str) -> None:
    """Finds out whether a push can work, before anything is prepared for it.

    Raises:
        DataError: If the name is invalid, nobody is logged in, or the Hub is out of reach.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise DataError(f"--push_to_hub {repo_id!r} is no name of a repository: {error}") from error
    try:
        HfApi().whoami()
    except _FAILURES as error:
        raise DataError(
            f"--push_to_hub {repo_id}: the Hub does not know you ({error}). Log in with `hf auth login`, or leave "
            "--push_to_hub out; the data can be pushed later by the same command."
        ) from error


def push_folder(folder: Path, repo_id: str, private: bool) -> str:
    """Uploads a prepared folder in one commit.

    Returns:
        The address of the commit.

    Raises:
        DataError: If the Hub refuses.
    """
    api = HfApi()
    try:
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        return str(
            api.upload_folder(
                repo_id=repo_id,
                repo_type="dataset",
                folder_path=folder,
                commit_message="Pairs prepared with llink",
                delete_patterns=["data/*.parquet"],
            )
        )
    except _FAILURES as error:
        raise DataError(
            f"The data is in {folder}, but pushing it to {repo_id} failed: {error}. The same command tries again."
        ) from error
