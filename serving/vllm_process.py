"""A vLLM of one's own, started as a child and ended with the server."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from ..configuration_llink import LlinkConfigError
from .errors import EngineStartError

#: Seconds that it may take to load the decoder, and to end.
START, END = 1800, 20
_MODULE = "vllm.entrypoints.openai.api_server"
_STDERR = 2
_PR_SET_PDEATHSIG = 1


def check_vllm(python: str) -> None:
    """Refuses an interpreter without vLLM.

    Raises:
        LlinkConfigError: If it does not run, or does not find vLLM.
    """
    looks = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        found = subprocess.run([python, "-c", looks], capture_output=True).returncode == 0
    except OSError as error:
        raise LlinkConfigError(f"engine_python={python} does not run ({error.strerror}).") from error
    if not found:
        raise LlinkConfigError(
            f"engine_python={python} has no vLLM. Install it there (an environment of its own is best), give another "
            "interpreter, or start vLLM yourself and give its engine_url=…."
        )


@contextlib.contextmanager
def vllm_running(folder: Path, python: str, options: Sequence[str] = ()) -> Iterator[str]:
    """The address of a vLLM that serves an exported decoder while the block runs.

    Args:
        folder: What `export_decoder` wrote; it may go when the block has begun.
        python: An interpreter that has vLLM.
        options: More of vLLM's own, such as `--tensor-parallel-size 2`.

    Raises:
        EngineStartError: If it ends before it can be asked, or takes too long.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [python, "-m", _MODULE, "--model", str(folder), "--enable-prompt-embeds", "--host", "127.0.0.1"]
    dying = _end_with_parent if sys.platform == "linux" else None
    running = subprocess.Popen([*words, "--port", str(port), *options], stdout=_STDERR, preexec_fn=dying)
    try:
        _wait(running, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        try:
            running.wait(END)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _wait(running: subprocess.Popen, url: str) -> None:
    end = time.monotonic() + START
    while running.poll() is None and time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.5)
    what = f"took longer than {START} seconds" if running.poll() is None else f"ended with {running.returncode}"
    raise EngineStartError(f"vLLM {what} before it could be asked; what it said stands above.")


def _end_with_parent() -> None:
    """Lets Linux end this process when the server's is gone, however that came."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
