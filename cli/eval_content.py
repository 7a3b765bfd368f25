"""`llink eval content`: do answers say what the text says, and do the measures of it agree?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from ..evaluation.content import content_scores
from ..evaluation.outputs import named_outputs
from ..evaluation.plot_content import agreement_table, plot_content, systems_table
from ..evaluation.record import write_record
from ..modeling_llink import LlinkForCausalLM
from .loading import ModelLoading
from .parsing import check_positive, parse_arguments


@dataclass(kw_only=True)
class ContentArguments(ModelLoading):
    """Finished answers, measured by the decoder's likelihood of the reference, by the encoder, letters and literals."""

    outputs: list[str] = field(metadata={"help": "Files of llink eval outputs; all systems answered the same rows."})
    model: str = field(metadata={"help": "Folder or repository of an llink model, whose bases measure."})
    limit: int = field(default=200, metadata={"help": "Rows from the beginning that are measured."})
    batch_size: int = field(default=8, metadata={"help": "Rows in one forward pass."})
    output_dir: str | None = field(default=None, metadata={"help": "Also write the record and plots into this folder."})

    def __post_init__(self) -> None:
        check_positive(self, "limit", "batch_size")


OPTIONS = (ContentArguments,)
EXAMPLE = "llink eval content --model out/b --outputs out/eval/outputs/*.jsonl --output-dir out/eval"


def run(argv: Sequence[str]) -> None:
    """Measures finished answers, the systems side by side."""
    (args,) = parse_arguments("eval content", argv, OPTIONS)
    answered = {name: rows[: args.limit] for name, rows in named_outputs(args.outputs).items()}
    model = LlinkForCausalLM.from_pretrained(args.model, **args.loading())
    results = content_scores(model, answered, args.batch_size, show_progress=True)
    print(systems_table(results["systems"]))
    print("\nHow the measures agree over all answers (Spearman's correlation):")
    print(agreement_table(results["agreement"]))
    if path := write_record(args.output_dir, "content", results, asdict(args)):
        plot_content(results, path.with_suffix(".png"))
