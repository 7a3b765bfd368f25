"""The folder that `llink synthesize` fills: `SPLIT.jsonl`, a manifest, and every answer of the model.

The manifest is there from the start and names the files: it tells this command's folder from any other. Examples are
written under a temporary name and moved into place; `answers.jsonl` is only ever appended to.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DataError

MANIFEST, ANSWERS = "manifest.json", "answers.jsonl"
KIND = "llink synthesize"
#: Parts of a manifest that say what was to be made, and from what.
IDENTITY = ("pairs", "options", "server", "prompts", "versions")
LOCK, WRITER = f".{ANSWERS}.lock", f".{ANSWERS}.writer"
_TEMPORARY = ".tmp"
#: What a run that is killed before its manifest stands leaves.
_FROM_THE_START = {LOCK, WRITER, MANIFEST + _TEMPORARY}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder of examples; None where nothing stands but a lock.

    Raises:
        DataError: If something else stands there, or other files beside the examples.
    """
    if not folder.exists() or (folder.is_dir() and {path.name for path in folder.iterdir()} <= _FROM_THE_START):
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        ours = isinstance(manifest, dict) and manifest.get("kind") == KIND
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise DataError(f"{folder} is there and was not made by llink synthesize: give another --output-dir.")
    known = {MANIFEST, ANSWERS, LOCK, WRITER, *(split_file(split["name"]) for split in manifest["splits"])}
    present = {path.relative_to(folder).as_posix().removesuffix(_TEMPORARY) for path in folder.rglob("*")}
    if others := sorted(present - known):
        raise DataError(
            f"{folder} also holds {', '.join(others[:5])}, which llink synthesize did not write: move them, or give "
            "another --output-dir."
        )
    return manifest


def split_file(name: str) -> str:
    """The file of a split."""
    return f"{name}.jsonl"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which parts of two manifests' identities differ, for people; empty when they are the same."""
    found = []
    for part, value in new.items():
        if old.get(part) == value:
            continue
        before = old.get(part) if isinstance(old.get(part), dict) else {}
        names = [f"{name}={before.get(name)!r}" for name in value if before.get(name) != value[name]]
        found.append(f"other {part} ({', '.join(names) or 'more of them'})")
    return ", ".join(found)


def check_examples(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compares finished examples with the manifest.

    Raises:
        DataError: If a file is missing or changed.
    """
    for split in manifest["splits"]:
        path = folder / split_file(split["name"])
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != split["sha256"]:
            raise DataError(f"{path} is missing or changed since it was made: --overwrite it.")


def write_examples(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Writes a split; returns its name, number of rows, and checksum."""
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    write_whole(folder / split_file(name), content)
    return {"name": name, "examples": len(rows), "sha256": hashlib.sha256(content).hexdigest()}


def claim(folder: Path, existing: Mapping[str, Any] | None, manifest: Mapping[str, Any]) -> None:
    """Makes the folder, which is locked, this run's own: examples that were made otherwise go, answers stay."""
    if existing is not None and differences(existing, {name: manifest[name] for name in manifest if name in IDENTITY}):
        for split in existing["splits"]:
            (folder / split_file(split["name"])).unlink(missing_ok=True)
    write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / MANIFEST, text.encode("utf-8", "backslashreplace"))


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is there whole, or not at all."""
    temporary = path.with_name(path.name + _TEMPORARY)
    temporary.write_bytes(content)
    os.replace(temporary, path)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Translates what the system says when the folder cannot be written.

    Raises:
        DataError: If it cannot; the answers that are in it stay.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Cannot write {error.filename or folder}: {error.strerror or error}. What is in {folder} stays; the same "
            "command goes on."
        ) from error
