"""Servers in a thread of this process, until the block ends: any application, and `llink serve`'s."""

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
    with in_thread(build(engine, name, key), grace=5) as address:
        yield address, engine


@contextmanager
def in_thread(app, port=0, grace=1):
    """The address of an application; its requests have `grace` seconds to end."""
    listening = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=grace))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
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
