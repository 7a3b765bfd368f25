"""The code that travels with a checkpoint, so that the Auto classes work where llink is not installed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .pipeline import TASK, LlinkPipeline

if TYPE_CHECKING:
    # transformers copies the files that it sees imported. A processor that came alone is to be saved with all of them.
    from .modeling_llink import LlinkForCausalLM  # noqa: F401

CONFIG_AUTO_MAP = {
    "AutoConfig": "configuration_llink.LlinkConfig",
    "AutoModel": "modeling_llink.LlinkForCausalLM",
    "AutoModelForCausalLM": "modeling_llink.LlinkForCausalLM",
    "AutoModelForMultimodalLM": "modeling_llink.LlinkForCausalLM",
}
CUSTOM_PIPELINES = {TASK: {"impl": f"pipeline.{LlinkPipeline.__name__}", "pt": ["AutoModelForCausalLM"]}}
PROCESSOR_AUTO_MAP = {"AutoProcessor": "processing_llink.LlinkProcessor"}

CODE_FILES = (
    "configuration_llink.py",
    "errors_llink.py",
    "bases.py",
    "canary.py",
    "checkpoint.py",
    "continuing.py",
    "encoding.py",
    "errors.py",
    "foreign_text.py",
    "generation.py",
    "injection.py",
    "layers.py",
    "lexicon.py",
    "modeling_llink.py",
    "persistence.py",
    "pipeline.py",
    "pooling.py",
    "processing_llink.py",
    "processor_files.py",
    "projector.py",
    "publishing.py",
    "remote_code.py",
    "rendering.py",
    "slots.py",
    "sources.py",
    "state_attention.py",
    "teacher.py",
    "upload.py",
)


def write_code(directory: Path) -> None:
    """Copies the model's source files flat into a checkpoint and declares them in its configurations.

    transformers copies and follows only imports from the same folder: `from ..x import y` becomes `from .x import y`.

    Args:
        directory: A folder that holds `config.json`, `processor_config.json`, or both.
    """
    here = Path(__file__).parent
    for name in CODE_FILES:
        source = here / name
        if not source.is_file():
            source = here.parent / name  # of the root, when running from the package
        text = re.sub(r"^from \.\.(\w+) import", r"from .\1 import", source.read_text("utf-8"), flags=re.MULTILINE)
        (directory / name).write_text(text, "utf-8")
    _declare(directory / "config.json", auto_map=CONFIG_AUTO_MAP, custom_pipelines=CUSTOM_PIPELINES)
    _declare(directory / "processor_config.json", auto_map=PROCESSOR_AUTO_MAP)


def _declare(path: Path, **fields: dict[str, Any]) -> None:
    if not path.is_file():
        return
    content = json.loads(path.read_text("utf-8")) | fields
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
