"""A test file as a worker of several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_in_processes(file: str, *arguments: str | Path, processes: int = 2) -> None:
    """Runs `file` with the arguments under torchrun, on the CPU, one thread each; fails with its last words."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    own = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, *launcher, file, *map(str, arguments)],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
