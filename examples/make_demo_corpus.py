"""Makes the demo corpus that llink embeds (`data/demo_corpus.jsonl.xz`) from the grammar in `demo_corpus/`.

python examples/make_demo_corpus.py --output data/demo_corpus.jsonl.xz
"""

import argparse
import json
import lzma
from pathlib import Path

from demo_corpus.corpus import generate_pairs

from llink.data.demo_corpus import SIZES


def corpus_lines(count: int = sum(SIZES.values())) -> bytes:
    """The content of the file: one pair a line, `[template, english, foreign, facts, parts, summary]`, as JSON."""
    rows = (
        [pair.template, pair.english, pair.foreign, pair.facts, pair.parts, pair.summary]
        for pair in generate_pairs(count)
    )
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows).encode()


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("data/demo_corpus.jsonl.xz"))
    args = parser.parse_args()
    args.output.write_bytes(lzma.compress(corpus_lines(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{args.output}: {sum(SIZES.values())} pairs, {args.output.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
