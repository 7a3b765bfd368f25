"""`model.push_to_hub`: stage everything, validate it, reload it in a fresh offline process, upload it in one commit.

All of it works on a model that was loaded without llink; where llink is installed, its `hub_cards` adds the card.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from transformers.utils.hub import cached_file

from .canary import FACTS, TENSORS, Canary, Finding, read_canary
from .checkpoint import BASES, CANARY_FOLDER, read_bridge, write_json
from .errors import LlinkCheckpointError
from .remote_code import CODE_FILES
from .upload import OWN_END, OWN_START, README, LlinkPushError, commit_folder, look, with_own_text

EVALUATION_FOLDER = "evaluation"
#: Called with the staged folder and the repository's name before it is checked; `llink.hub_cards` writes the card here.
FINISHERS: list[Callable[[Path, str], None]] = []
#: Files of earlier pushes that the new one deletes unless it brings them: old shards, bases, code, and pickles.
OWNED = (
    *("model*.safetensors", "model.safetensors.index.json", "training_args.bin"),
    *(f"{folder}/*" for folder in (*BASES, "encoder_tokenizer", CANARY_FOLDER, EVALUATION_FOLDER)),
    *CODE_FILES,
)
NEEDED = (
    *("config.json", "processor_config.json", "tokenizer_config.json"),
    *("encoder_tokenizer/config.json", "encoder_tokenizer/tokenizer_config.json"),
    *(f"{CANARY_FOLDER}/{name}" for name in (FACTS, TENSORS)),
)
#: What a model that is pushed again without llink keeps of where it came from.
NOTICE = "NOTICE"
PAPERS = (README, NOTICE, "LICENSE*", "USE_POLICY*", f"{EVALUATION_FOLDER}/*")
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack"}
MARK = "llink-findings:"
SHORT_CARD = """---
{yaml}
---

# {title}

An llink model (arXiv 2510.27254): a frozen encoder reads foreign text into soft slots, which a frozen decoder reads
beside an English prompt.

```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("{repo_id}", trust_remote_code=True)
tokens = model.generate(foreign_text="…", prompt="Translate to English.")
print(model.processor.batch_decode(tokens, skip_special_tokens=True)[0])
```

{start}

{end}
"""

#: Reloads a folder as a stranger would: llink cannot be imported, nothing can be asked of the Hub.
RELOAD = f"""
import dataclasses, json, sys
sys.modules["llink"] = None
from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer
folder, options = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
for name, place in (("tokenizer", ""), ("encoder_tokenizer", "encoder_tokenizer")):
    alone = AutoTokenizer.from_pretrained(folder, subfolder=place, trust_remote_code=True)
    if alone.get_vocab() != getattr(processor, name).get_vocab():
        raise SystemExit(f"the {{name}} loads as another one by itself")
print("{MARK}" + json.dumps([dataclasses.asdict(finding) for finding in model.check_canary()]))
"""


class LlinkPublishingMixin:
    """How a [`LlinkForCausalLM`] gets to the Hub."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        max_shard_size: int | str = "50GB",
        tags: list[str] | None = None,
        self_contained: bool | None = None,
    ) -> CommitInfo:
        """Puts the model with its processor, code, card and run record on the Hub, in one commit.

        Before anything leaves, the staged files are validated and reloaded in a fresh offline process, where the canary
        must match. A reader's own text in the repository's card survives.

        Args:
            repo_id: `user/name`.
            commit_message, commit_description, private, token, revision, create_pr, max_shard_size: As in the library.
            tags: Further tags of the card.
            self_contained: As in `save_pretrained`.

        Raises:
            LlinkPushError: If the files are not complete, reload to another model, or the upload fails.
        """
        with temporary_stage() as folder:
            stage = Path(folder)
            self.save_pretrained(stage, self_contained=self_contained, max_shard_size=max_shard_size)
            carry_papers(self._source, stage, repo_id)
            return publish(
                stage,
                repo_id,
                message=commit_message or "Upload llink model",
                description=commit_description,
                private=private,
                token=token,
                revision=revision,
                create_pr=create_pr,
                tags=[*(tags or ()), *(getattr(self, "model_tags", None) or ())],
                cache_dir=self.hub_options.get("cache_dir"),
            )

    @property
    def hub_options(self) -> dict[str, Any]:
        """What the model was loaded with: `token`, `cache_dir`, … ."""
        return (self._source or {}) | (self._hub or {})


def temporary_stage() -> tempfile.TemporaryDirectory:
    """An empty folder for what shall be on the Hub, and nothing else."""
    return tempfile.TemporaryDirectory(prefix="llink-push-")


def publish(
    stage: Path,
    repo_id: str,
    message: str = "Upload llink model",
    description: str | None = None,
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
        repo_id, message, description, private, token, revision, create_pr: As in [`commit_folder`].
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
    return commit_folder(api, stage, remote, message, OWNED, description, private, revision, create_pr)


# ------------------------------------------------------------------ staging


def complete_stage(
    stage: Path,
    repo_id: str,
    earlier: str | None = None,
    tags: list[str] | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> None:
    """Writes the card of a validated stage and reloads the whole in a fresh process.

    Args:
        stage: Changed: the card is written into it.
        repo_id: Where it will be.
        earlier: The card that it replaces.
        tags, cache_dir: As in [`publish`].

    Raises:
        LlinkPushError: If it may not be there, or reloads to another model.
    """
    for finish in FINISHERS:
        finish(stage, repo_id)
    _complete_card(stage, repo_id, earlier, tags or [])
    findings = reload(stage, cache_dir)
    wrong = [f"{finding.what}: {finding.detail}" for finding in findings if not (finding.equal or finding.harmless)]
    if wrong:
        raise LlinkPushError(
            f"Reloaded in a fresh process, it is another model; nothing was pushed. {'; '.join(wrong)}"
        )


def forget_folders(stage: Path) -> None:
    """Strikes the folders of this machine from a configuration; a self-contained checkpoint does not need them."""

    def without(fields: dict[str, Any]) -> dict[str, Any]:
        fields = {key: without(value) if isinstance(value, dict) else value for key, value in fields.items()}
        local = [key for key, value in fields.items() if key.endswith("name_or_path") and os.path.isabs(value or "")]
        return fields | dict.fromkeys(local)

    path = stage / "config.json"
    fields = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if fields.get("self_contained"):
        write_json(path, without(fields))


def carry_papers(source: dict[str, Any] | None, stage: Path, repo_id: str) -> None:
    """Copies card, notices and evaluation from where a model was loaded, if it is still the very same model."""
    if source is None:
        return
    located = {key: value for key, value in source.items() if key != "trust_remote_code"}
    name = located.pop("pretrained_model_name_or_path")
    was, now = read_canary(name, **located), read_canary(str(stage))
    if was is None or now is None or not _same_tensors(was, now):
        return
    subfolder = located.get("subfolder", "")
    for file in _listed(name, located):
        inner = file.removeprefix(f"{subfolder}/") if subfolder else file
        if any(fnmatch(inner, pattern) for pattern in PAPERS):
            path = cached_file(name, inner, **located)
            (stage / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, stage / inner)
    if (stage / README).is_file():  # its example loads the repository that it is in
        (stage / README).write_text((stage / README).read_text("utf-8").replace(repr(name), repr(repo_id)), "utf-8")


def _same_tensors(one: Canary, two: Canary) -> bool:
    """Whether two canaries were taken on the same weights."""
    same = one.tensors["samples"].equal(two.tensors["samples"])
    return same and one.facts["tensors"].keys() == two.facts["tensors"].keys()


def _listed(name: str, located: dict[str, Any]) -> list[str]:
    """The files of a folder, or of a repository if it can be asked."""
    if Path(name).is_dir():
        return [path.relative_to(name).as_posix() for path in Path(name).rglob("*") if path.is_file()]
    try:
        return HfApi(token=located.get("token")).list_repo_files(name, revision=located.get("revision"))
    except Exception as error:
        warnings.warn(f"The card and evaluation of {name} are not carried over: {error}", stacklevel=3)
        return []


def _complete_card(stage: Path, repo_id: str, earlier: str | None, tags: list[str]) -> None:
    """Gives a stage without a card a short one, and the card the reader's own text of the one that it replaces."""
    path = stage / README
    if path.is_file() and OWN_START in (text := path.read_text("utf-8")):
        ours = text
    else:
        ours = with_own_text(_short_card(stage, repo_id), path.read_text("utf-8") if path.is_file() else None)
    card = ModelCard(with_own_text(ours, earlier))
    card.data.tags = list(dict.fromkeys([*(card.data.tags or ()), *tags])) or None
    path.write_text(str(card), "utf-8")


def _short_card(stage: Path, repo_id: str) -> str:
    """What there is to say without the run's record."""
    config = json.loads((stage / "config.json").read_text("utf-8"))
    bases = [name for kind in BASES if (name := config.get(f"{kind}_name_or_path"))]
    head = {"library_name": "transformers", "tags": ["llink"], **({"base_model": bases} if bases else {})}
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    return SHORT_CARD.format(yaml=yaml, title=repo_id.rpartition("/")[2], repo_id=repo_id, start=OWN_START, end=OWN_END)


# ------------------------------------------------------------------ checking


def validate(stage: Path) -> None:
    """Raises [`LlinkPushError`] naming everything that a staged folder lacks or must not hold."""
    problems = [f"{path.name} may be a pickle" for path in sorted(stage.rglob("*")) if path.suffix in PICKLES]
    problems += [f"{path.name} is a link" for path in sorted(stage.rglob("*")) if path.is_symlink()]
    problems += [f"{name} is missing" for name in (*NEEDED, *CODE_FILES) if not (stage / name).is_file()]
    if (stage / "config.json").is_file():
        problems += _config_problems(stage)
    if problems:
        raise LlinkPushError(
            f"This is not complete: {'; '.join(problems)}. Push what save_pretrained writes, with a processor."
        )


def _config_problems(stage: Path) -> list[str]:
    config = json.loads((stage / "config.json").read_text("utf-8"))
    problems = [] if config.get("model_type") == "llink" else ["config.json is no llink model's"]
    problems += [] if "AutoModelForCausalLM" in config.get("auto_map", {}) else ["config.json has no auto_map"]
    if config.get("self_contained"):
        missing = [kind for kind in BASES if not list((stage / kind).glob("*.safetensors"))]
        problems += [f"{kind}/ holds no safetensors weights" for kind in missing]
    else:
        problems += base_problems(config)
    try:
        state = read_bridge(stage / "model.safetensors")
        problems += [f"{name} holds NaN" for name, tensor in state.items() if tensor.isnan().any()]
    except (LlinkCheckpointError, SafetensorError) as error:
        problems.append(str(error))
    return problems


def base_problems(config: dict[str, Any]) -> list[str]:
    """Why nobody else could find the bases of a light checkpoint; empty if everybody can."""
    return [problem for kind in BASES if (problem := _base_problem(config, kind))]


def _base_problem(config: dict[str, Any], kind: str) -> str | None:
    name, revision = config.get(f"{kind}_name_or_path"), config.get(f"{kind}_revision")
    remedy = "build on a repository of the Hub, or push with self_contained=True"
    try:
        validate_repo_id(name or "")
    except HFValidationError:
        return f"the {kind} {name!r} is no repository that others can load: {remedy}"
    if not re.fullmatch("[0-9a-f]{40}", revision or ""):
        return f"the {kind} {name!r} is not pinned to a commit (its revision is {revision!r}): {remedy}"
    return None


def reload(folder: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> list[Finding]:
    """Loads a checkpoint in a fresh offline process that cannot import llink, and compares it with its canary.

    Raises:
        LlinkPushError: If it does not load there.
    """
    stored = read_canary(str(folder))
    precisions = {fact["dtype"] for fact in stored.facts["bases"].values()} if stored is not None else set()
    options = {"cache_dir": str(cache_dir)} if cache_dir is not None else {}
    if len(precisions) == 1:
        options["dtype"] = precisions.pop()
    with tempfile.TemporaryDirectory(prefix="llink-modules-") as modules:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": modules,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": "",  # a training run may fill the accelerator
        }
        done = subprocess.run(
            [sys.executable, "-c", RELOAD, str(Path(folder).resolve()), json.dumps(options)],
            cwd=modules,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    answers = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not answers:
        tail = done.stderr.strip().splitlines()[-1:] or ["it wrote nothing"]
        raise LlinkPushError(f"{folder} cannot be loaded in a fresh offline process without llink: {tail[0]}")
    return [Finding(**finding) for finding in json.loads(answers[-1].removeprefix(MARK))]
