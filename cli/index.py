"""`llink index`: a collection of passages, read once into a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..data.collection import collect, read_collection
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.sources import check_folder
from ..store.slot_store import SlotStore
from .loading import ModelLoading
from .parsing import check_positive, parse_arguments


@dataclass(kw_only=True)
class IndexArguments(ModelLoading):
    """Reads passages into a store; those that it holds already are not read again."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    texts: list[str] = field(
        metadata={"help": "Files: .txt, a passage a line; .jsonl, .csv or .tsv with text, and perhaps id and document."}
    )
    output_dir: str = field(metadata={"help": "Folder of the store, new or there already."})
    batch_size: int = field(default=32, metadata={"help": "Pieces of passages the encoder reads at once."})

    def __post_init__(self) -> None:
        check_folder(self.model)
        check_positive(self, "batch_size")


OPTIONS = (IndexArguments,)
POSITIONALS = ("model",)
EXAMPLE = "llink index out/b --texts manual.txt news.jsonl --output-dir store"


def run(argv: Sequence[str]) -> None:
    """Indexes `llink index MODEL --texts FILE… --output-dir STORE`."""
    (args,) = parse_arguments("index", argv, OPTIONS, positionals=POSITIONALS)
    rows = list(read_collection(args.texts))
    passages = collect(rows)  # what is wrong with them shows before the model loads
    model = LlinkForCausalLM.from_pretrained(args.model, **args.loading())
    store = SlotStore.build(model, rows, args.output_dir, args.batch_size, show_progress=True)
    again = f" ({len(rows) - len(passages)} came twice)" if len(passages) < len(rows) else ""
    print(f"{len(passages)} passages{again}; {args.output_dir} holds {len(store)} pieces.")
