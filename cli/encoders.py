"""`llink encoders`: which frozen encoder, layer and pooling to build on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..building import base_tokenizer, encoder_fields
from ..configuration_bases import text_config
from ..configuration_llink import POOLINGS, LlinkConfig, LlinkConfigError
from ..data.pairs import check_pairs, dataset_groups, read_pairs, sentences
from ..evaluation.plot_retrieval import plot_encoders
from ..evaluation.probes import layer_features, layer_numbers, probe_folds, probe_ranks
from ..evaluation.record import write_record
from ..evaluation.report import table
from ..evaluation.retrieval import KS, rank_report, retrieval_ranks
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.bases import base_config, load_base
from .loading import ModelLoading
from .parsing import check_positive, check_two_files, parse_arguments

_SHOWN = 20


@dataclass(kw_only=True)
class EncodersArguments(ModelLoading):
    """Ranks frozen encoders, layers and poolings before any training: zero-shot, and by a linear probe."""

    encoders: list[str] = field(metadata={"help": "Folders or repositories of encoders."})
    pairs: list[str] = field(
        metadata={"help": "Two line-aligned files: target (English), then foreign; held out from what is tested later."}
    )
    poolings: list[str] = field(
        default_factory=lambda: list(POOLINGS), metadata={"help": "Of mean, cls, max and last."}
    )
    prefixes: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Also rank each encoder with these before every text, such as 'query: '; a sentence-transformers "
            "folder's own is ranked beside them."
        },
    )
    encoder_is_causal: bool = field(default=False, metadata={"help": "Take encoders of a decoder's architecture."})
    layers: list[str] = field(
        default_factory=lambda: ["all"], metadata={"help": "`all`, or numbers: 0 the embeddings, -1 the last layer."}
    )
    decoder: str | None = field(
        default=None,
        metadata={
            "help": "Folder or repository of a decoder: the probe then predicts its conditioned states of the English "
            "side, the targets of Stage A. Without it, the same layer's vectors of the English side."
        },
    )
    limit: int = field(default=2048, metadata={"help": "Pairs at most, the first ones."})
    folds: int = field(
        default=4, metadata={"help": "Folds of the probe; pairs that share a sentence stay in one. Each is held out."}
    )
    batch_size: int = field(default=32, metadata={"help": "Texts in one forward pass."})
    seed: int = field(default=0, metadata={"help": "Decides which pairs form a fold."})
    output_dir: str | None = field(default=None, metadata={"help": "Also write the record and plots into this folder."})

    def __post_init__(self) -> None:
        check_two_files("pairs", self.pairs)
        if wrong := [pooling for pooling in self.poolings if pooling not in POOLINGS]:
            raise LlinkConfigError(f"--poolings {wrong} are not of {', '.join(POOLINGS)}.")
        check_positive(self, "limit", "batch_size")
        check_positive(self, "folds", least=2)


OPTIONS = (EncodersArguments,)
EXAMPLE = "llink encoders --pairs dev.en dev.km --encoders FacebookAI/xlm-roberta-base sentence-transformers/LaBSE"


def run(argv: Sequence[str]) -> None:
    """Ranks encoders, layers and poolings by the probe's MRR."""
    (args,) = parse_arguments("encoders", argv, OPTIONS)
    pairs = read_pairs(*args.pairs)
    pairs = pairs.select(range(min(args.limit, len(pairs))))
    check_pairs(pairs, f"--pairs {args.pairs[0]} (up to --limit {args.limit})", args.folds * max(KS))
    english, foreign, groups = sentences(pairs, "english"), sentences(pairs, "foreign"), dataset_groups(pairs)
    hub = {"trust_remote_code": args.trust_remote_code}
    causal = {"encoder_is_causal": True} if args.encoder_is_causal else {}
    settings, configs, tokenizers = {}, {}, {}
    for name in dict.fromkeys(args.encoders):
        settings[name], configs[name] = encoder_fields(name, None, hub, causal)
        place = settings[name].get("encoder_subfolder", "")
        tokenizers[name] = base_tokenizer("encoder", name, subfolder=place, **hub)
    layers = {
        name: layer_numbers(text_config(config).num_hidden_layers, args.layers, name)
        for name, config in configs.items()
    }
    if args.decoder is not None:
        base_config("decoder", args.decoder, None)
    teachers = _teacher_states(args, english) if args.decoder is not None else None
    given = {"folds": args.folds, "seed": args.seed}
    folds = probe_folds(teachers, groups, **given) if teachers is not None else None
    rows = []
    for name, config in configs.items():
        limits = LlinkConfig(encoder_config=config)
        place = settings[name].get("encoder_subfolder", "")
        encoder, _ = load_base("encoder", name, subfolder=place, causal=True, **args.loading())
        encoder.eval()
        options = (layers[name], args.poolings, limits.max_foreign_chars, limits.max_foreign_tokens, args.batch_size)
        prefixes = dict.fromkeys(["", settings[name].get("encoder_prefix", ""), *args.prefixes])
        for prefix, (layer, pooling), features, targets in _all_features(
            encoder, tokenizers[name], foreign, english, options, list(prefixes)
        ):
            rows.append(
                {
                    "encoder": name,
                    "layer": layer,
                    "depth": text_config(config).num_hidden_layers if layer == -1 else layer,
                    "pooling": pooling,
                    "prefix": prefix,
                    "probe": rank_report(probe_ranks(features, folds or probe_folds(targets, groups, **given))),
                    "zero_shot": rank_report(retrieval_ranks(features, targets)),
                }
            )
    rows.sort(key=lambda row: row["probe"]["mrr"], reverse=True)
    _show(rows, args, len(pairs))
    results = {"probe_target": args.decoder or "the encoder's own English vectors", "pairs": len(pairs), "rows": rows}
    write_record(args.output_dir, "encoders", results, args)
    if args.output_dir is not None:
        plot_encoders(rows, Path(args.output_dir) / "encoders.png")


def _all_features(
    encoder: Any, tokenizer: Any, foreign: list[str], english: list[str], options: tuple, prefixes: list[str]
) -> Iterator[tuple[str, tuple[int, str], Tensor, Tensor]]:
    """Prefix, place and both sides' vectors (N, d_e), one prefix after the other."""
    for prefix in prefixes:
        own, other = (
            layer_features(encoder, tokenizer, texts, *options, show_progress=True, prefix=prefix)
            for texts in (foreign, english)
        )
        for place, features in own.items():
            yield prefix, place, features, other[place]


def _teacher_states(args: EncodersArguments, english: list[str]) -> Tensor:
    """Raw h_E (N, d), as a model with llink's default teacher reads them."""
    small: dict[str, Any] = {"num_slots": 1, "slot_expander_hidden_size": 1}  # a bridge that is not used
    small |= {"encoder_is_causal": True} if args.encoder_is_causal else {}
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(args.encoders[0], args.decoder, **args.loading(), **small)
    return model.get_teacher_states(english, args.batch_size, show_progress=True)


def _show(rows: list[dict[str, Any]], args: EncodersArguments, n: int) -> None:
    cells = []
    for row in rows[:_SHOWN]:
        low, high = row["probe"]["intervals"]["r@1"]
        probe = f"{row['probe']['r@1']:.3f} [{low:.3f}, {high:.3f}]", row["probe"]["r@10"], row["probe"]["mrr"]
        place = row["encoder"], row["layer"], row["pooling"], repr(row["prefix"]) if row["prefix"] else ""
        cells.append([*place, *probe, row["zero_shot"]["r@1"], row["zero_shot"]["mrr"]])
    header = ["encoder", "layer", "pooling", "prefix", "probe r@1", "r@10", "mrr", "zero-shot r@1", "mrr"]
    print(table(header, cells))
    if len(rows) > _SHOWN:
        print(f"… and {len(rows) - _SHOWN} more, in the record of --output_dir.")
    target = f"{args.decoder}'s states" if args.decoder else "the encoder's own English vectors of the same layer"
    print(
        f"\nProbe: ridge regression to {target}, {args.folds} folds, each held out, about {n // args.folds} candidates."
    )
    print(f"Zero-shot: {n} candidates. Best by the probe's mrr:")
    best, *others = rows
    floor = best["probe"]["intervals"]["mrr"][0]
    prefix = f" --encoder_prefix {best['prefix']!r}" if best["prefix"] else ""
    print(f"--encoder {best['encoder']} --encoder_layer {best['layer']} --pooling {best['pooling']}{prefix}")
    if close := [row for row in others if row["probe"]["mrr"] >= floor]:
        named = ", ".join(f"{row['encoder']} {row['layer']} {row['pooling']} {row['prefix']}".strip() for row in close)
        print(f"Within its 95 % interval, so not told apart: {named}.")
