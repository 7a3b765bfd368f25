"""Splits a corpus of documents so that no document, and no sentence of a held-out one, stands in training.

The corpus is a TSV file with the columns `document`, `paragraph`, English and foreign. Paragraphs that a model would
cut are left out. Writes `{train,test}.{en,LANGUAGE}` and the translation rows `{train,test}.jsonl`.

    python benchmarks/evidence/split_documents.py --corpus help.tsv --language km --output-dir data
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

from datasets import Dataset

from llink import read_pairs
from llink.data.instructions import translation_instructions


def corpus_rows(path: str) -> list[list[str]]:
    """Document, paragraph, English and foreign text of each row."""
    with open(path, encoding="utf-8", newline="") as file:
        return [row for row in list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:] if len(row) == 4]


def short_paragraphs(rows: list[list[str]], characters: int) -> list[list[str]]:
    """Those with text on both sides, of so many foreign characters at most."""
    return [row for row in rows if 0 < len(row[3].strip()) <= characters and row[2].strip()]


def held_out_documents(rows: list[list[str]], share: float, rng: random.Random) -> set[str]:
    """The names of the documents that no training sees."""
    documents = sorted({row[0] for row in rows})
    return set(rng.sample(documents, round(share * len(documents))))


def main() -> None:
    """Reads, splits, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--language", required=True)
    parser.add_argument("--train", type=int, default=-1, help="training pairs; all that are left when not given")
    parser.add_argument("--held-out", type=int, default=128, help="pairs of the test split")
    parser.add_argument("--documents", type=float, default=0.1, help="share of the documents that is held out")
    parser.add_argument("--characters", type=int, default=256, help="of a foreign paragraph at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    rows = short_paragraphs(corpus_rows(args.corpus), args.characters)
    rng = random.Random(args.seed)
    held_out = held_out_documents(rows, args.documents, rng)
    rng.shuffle(rows)
    splits: dict[str, list[tuple[str, str]]] = {"test": [], "train": []}
    seen: set[str] = set()
    for name, limit in (("test", args.held_out), ("train", args.train)):
        for document, _, english, foreign in rows:
            pair = english.strip(), foreign.strip()
            if len(splits[name]) == limit or (document in held_out) != (name == "test") or seen & set(pair):
                continue
            seen |= set(pair)
            splits[name].append(pair)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name, pairs in splits.items():
        files = [args.output_dir / f"{name}.{suffix}" for suffix in ("en", args.language)]
        for path, texts in zip(files, zip(*pairs, strict=True), strict=True):
            path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
        read: Dataset = read_pairs(*files, language=args.language)
        translation_instructions(read).to_json(args.output_dir / f"{name}.jsonl", force_ascii=False)
        print(f"{name}: {len(pairs)} pairs")


if __name__ == "__main__":
    main()
