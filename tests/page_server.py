"""`llink app` and `llink serve` as a user starts them: in a process of its own, until the block ends."""

import subprocess
import sys
import tempfile
from contextlib import contextmanager

from llink.app.page import STARTED
from llink.app.space import free_port
from llink.cli.serve import SERVED


@contextmanager
def serving(*arguments):
    """The address of the page that `llink app` serves with these arguments while the block runs."""
    with _running("app", STARTED, *arguments, "--port", str(free_port())) as (address, _):
        yield address


@contextmanager
def model_serving(*arguments):
    """The address of what `llink serve` serves with these arguments while the block runs."""
    with model_running(*arguments) as (address, _):
        yield address


def model_running(*arguments, port=None):
    """The same with its process, on a port of its own whatever the arguments say, or on `port`."""
    words = list(arguments)
    if "--port" in words:
        place = words.index("--port")
        del words[place : place + 2]
    return _running("serve", SERVED, *words, "--port", str(port or free_port()))


@contextmanager
def _running(command, started, *arguments):
    """The address that a command says, behind `started`, and its process."""
    words = [sys.executable, "-m", "llink.cli", command, *arguments]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True) as running,
    ):
        try:
            lines = iter(running.stdout.readline, "")
            address = next((line.split()[-1] for line in lines if line.startswith(started)), None)
            if address is None:
                errors.seek(0)
                raise RuntimeError(f"llink {command} does not start: {errors.read()}")
            yield address, running
        finally:
            running.terminate()
