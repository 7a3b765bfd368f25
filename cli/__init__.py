"""The command line: parse, compose, nothing else.

Every command takes `--config FILE.yaml` with the same names as its flags; flags stand above the file, and the file
above the preset. A command's module is imported when it runs.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence

from .._version import __version__

#: Command → module of this package, function, what it does.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "align": ("training", "align", "Stage A: trains the projector on parallel text."),
    "lexicon": ("lexicon", "lexicon", "Between them: slots learn which of the decoder's words stand for what."),
    "inject": ("training", "inject", "Stage B: teaches the decoder to read the slots."),
    "finetune": ("finetuning", "finetune", "Baseline: LoRA on the foreign text tokenised as it is."),
    "langbridge": ("langbridge", "langbridge", "Baseline: one soft token for each encoder token."),
    "ablate": ("ablation", "ablate", "A grid of settings on one set of cached features."),
    "encoders": ("encoders", "rank", "Ranks frozen encoders, layers and poolings before any training."),
    "prepare": ("prepare", "run", "From a public parallel corpus to clean pairs in honest splits."),
    "synthesize": ("synthesize", "run", "Stage B examples from pairs, by a language model or by rule."),
    "generate": ("generation", "generate", "Answers an English prompt about foreign text."),
    "eval retrieval": ("eval_retrieval", "evaluate", "Does a foreign sentence find its English one (table 1)?"),
    "eval usage": ("eval_usage", "evaluate", "Does the decoder read its slots?"),
    "eval translation": ("eval_translation", "evaluate", "Translations beside the base decoder's."),
    "eval outputs": ("eval_outputs", "evaluate", "Answers of llink and the baselines, kept for the other evaluations."),
    "eval judge": ("eval_judge", "evaluate", "Blinded pairwise comparison by a language model (table 2)."),
    "eval numeric": ("eval_numeric", "evaluate", "Are numbers, units, dates, names and URLs kept exactly?"),
    "eval tokens": ("eval_tokens", "evaluate", "Tokens, memory and work of raw text against slots (figure 2)."),
    "eval representations": (
        "eval_representations",
        "evaluate",
        "What the decoder's layers make of the text (figure 3).",
    ),
    "report": ("reporting", "report", "One page of everything that a run's folders hold."),
    "app": ("app", "serve", "A page to ask a model on."),
    "space": ("space", "push", "That page, as a Space on the Hub."),
    "push": ("pushing", "push", "A checkpoint onto the Hub, checked and in one commit."),
    "verify": ("verifying", "check", "Is this the model that was saved? Names what differs."),
    "check-table": ("check_table", "check", "Can these R@k, MRR and mean rank come from one ranking?"),
    "demo": ("demonstration", "demonstrate", "Both stages and an evaluation on the embedded pair and corpus."),
}


#: How a command that was interrupted goes on.
_SAME_COMMAND = "the same command goes on"
_RESUME = "--resume_from_checkpoint last goes on from the last checkpoint, if one was saved"
GOES_ON: dict[str, str] = {
    **dict.fromkeys(("align", "lexicon", "inject", "finetune", "langbridge"), _RESUME),
    **dict.fromkeys(("ablate", "prepare", "synthesize", "eval outputs", "eval judge"), _SAME_COMMAND),
}
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; an error of llink's own is one line on stderr and code 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    if argv[:1] == ["--version"]:
        print(__version__)
        return 0
    name = " ".join(argv[:2]) if " ".join(argv[:2]) in COMMANDS else "".join(argv[:1])
    if name not in COMMANDS:
        group = [known for known in COMMANDS if known.startswith(f"{name} ")] if name else []
        wanted = argv[1 if group else 0 :][:1] in (["--help"], ["-h"])
        print(_usage(group or list(COMMANDS)), file=sys.stdout if wanted else sys.stderr)
        return 0 if wanted else 2
    module, function, _ = COMMANDS[name]
    try:
        command = getattr(importlib.import_module(f".{module}", __package__), function)
        result = command(argv[len(name.split()) :])
    except KeyboardInterrupt:
        print("\n" + "; ".join([f"llink {name}: stopped", *filter(None, [GOES_ON.get(name)])]) + ".", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        if not type(error).__module__.startswith("llink."):
            raise
        print(f"llink {name}: error: {error}", file=sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


def _usage(commands: Sequence[str]) -> str:
    width = max(map(len, commands))
    lines = [f"  llink {name:<{width}}  {COMMANDS[name][2]}" for name in commands]
    return "\n".join(["usage: llink COMMAND [options]   (llink COMMAND --help)", *lines, "  llink --version"])
