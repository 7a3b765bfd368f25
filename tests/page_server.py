"""`llink app` as a user starts it: in a process of its own, until the block ends."""

import subprocess
import sys
import tempfile
from contextlib import contextmanager

from llink.app.page import STARTED
from llink.app.space import free_port


@contextmanager
def serving(*arguments):
    """The address of the page that `llink app` serves with these arguments while the block runs."""
    command = [sys.executable, "-m", "llink.cli", "app", *arguments, "--port", str(free_port())]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as running,
    ):
        try:
            lines = iter(running.stdout.readline, "")
            address = next((line.split()[-1] for line in lines if line.startswith(STARTED)), None)
            if address is None:
                errors.seek(0)
                raise RuntimeError(f"The page does not start: {errors.read()}")
            yield address
        finally:
            running.terminate()
