"""Questions about whole documents, by rule: a sentence of the English side with a number, name or address taken out.

The foreign side is a document of several paragraphs, which holds that literal as it is; the question is asked where the
English document holds it once, so that the text around it says which of the document's literals is meant. Writes
`{train,test}.jsonl`; each row says in `third` (0 to 2) where in the document the answer's paragraph has its middle,
and in `literals` among how many different ones the answer stands. Held out are the documents that split_documents.py
holds out.

    python benchmarks/evidence/document_rows.py --corpus help.tsv --output-dir documents
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
from pathlib import Path
from typing import Any

from split_documents import corpus_rows, held_out_documents, short_paragraphs

from llink.evaluation.report import write_text
from llink.modeling_llink.literals import find_literals

SENTENCE = re.compile(r"[^.!?]*(?:[.!?](?!\s|$)[^.!?]*)*[.!?]?")
PROMPT = 'Fill the gap from the text: "{gap}" Write only what is missing.\n<foreign_emb>'
LONGEST = 300


def questions(name: str, paragraphs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """All questions of a document, whose paragraphs are pairs of English and foreign text."""
    english, foreign = (" ".join(side) for side in zip(*paragraphs, strict=True))
    texts = [literal.text for literal in find_literals(foreign)]
    rows, start = [], 0
    for source, text in paragraphs:
        third = min(2, 3 * (start + len(text) // 2) // len(foreign))
        start += len(text) + 1
        here = {literal.text for literal in find_literals(text)}
        for sentence in filter(None, map(str.strip, SENTENCE.findall(source))):
            for answer in sorted(here):
                alone = re.compile(rf"(?<![\w.,]){re.escape(answer)}(?![\w]|[.,]\d)")
                if len(sentence) > LONGEST or len(alone.findall(english)) != 1 or texts.count(answer) != 1:
                    continue
                gap, found = alone.subn("___", sentence)
                if found != 1 or len(gap) < 20:
                    continue
                rows.append(
                    {
                        "id": f"{name}:{len(rows)}",
                        "foreign": [foreign],
                        "prompt": PROMPT.format(gap=gap),
                        "completion": answer,
                        "task": "qa_about_text",
                        "english": english,
                        "third": third,
                        "literals": len(set(texts)),
                        "document": name,
                    }
                )
    return rows


def chosen(rows: list[dict[str, Any]], most: int, rng: random.Random) -> list[dict[str, Any]]:
    """At most so many rows of each third of a document; in turns, so that the first rows are of many documents."""
    rng.shuffle(rows)
    seen: collections.Counter[tuple[str, int]] = collections.Counter()
    turns: list[list[dict[str, Any]]] = [[] for _ in range(most)]
    for row in rows:
        key = row["document"], row["third"]
        if seen[key] < most:
            turns[seen[key]].append(row)
            seen[key] += 1
    return [row for turn in turns for row in turn]


def main() -> None:
    """Reads, asks, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--characters", type=int, nargs=2, default=(1000, 5000), help="of a document, foreign side")
    parser.add_argument("--documents", type=float, default=0.1, help="share of the documents that is held out")
    parser.add_argument("--least-literals", type=int, default=4, help="different ones in a document")
    parser.add_argument("--most", type=int, default=4, help="questions about a third of a document")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    rows = corpus_rows(args.corpus)
    held_out = held_out_documents(short_paragraphs(rows, 256), args.documents, random.Random(0))
    documents: dict[str, list[tuple[str, str]]] = {}
    for document, _, english, foreign in rows:
        documents.setdefault(document, []).append((english.strip(), foreign.strip()))
    least, most = args.characters
    asked: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for name, paragraphs in documents.items():
        if least <= sum(len(foreign) + 1 for _, foreign in paragraphs) <= most:
            made = questions(name, paragraphs)
            asked["test" if name in held_out else "train"] += [r for r in made if r["literals"] >= args.least_literals]
    rng = random.Random(args.seed)
    for split, found in asked.items():
        made = chosen(found, args.most, rng)
        write_text(
            args.output_dir / f"{split}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
        )
        thirds = [sum(row["third"] == third for row in made) for third in range(3)]
        texts = len({row["document"] for row in made})
        print(f"{split}: {len(made)} questions about {texts} documents, by third {thirds}")


if __name__ == "__main__":
    main()
