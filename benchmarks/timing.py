"""What the benchmarks beside this file share: measuring in turns, memory at its peak, trainings without a trace."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import DynamicCache

#: Arguments of a trainer that leaves nothing behind and says nothing.
QUICK = dict(report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, logging_steps=1000)


def cache_bytes(cache: DynamicCache) -> int:
    """Bytes of keys and values."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def machine() -> dict[str, Any]:
    """The kind of machine that measures, and the libraries; nothing that names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("torch", "transformers", "peft")},
    }


def in_turns(
    tasks: Mapping[str, Callable[[], Any]], repeats: int, warm: bool = True
) -> dict[str, list[dict[str, float]]]:
    """Seconds of each task, one round after the other, so that a busy machine slows all of them.

    Args:
        tasks: By name.
        repeats: Rounds.
        warm: Whether each is run once before, unmeasured.

    Returns:
        For each a list of `wall` and `cpu` seconds. The processor time is that of this process alone: on a shared
        machine it is the one to compare.
    """
    for task in tasks.values() if warm else ():
        task()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            task()
            found[name].append({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
    return found


def middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The medians of rounds, in seconds."""
    return {name: round(median(one[name] for one in rounds), 4) for name in rounds[0]}


def ratio(rounds: list[dict[str, float]], others: list[dict[str, float]], digits: int = 3) -> float:
    """The median, over the rounds, of one task's processor time over another's."""
    return round(median(one["cpu"] / other["cpu"] for one, other in zip(rounds, others, strict=True)), digits)


def peak_mib(task: Callable[[], Any]) -> float | None:
    """Resident memory that a task takes at its peak above what was there before; None where Linux does not say."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or it would be taken from what earlier tasks have left
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak begins anew
    except OSError:
        return None
    before = _status("VmRSS")
    task()
    return round((_status("VmHWM") - before) / 1024, 1)


def _status(name: str) -> int:
    """A line of the process's own status, in KiB."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
