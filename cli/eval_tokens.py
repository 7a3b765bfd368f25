"""`llink eval tokens` (paper section 3, figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..building import build_processor
from ..configuration_llink import LlinkConfigError
from ..data.pairs import read_pairs
from ..evaluation.costs import prompt_costs, shape_model
from ..evaluation.plot_tokens import plot_tokens
from ..evaluation.record import write_record
from ..evaluation.report import table
from ..evaluation.tokens import check_aligned, example_strips, load_tokenizer, tokenization
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.prompts import DEFAULT_PROMPT
from .loading import ModelLoading
from .parsing import check_positive, parse_arguments

TOKEN_COLUMNS = ("tokens", "median_tokens", "tokens_per_char", "tokens_per_byte", "premium", "fragments", "unknown")


@dataclass(kw_only=True)
class TokensArguments(ModelLoading):
    """Tokens of text, and what prompts cost with raw text and with slots (paper figure 2)."""

    texts: list[str] = field(metadata={"help": "NAME=FILE …: line-aligned UTF-8 files, one sentence a line."})
    english: str | None = field(default=None, metadata={"help": "NAME of the English file; the first when not given."})
    tokenizer: list[str] | None = field(
        default=None,
        metadata={"help": "Repositories, folders, tokenizer.json or tiktoken files; NAME=… gives one a name."},
    )
    model: str | None = field(default=None, metadata={"help": "An llink model: also the costs of its prompts."})
    encoder: str | None = field(default=None, metadata={"help": "With --decoder, in place of --model: shapes alone."})
    decoder: str | None = field(default=None, metadata={"help": "Folder or repository; only its config.json is read."})
    encoder_tokenizer: str | None = field(default=None, metadata={"help": "The encoder's own when not given."})
    decoder_tokenizer: str | None = field(default=None, metadata={"help": "The decoder's own when not given."})
    num_slots: int = field(default=8, metadata={"help": "K, with --encoder and --decoder (paper 4.2: 8)."})
    prompt: str = field(default=DEFAULT_PROMPT, metadata={"help": "Instruction of the prompts that are costed."})
    limit: int | None = field(default=None, metadata={"help": "Sentences from the beginning; all when not given."})
    output_dir: str | None = field(default=None, metadata={"help": "Also write the record and plots into this folder."})

    def __post_init__(self) -> None:
        if (self.encoder is None) != (self.decoder is None) or (self.model and self.encoder):
            raise LlinkConfigError("Give --model, or --encoder and --decoder together, or none of them.")
        if not (self.tokenizer or self.model or self.encoder):
            raise LlinkConfigError(
                "Give --tokenizer, --model, or --encoder and --decoder: there is nothing to count with."
            )
        check_positive(self, "limit", "num_slots")


OPTIONS = (TokensArguments,)
EXAMPLE = "llink eval tokens --tokenizer meta-llama/Llama-3.2-1B-Instruct --texts en=test.en km=test.km"


def run(argv: Sequence[str]) -> None:
    """Tokens of each text by each tokenizer, and the costs of prompts."""
    (args,) = parse_arguments("eval tokens", argv, OPTIONS)
    files = named_files(args.texts)
    english = args.english or next(iter(files))
    texts = aligned_texts(files, english, args.limit)
    check_aligned(texts, english)
    tokenizers = _named_tokenizers(args.tokenizer or [])
    model = _model(args)
    if model is not None:
        for name in ("decoder", "encoder"):
            if name in tokenizers:
                raise LlinkConfigError(f"--tokenizer: {name!r} is the name of the model's own; choose another one.")
        tokenizers |= {"decoder": model.processor.tokenizer, "encoder": model.processor.encoder_tokenizer}
    results: dict[str, Any] = {
        "english": english,
        "tokenizers": {name: tokenization(tokenizer, texts, english) for name, tokenizer in tokenizers.items()},
        "example": example_strips(tokenizers, texts, english),
    }
    if model is not None:
        foreign = {name: lines for name, lines in texts.items() if name != english}
        results["costs"] = {name: prompt_costs(model, lines, args.prompt) for name, lines in foreign.items()}
    print("\n\n".join(_tables(results)))
    write_record(args.output_dir, "tokens", results, args)
    if args.output_dir is not None:
        plot_tokens(results, Path(args.output_dir) / "tokens.png")


def named_files(entries: Sequence[str]) -> dict[str, str]:
    """`NAME=FILE` words as a mapping.

    Raises:
        LlinkConfigError: If a word is none, or a name stands twice.
    """
    files: dict[str, str] = {}
    for entry in entries:
        name, sign, file = entry.partition("=")
        if not (name and sign and file):
            raise LlinkConfigError(f"--texts: {entry!r} is not NAME=FILE, such as km=corpus.km.")
        if name in files:
            raise LlinkConfigError(f"--texts: the name {name!r} stands twice.")
        files[name] = file
    return files


def aligned_texts(files: Mapping[str, str], english: str, limit: int | None = None) -> dict[str, list[str]]:
    """Line-aligned files as lists of sentences; rows that are blank in any of them are left out of all.

    Args:
        files: Name → file.
        english: Name of the file that the others are aligned with.
        limit: Rows from the beginning.

    Raises:
        LlinkConfigError: If the English is not among the files, or no row is left.
        DataError: If a file cannot be read, or has another number of lines.
    """
    if english not in files:
        raise LlinkConfigError(f"--english {english!r} is not among the texts {', '.join(files)}.")
    rows: dict[str, dict[int, str]] = {}
    for name, file in files.items():
        pairs = read_pairs(files[english], file)
        numbers = (int(row_id.rpartition(":")[2]) for row_id in pairs["id"][:])
        rows[name] = dict(zip(numbers, pairs["foreign"][:], strict=True))
    shared = sorted(set.intersection(*(set(lines) for lines in rows.values())))[:limit]
    if not shared:
        raise LlinkConfigError(f"No line is filled in all of {', '.join(files.values())}.")
    return {name: [lines[number] for number in shared] for name, lines in rows.items()}


def _named_tokenizers(entries: Sequence[str]) -> dict[str, PreTrainedTokenizerBase]:
    tokenizers: dict[str, PreTrainedTokenizerBase] = {}
    for entry in entries:
        name, sign, source = entry.partition("=")
        if not sign:
            path = Path(entry)
            name, source = (path.parent if path.is_file() else path).name or entry, entry
        if name in tokenizers:
            raise LlinkConfigError(f"--tokenizer: the name {name!r} stands twice; write NAME={source}.")
        tokenizers[name] = load_tokenizer(source)
    return tokenizers


def _model(args: TokensArguments) -> LlinkForCausalLM | None:
    if args.model is not None:  # only its shapes are read: it stays off the GPU unless told otherwise
        return LlinkForCausalLM.from_pretrained(args.model, **args.loading() | {"device_map": args.device_map})
    if args.encoder is None:
        return None
    model = shape_model(args.encoder, args.decoder, num_slots=args.num_slots)
    model.processor = build_processor(
        model.config,
        load_tokenizer(args.decoder_tokenizer or args.decoder),
        load_tokenizer(args.encoder_tokenizer or args.encoder),
    )
    return model


def _tables(results: dict[str, Any]) -> list[str]:
    counts = [
        [tokenizer, text, *(found[column] for column in TOKEN_COLUMNS), found["n"]]
        for tokenizer, texts in results["tokenizers"].items()
        for text, found in texts.items()
    ]
    tables = [table(["tokenizer", "text", *(name.replace("_", " ") for name in TOKEN_COLUMNS), "n"], counts)]
    if not results.get("costs"):
        return tables
    prompts, savings = [], []
    for text, found in results["costs"].items():
        for kind in ("raw", "slots", "raw_uncut"):
            row = found[kind]
            work = [row.get(key, 0) / 1e9 for key in ("decoder_flops", "encoder_flops", "flops")]
            prompts.append([text, kind.replace("_", " "), row["tokens"], row["cache_bytes"] / 2**10, *work])
        ratio, reuses = found["ratio"], found["reuses"]
        share = [ratio["tokens"], ratio["cache_bytes"], ratio["flops"]]
        savings.append([text, *share, "never" if reuses is None else reuses, found["at_once"], found["cut"]])
    header = ["prompt about", "as", "tokens", "cache KiB", "decoder GFLOP", "encoder GFLOP", "GFLOP"]
    tables.append(table(header, prompts))
    header = ["raw over slots", "tokens", "cache", "work", "pays off after questions", "share at once", "texts cut"]
    tables.append(table(header, savings))
    return tables
