"""Chat templates are programs that come with a checkpoint: tried once, apart and bounded, before they are used."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache

from .errors import PromptError

#: Seconds of a processor, and bytes of memory and of text, that a short conversation may take.
_SECONDS, _MEMORY, _TEXT = 5, 2**30, 2**20
#: Errors are not told here: the real rendering tells them.
_TRIAL = f"""
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, ({_SECONDS}, {_SECONDS}))
    resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY}, {_MEMORY}))
except (ImportError, ValueError, OSError):
    pass
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
asked = json.load(sys.stdin)
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
environment.filters["tojson"] = lambda value, **options: json.dumps(value)
environment.globals["strftime_now"] = lambda form: form
try:
    size = len(environment.from_string(asked["template"]).render(**asked["variables"]))
except MemoryError:
    sys.exit(3)
except Exception:
    size = 0
sys.exit(3 if size > {_TEXT} else 0)
"""


@lru_cache(maxsize=64)
def check_template(template: str) -> None:
    """Renders a short conversation on a chat template in a process of its own, once for each template.

    Args:
        template: Jinja source.

    Raises:
        PromptError: If that takes more than 5 seconds of a processor, 1 GiB of memory or 1 MiB of text.
    """
    said = zip(("user", "assistant", "user"), "abc", strict=True)
    messages = [{"role": role, "content": content} for role, content in said]
    variables = {"messages": messages, "add_generation_prompt": True, "eos_token": "</s>", "bos_token": "<s>"}
    asked = json.dumps({"template": template, "variables": variables})
    try:
        tried = subprocess.run(
            [sys.executable, "-I", "-c", _TRIAL], input=asked, text=True, capture_output=True, timeout=12 * _SECONDS
        )
        too_much = tried.returncode == 3 or tried.returncode < 0  # a limit of the system ends it with a signal
    except subprocess.TimeoutExpired:
        too_much = True
    if too_much:
        raise PromptError(
            f"The chat template takes more than {_SECONDS} seconds, {_MEMORY >> 20} MiB of memory or {_TEXT >> 10} KiB "
            "of text for a conversation of three letters: it is faulty or means harm. Do not use this checkpoint, or "
            "set processor.chat_template to the decoder's own."
        )
