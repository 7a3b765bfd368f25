"""`llink ask`: an answer from a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..configuration_llink import LlinkConfigError
from ..modeling_llink.encoding import SIDES
from ..store.slot_store import Found, SlotStore
from .loading import ModelLoading
from .parsing import check_positive, parse_arguments

_SHOWN = 200


@dataclass(kw_only=True)
class AskArguments(ModelLoading):
    """Finds passages of a store by a question, and answers from what they say."""

    store: str = field(metadata={"help": "Folder of a store, or its repository on the Hub."})
    question: str = field(metadata={"help": "English; best a statement like what it looks for, or a heading."})
    model: str | None = field(
        default=None, metadata={"help": "The model that made the store; where the store says it lies when not given."}
    )
    prompt: str | None = field(
        default=None,
        metadata={"help": "What the decoder is asked about what is found; the question itself when not given."},
    )
    k: int = field(default=3, metadata={"help": "Passages that are found, and read for the answer."})
    side: str = field(default="english", metadata={"help": "foreign: the question is in the passages' language."})
    search_only: bool = field(default=False, metadata={"help": "Only show what is found."})
    max_new_tokens: int = field(default=256, metadata={"help": "Length of an answer at most."})

    def __post_init__(self) -> None:
        check_positive(self, "k", "max_new_tokens")
        if self.side not in SIDES:
            raise LlinkConfigError(f"--side {self.side} is not one of {', '.join(SIDES)}.")


OPTIONS = (AskArguments,)
POSITIONALS = ("store", "question")
EXAMPLE = "llink ask store 'Inserting a chart into a document'"


def run(argv: Sequence[str]) -> None:
    """Answers `llink ask STORE QUESTION`."""
    (args,) = parse_arguments("ask", argv, OPTIONS, positionals=POSITIONALS)
    store = SlotStore.load(args.store, args.model, **args.loading())
    if args.search_only:
        found = store.search(args.question, args.k, args.side)
    else:
        answer = store.ask(args.question, args.k, args.side, args.prompt, max_new_tokens=args.max_new_tokens)
        print(answer.text + "\n")
        found = answer.passages
    print("\n".join(map(_line, found)))


def _line(found: Found) -> str:
    place = ", ".join(filter(None, [found.document, found.id, f"piece {found.piece}" if found.piece else ""]))
    text = found.text if len(found.text) <= _SHOWN else found.text[:_SHOWN] + " …"
    return f"{found.score:.3f}  {place}: {text}"
