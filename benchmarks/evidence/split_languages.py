"""Splits the corpora of several languages together, so that no sentence of any of them stands in two splits.

Texts that were translated into several languages share their English: split apart, one language's held-out sentences
would be another's training text. Writes for each language `LANGUAGE/{train,dev,test}.{en,LANGUAGE}` and the
translation rows `LANGUAGE/{train,dev,test}.jsonl`; `all/train.*` for all of them; and `monolingual.txt`, every foreign
sentence that is not held out.

    python benchmarks/evidence/split_languages.py --pairs a.en a.km km --pairs b.en b.my my --output-dir data
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import Dataset, concatenate_datasets

from llink import read_pairs, split_pairs
from llink.data.instructions import translation_instructions


def write(pairs: Dataset, folder: Path, name: str, suffix: str) -> None:
    """Line-aligned files and translation rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for ending, column in (("en", "english"), (suffix, "foreign")):
        (folder / f"{name}.{ending}").write_text("".join(f"{text}\n" for text in pairs[column]), "utf-8")
    translation_instructions(pairs).to_json(folder / f"{name}.jsonl", force_ascii=False)
    print(f"{folder.name}/{name}: {len(pairs)} pairs")


def main() -> None:
    """Reads, splits, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs=3, action="append", required=True, metavar=("EN", "FOREIGN", "LANGUAGE"))
    parser.add_argument("--held-out", type=int, default=1200, help="rows of dev and of test, all languages together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    corpora = [read_pairs(english, foreign, language=language) for english, foreign, language in args.pairs]
    sizes = {"train": -1, "dev": args.held_out, "test": args.held_out}
    splits = split_pairs(concatenate_datasets(corpora), sizes, seed=args.seed)
    for language in dict.fromkeys(language for *_, language in args.pairs):
        for name, split in splits.items():
            own = split.filter(lambda row, language=language: row["language"] == language)
            if name != "train":  # retrieval needs one right answer
                own = split_pairs(own, {name: -1}, seed=args.seed, distinct=(name,))[name]
            write(own, args.output_dir / language, name, language)
    write(splits["train"], args.output_dir / "all", "train", "all")
    text = "".join(f"{sentence}\n" for sentence in dict.fromkeys(splits["train"]["foreign"]))
    (args.output_dir / "monolingual.txt").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
