"""`llink generate`: answers about foreign text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import set_seed

from ..configuration_llink import LlinkConfigError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.passages import check_passages
from .loading import ModelLoading
from .parsing import check_positive, parse_arguments


@dataclass(kw_only=True)
class GenerateArguments(ModelLoading):
    """What to answer."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    foreign_text: list[str] = field(metadata={"help": "One or more foreign passages, one answer each."})
    prompt: str | None = field(default=None, metadata={"help": "English instruction; translates when not given."})
    max_new_tokens: int = field(default=256, metadata={"help": "Length of an answer at most."})
    num_beams: int = field(default=1, metadata={"help": "Beams; 1 is greedy."})
    do_sample: bool = field(default=False, metadata={"help": "Sample instead of taking the likeliest token."})
    temperature: float = field(default=1.0, metadata={"help": "Sampling temperature, with --do-sample."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus of sampling, up to 1, with --do-sample."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling."})

    def __post_init__(self) -> None:
        check_positive(self, "max_new_tokens", "num_beams")
        if not 0 < self.temperature < math.inf:
            raise LlinkConfigError(
                f"--temperature {self.temperature} must be above 0; leave --do-sample out to be greedy."
            )
        if not 0 < self.top_p <= 1:
            raise LlinkConfigError(f"--top-p {self.top_p} must be above 0, and 1 at most.")
        for name in ("temperature", "top_p"):
            if not self.do_sample and getattr(self, name) != 1:
                flag = f"--{name.replace('_', '-')} {getattr(self, name)}"
                raise LlinkConfigError(f"{flag} does nothing without --do-sample: add that, or leave {flag} out.")


OPTIONS = (GenerateArguments,)
EXAMPLE = "llink generate --model out/b --foreign-text 'សុខា ទៅសាលារៀន។' --prompt 'Translate to English.'"


def run(argv: Sequence[str]) -> None:
    """Answers an English prompt about foreign text."""
    (args,) = parse_arguments("generate", argv, OPTIONS)
    check_passages(args.foreign_text)  # before the model loads
    set_seed(args.seed)
    model = LlinkForCausalLM.from_pretrained(args.model, **args.loading())
    sampling = {"temperature": args.temperature, "top_p": args.top_p} if args.do_sample else {}
    tokens = model.generate(
        foreign_text=args.foreign_text,
        prompt=args.prompt,
        max_new_tokens=args.max_new_tokens,
        num_beams=args.num_beams,
        do_sample=args.do_sample,
        **sampling,
    )
    for answer in model.processor.batch_decode(tokens, skip_special_tokens=True):
        print(answer)
