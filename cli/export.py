"""`llink export`: the decoder of a model, for servers that know nothing of llink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..configuration_llink import LlinkConfigError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.sources import check_folder
from ..serving.export import check_empty, export_decoder
from .loading import ModelLoading
from .parsing import parse_arguments

_ENGINES = ("vllm",)


@dataclass(kw_only=True)
class ExportArguments(ModelLoading):
    """Writes the decoder with LoRA merged as a plain transformers folder, which vLLM serves behind `llink serve`."""

    model: str = field(metadata={"help": "Folder or repository of an llink model that Stage B trained."})
    output_dir: str = field(metadata={"help": "Folder of the decoder, new or empty."})
    engine: str = field(default="vllm", metadata={"help": "What it is for, also --for: vllm.", "aliases": ["--for"]})

    def __post_init__(self) -> None:
        check_folder(self.model)
        check_empty(Path(self.output_dir))
        if self.engine not in _ENGINES:
            raise LlinkConfigError(f"--for {self.engine} is not one of {', '.join(_ENGINES)}.")


OPTIONS = (ExportArguments,)
POSITIONALS = ("model",)
EXAMPLE = "llink export out/b --for vllm --output-dir out/decoder"


def run(argv: Sequence[str]) -> None:
    """Exports `llink export MODEL --for vllm --output-dir FOLDER`."""
    (args,) = parse_arguments("export", argv, OPTIONS, positionals=POSITIONALS)
    as_stored = args.loading() | {"dtype": args.dtype}
    export_decoder(LlinkForCausalLM.from_pretrained(args.model, **as_stored), args.output_dir)
    print(
        f"vllm serve {args.output_dir} --enable-prompt-embeds\nllink serve {args.model} --engine-url "
        "http://127.0.0.1:8000 --port 8001"
    )
