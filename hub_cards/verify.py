"""`llink verify`: is what lies in a folder or on the Hub, loaded here and now, the model that was saved?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..evaluation.report import table
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.canary import Finding
from ..modeling_llink.errors import LlinkCheckpointError
from ..modeling_llink.publishing import reload


def verify(
    name_or_path: str | os.PathLike,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    fresh_process: bool = False,
) -> list[Finding]:
    """Compares a model with the canary that was saved with it.

    Args:
        name_or_path: A folder or repository.
        revision, token, cache_dir: As in `from_pretrained`.
        fresh_process: Run the code that lies beside the weights, in a fresh offline process that cannot import llink,
            instead of the installed llink. Only for a folder, and only for code that is trusted.

    Returns:
        What was compared, equal or not; [`passed`] tells whether it is the same model.

    Raises:
        LlinkCheckpointError, BaseModelError: If it cannot be loaded, or has no canary.
        LlinkPushError: If it cannot be loaded in a fresh process.
    """
    if fresh_process:
        if not Path(name_or_path).is_dir():
            raise LlinkCheckpointError(f"{name_or_path} is no folder: download it first, and look at its code.")
        return reload(name_or_path, cache_dir)
    options = {"revision": revision, "token": token, "cache_dir": cache_dir}
    options = {name: value for name, value in options.items() if value is not None}
    # Every difference shall be named, also those that loading would raise at.
    model = LlinkForCausalLM.from_pretrained(name_or_path, allow_other_bases=True, **options)
    return model.check_canary()


def passed(findings: Sequence[Finding]) -> bool:
    """Whether nothing differs that makes it another model."""
    return all(finding.equal or finding.harmless for finding in findings)


def findings_table(findings: Sequence[Finding]) -> str:
    """The findings for people: equal, differs, or differs without harm."""
    words = {
        (True, True): "equal",
        (True, False): "equal",
        (False, True): "differs, harmless",
        (False, False): "DIFFERS",
    }
    return table(["part", "", "detail"], [(f.what, words[f.equal, f.harmless], f.detail) for f in findings])
