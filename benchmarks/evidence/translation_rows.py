"""Translation rows of two files of parallel lines.

python benchmarks/evidence/translation_rows.py --pairs test.en test.my --language my --output rows.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llink import read_pairs
from llink.data.instructions import translation_instructions


def main() -> None:
    """Reads and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs=2, required=True, metavar=("ENGLISH", "FOREIGN"))
    parser.add_argument("--language", required=True)
    parser.add_argument("--limit", type=int, default=256, help="rows from the beginning")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    pairs = read_pairs(*args.pairs, language=args.language)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows = translation_instructions(pairs.select(range(min(args.limit, len(pairs)))))
    rows.to_json(args.output, force_ascii=False)


if __name__ == "__main__":
    main()
