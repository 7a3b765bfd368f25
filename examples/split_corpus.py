"""Splits line-aligned files by sentence and writes what `llink align` and `llink inject` read.

No sentence of either side stands in two splits. Beside `train`, `dev` and `test` pairs it writes rule-made translation
rows (`train.jsonl`, `test.jsonl`), with which Stage B can start without a language model, and `monolingual.txt`: every
foreign sentence but the held-out ones, to pre-train an encoder on.

    python examples/split_corpus.py --pairs corpus.en corpus.ja --language ja --held-out 1024 --output-dir data
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llink import read_pairs, split_pairs
from llink.data.instructions import translation_instructions
from llink.data.pairs import apart_from


def main() -> None:
    """Reads, splits, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs=2, required=True, metavar=("EN", "FOREIGN"))
    parser.add_argument("--language", default="und")
    parser.add_argument("--train", type=int, default=-1, help="training pairs; all that are left when not given")
    parser.add_argument("--held-out", type=int, default=1024, help="pairs of the dev and of the test split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    pairs = read_pairs(*args.pairs, language=args.language)
    sizes = {"train": args.train, "dev": args.held_out, "test": args.held_out}
    splits = split_pairs(pairs, sizes, seed=args.seed, distinct=("dev", "test"))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        for suffix, column in (("en", "english"), (args.language, "foreign")):
            text = "".join(f"{sentence}\n" for sentence in split[column])
            (args.output_dir / f"{name}.{suffix}").write_text(text, "utf-8")
        translation_instructions(split).to_json(args.output_dir / f"{name}.jsonl", force_ascii=False)
        print(f"{name}: {len(split)} pairs")
    rest = apart_from(pairs, {name: splits[name] for name in ("dev", "test")})
    text = "".join(f"{sentence}\n" for sentence in dict.fromkeys(rest["foreign"]))
    (args.output_dir / "monolingual.txt").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
