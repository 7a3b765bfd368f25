"""`llink app` as a user starts it: in a process of its own, until the block ends."""

import subprocess
import sys
from contextlib import contextmanager

from llink.app.space import free_port


@contextmanager
def serving(*arguments):
    """The address of the page that `llink app` serves with these arguments while the block runs."""
    command = [sys.executable, "-m", "llink.cli", "app", *arguments, "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        try:
            lines = iter(running.stdout.readline, "")
            yield next(line.split()[-1] for line in lines if line.startswith("The page is at"))
        finally:
            running.terminate()
