"""A server of `llink serve` in a thread of this process, until the block ends."""

import socket
import threading
import time
from contextlib import contextmanager

import uvicorn

from llink.serving.app import build
from llink.serving.engine import Limits
from llink.serving.transformers_engine import TransformersEngine
from llink.serving.vllm_engine import VllmEngine


@contextmanager
def served(model, key=None, store=None, name="tiny", vllm=None, **limits):
    """The address of a model's server and its engine; `vllm` is the address of that one's."""
    limits = Limits(**limits)
    engine = VllmEngine(model, vllm, limits, store) if vllm else TransformersEngine(model, limits, store)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(build(engine, name, key), log_level="error", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", engine
    finally:
        server.should_exit = True
        thread.join()


def wait_for(true, seconds=20):
    """Waits until something is true.

    Raises:
        TimeoutError: If it is not in time.
    """
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(true)
        time.sleep(0.005)
