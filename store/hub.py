"""A store on the Hub: a dataset repository with a card."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from datasets import Dataset
from huggingface_hub import CommitInfo, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from ..hub_cards.upload import OWN_END, OWN_START, README, commit_folder, look, with_own_text
from .errors import StoreError
from .shards import DATA, INDEX, MANIFEST, Manifest, Shards

_CARD = """---
tags: [llink, retrieval]
configs:
- config_name: default
  data_files:
  - split: train
    path: {data}/*.arrow
---

# {name}

{passages:,} foreign passages of {documents:,} documents, in {rows:,} pieces, as an llink model
([Languages are Modalities](https://arxiv.org/abs/2510.27254)), {model}, has read them: of each its text, a vector of
{width} numbers by which English questions find it, and {slots}.

```python
from llink import SlotStore

store = SlotStore.load("{repo}"{argument})
print(store.{call})
```

The texts' licence is that of whoever wrote them.

{start}
{end}
"""


def fetched(repo_id: str) -> Path:
    """A store of the Hub as a folder of this machine.

    Raises:
        StoreError: If there is none.
    """
    if repo_id.startswith(("/", ".", "~")):
        raise StoreError(f"The folder {repo_id} does not exist.")
    try:
        patterns = [MANIFEST, f"{DATA}/*", INDEX]
        return Path(snapshot_download(repo_id, repo_type="dataset", allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreError(f"{repo_id} is no folder, and no store on the Hub either: {reason}") from error


def push(
    shards: Shards,
    manifest: Manifest,
    rows: Dataset,
    repo_id: str,
    commit_message: str = "Upload llink store",
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Puts a store on the Hub; see [`SlotStore.push_to_hub`]."""
    api = HfApi(token=token)
    remote = look(api, repo_id, revision, "dataset")
    if manifest.model is not None and Path(manifest.model).is_dir():
        manifest = replace(manifest, model=None)  # a folder of this machine says nothing to others
    with tempfile.TemporaryDirectory(prefix="llink-push-") as folder:
        stage = Path(folder)
        (stage / DATA).mkdir()
        Shards(stage).write(manifest)
        listed = {shard["file"] for shard in manifest.shards}
        kept = [INDEX] if (shards.folder / INDEX).is_file() else []
        for name in sorted(listed) + kept:
            shutil.copy(shards.folder / name, stage / name)
        card = _card(manifest, rows, remote.repo_id)
        (stage / README).write_text(with_own_text(card, remote.readme), "utf-8")
        owned = (f"{DATA}/*", INDEX)
        return commit_folder(api, stage, remote, commit_message, owned, None, private, revision, create_pr)


def _card(manifest: Manifest, rows: Dataset, repo_id: str) -> str:
    asked = manifest.stage == "inject"
    return _CARD.format(
        data=DATA,
        name=repo_id.rpartition("/")[2],
        passages=len(rows.unique("id")),
        documents=len(rows.unique("document")),
        rows=len(rows),
        model=f"[{manifest.model}](https://huggingface.co/{manifest.model})" if manifest.model else "of no name here",
        width=manifest.width,
        slots="the slots that its decoder reads" if asked else "no slots: its decoder has not learned to read them",
        repo=repo_id,
        argument="" if manifest.model else ', model="…"',
        call='ask("…").text' if asked else 'search("…")',
        start=OWN_START,
        end=OWN_END,
    )
