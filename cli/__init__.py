"""The command line: parse, compose, nothing else.

Every command takes `--config FILE.yaml` with the same names as its flags; flags stand above the file, and the file
above the preset. A command's module, named as it, is imported when it runs; its help is read without that.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from .._version import __version__

#: Command → what it does. `eval usage` is the function `run` of the module `eval_usage`.
COMMANDS: dict[str, str] = {
    "align": "Stage A: trains the projector on parallel text.",
    "lexicon": "Between them: slots learn which of the decoder's words they stand for.",
    "inject": "Stage B: teaches the decoder to read the slots.",
    "finetune": "Baseline: LoRA on the foreign text tokenised as it is.",
    "langbridge": "Baseline: one soft token for each encoder token.",
    "plan align": "What Stage A will take: minutes, memory, disk, and what is cut or dropped.",
    "plan inject": "The same of Stage B.",
    "doctor": "Versions, devices, cache, login, and which extras work here.",
    "ablate": "A grid of settings on one set of cached features.",
    "encoders": "Ranks frozen encoders, layers and poolings before any training.",
    "prepare": "From a public parallel corpus to clean pairs in honest splits.",
    "synthesize": "Stage B examples from pairs, by a language model or by rule.",
    "audit": "Are the instruction rows good? A sheet for people, and how far they agree.",
    "generate": "Answers an English prompt about foreign text.",
    "index": "Reads a collection of passages once, into a store that can be searched and asked.",
    "ask": "Answers a question from a store, and says from which passages.",
    "eval retrieval": "Does a foreign sentence find its English one (table 1)?",
    "eval usage": "Does the decoder read its slots?",
    "eval translation": "Translations beside the base decoder's.",
    "eval outputs": "Answers of llink and the baselines, kept for the other evaluations.",
    "eval content": "Do answers say what the text says: likelihood, the encoder, letters, literals.",
    "eval judge": "Blinded pairwise comparison by a language model (table 2).",
    "eval numeric": "Are numbers, units, dates, names and URLs kept exactly?",
    "eval tokens": "Tokens, memory and work of raw text against slots (figure 2).",
    "eval representations": "What the decoder's layers make of the text (figure 3).",
    "report": "One page of everything that a run's folders hold.",
    "app": "A page to ask a model on.",
    "export": "The decoder with LoRA merged, for vLLM behind `llink serve`.",
    "serve": "A model behind OpenAI's protocol: chats and vectors.",
    "space": "That page, as a Space on the Hub.",
    "push": "A checkpoint onto the Hub, checked and in one commit.",
    "verify": "Is this the model that was saved? Names what differs.",
    "check-table": "Can these R@k, MRR and mean rank come from one ranking?",
    "demo": "Both stages and an evaluation on the embedded pair and corpus.",
}

#: How a command that was interrupted goes on.
_SAME_COMMAND = "the same command goes on"
_RESUME = "--resume_from_checkpoint last goes on from the last checkpoint, if one was saved"
GOES_ON: dict[str, str] = {
    **dict.fromkeys(("align", "lexicon", "inject", "finetune", "langbridge"), _RESUME),
    **dict.fromkeys(("ablate", "prepare", "synthesize", "index", "eval outputs", "eval judge"), _SAME_COMMAND),
}
#: How the system says that a file cannot grow.
_UNWRITTEN = re.compile(
    "No space left on device|PytorchStreamWriter failed writing|File too large|[Dd]isk quota exceeded"
    "|Read-only file system"
)
_INTERRUPTED = 130
_HELP = ("--help", "-h")


def module_name(command: str) -> str:
    """The module of this package that a command is in."""
    return command.replace(" ", "_").replace("-", "_")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; an error of llink's own is one line on stderr and code 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    if argv[:1] == ["--version"]:
        print(__version__)
        return 0
    if argv[:1] == ["--completion"]:
        from .help import completion

        print(completion())
        return 0
    name = " ".join(argv[:2]) if " ".join(argv[:2]) in COMMANDS else "".join(argv[:1])
    if name not in COMMANDS:
        return _no_command(argv)
    words = argv[len(name.split()) :]
    if any(word in _HELP for word in words):
        from .help import command_help

        print(command_help(name))
        return 0
    return _run(name, words)


def _run(name: str, words: Sequence[str]) -> int:
    try:
        module = importlib.import_module(f".{module_name(name)}", __package__)
        if "--help-all" in words:
            from .parsing import full_help

            print(full_help(name, module))
            return 0
        result = module.run(words)
    except KeyboardInterrupt:
        print("\n" + "; ".join([f"llink {name}: stopped", *filter(None, [GOES_ON.get(name)])]) + ".", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        if (said := _said(name, error)) is None:
            raise
        print(f"llink {name}: error: {said}", file=sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


def _said(name: str, error: Exception) -> str | None:
    """What is wrong, in one line, where llink or the system says so; None for a fault of llink's own."""
    from ..configuration_llink import LlinkError  # which loads transformers

    if isinstance(error, LlinkError):
        from .help import with_flags

        return with_flags(name, str(error))
    unwritten = _UNWRITTEN.search(str(error))  # safetensors and torch wrap what the system says
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        what = f"{error.filename}: {error.strerror}"
    elif unwritten or (isinstance(error, OSError) and error.strerror and type(error).__module__ == "builtins"):
        why = unwritten[0] if unwritten else str(getattr(error, "strerror", error))
        full = why in ("No space left on device", "PytorchStreamWriter failed writing")
        what = "A file could not be written: " + ("no space is left on the device" if full else why)
    else:
        return None
    return ". ".join([what, *(f"When that is mended, {way}." for way in filter(None, [GOES_ON.get(name)]))])


def _no_command(argv: Sequence[str]) -> int:
    """Says which commands there are, and which one may have been meant."""
    first = "".join(argv[:1])
    group = [known for known in COMMANDS if known.startswith(f"{first} ")] if first else []
    wanted = argv[1 if group else 0 :][:1] in [[word] for word in _HELP]
    out = sys.stdout if wanted else sys.stderr
    said = " ".join(argv[: 2 if group else 1])
    if said and not wanted and said != first + " " and (not group or len(argv) > 1):
        likely = get_close_matches(said, list(COMMANDS), n=1) or get_close_matches(first, list(COMMANDS), n=1)
        print(f"llink: there is no command {said!r}" + (f": did you mean {likely[0]}?" if likely else "."), file=out)
    print(_usage(group or list(COMMANDS)), file=out)
    return 0 if wanted else 2


def _usage(commands: Sequence[str]) -> str:
    width = max(map(len, commands))
    lines = [f"  llink {name:<{width}}  {COMMANDS[name]}" for name in commands]
    return "\n".join(
        [
            "usage: llink COMMAND [options]   (llink COMMAND --help)",
            *lines,
            "  llink --version",
            '  eval "$(llink --completion)"   (the shell then completes commands and options)',
        ]
    )
