"""The data of the study of languages: every corpus, split so that no test sentence stands in training in any language.

    python benchmarks/evidence/study_data.py CORPORA OUTPUT

CORPORA holds `en-km/tico19.{en,km}` and so on. Held out are a third of the documents of LibreOffice's help, the same
last 1,000 lines of TICO-19 in every language, and 1,000 pairs of Tanaka; a training pair that shares a side with them
is left out. Writes `train.jsonl` and `test/SET.jsonl` (pairs), and `documents.{train,test}.jsonl`: whole help pages
with questions whose answer, a number or a Latin word, stands in the first, middle or last third.
"""

from __future__ import annotations

import csv
import json
import random
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from llink.modeling_llink.literals import find_literals

TICO_TRAIN = 1_100
TANAKA_TEST = 1_000
HELD_OUT_DOCUMENTS = 0.36
LONGEST = 320  # characters of a pair's sides
QUESTION = (
    'In this sentence of the text a word or number is left out: "{gap}" Which? Answer with it alone.\n<foreign_emb>'
)
Pair = dict[str, str]
Document = list[tuple[str, str]]


def main() -> None:
    """Reads, splits, writes."""
    corpora, output = Path(sys.argv[1]), Path(sys.argv[2])
    (output / "test").mkdir(parents=True, exist_ok=True)
    documents = read_documents(corpora / "en-km/libreoffice-help.tsv")
    names = sorted(documents)
    held_out = set(random.Random(0).sample(names, round(HELD_OUT_DOCUMENTS * len(names))))
    parts = {"test": [name for name in names if name in held_out], "train": [n for n in names if n not in held_out]}
    help_pairs = {
        part: [pair("km", "help", *sides) for name in chosen for sides in documents[name]]
        for part, chosen in parts.items()
    }
    tico = {language: list(read_lines(corpora, language, "tico19")) for language in ("km", "my", "am")}
    tanaka = [*read_lines(corpora, "ja", "tanaka-dev"), *read_lines(corpora, "ja", "tanaka-train")]
    tests = {
        "help-km": distinct(help_pairs["test"])[:1_000],
        **{f"tico-{language}": pairs[TICO_TRAIN:] for language, pairs in tico.items()},
        "tanaka-ja": tanaka[:TANAKA_TEST],
    }
    train = [
        *help_pairs["train"],
        *read_lines(corpora, "km", "wmt20-newstest"),
        *read_lines(corpora, "km", "wmt20-wikipedia"),
        *(pair for pairs in tico.values() for pair in pairs[:TICO_TRAIN]),
        *read_interface(corpora, "km"),
        *read_interface(corpora, "am"),
        *tanaka[TANAKA_TEST:],
    ]
    banned = {key(found[side]) for found in help_pairs["test"] for side in ("english", "foreign")}
    banned |= {key(found[side]) for pairs in tests.values() for found in pairs for side in ("english", "foreign")}
    train = [
        found
        for found in distinct(train)
        if not banned & {key(found["english"]), key(found["foreign"])} and max(map(len, sides_of(found))) <= LONGEST
    ]
    write(output / "train.jsonl", train)
    for name, pairs in tests.items():
        write(output / "test" / f"{name}.jsonl", pairs)
    for part, names in parts.items():
        chosen = pages(documents[name] for name in names)
        rows = [row for number, page in enumerate(chosen) for row in questions(page, f"{part}-{number}")]
        write(output / f"documents.{part}.jsonl", rows)


def key(text: str) -> str:
    """What two writings of the same sentence share."""
    return re.sub(r"[\s\u200b\u200c\u200d]+", "", text).casefold()


def sides_of(found: Pair) -> tuple[str, str]:
    return found["english"], found["foreign"]


def pair(language: str, source: str, english: str, foreign: str) -> Pair:
    return {"language": language, "source": source, "english": english.strip(), "foreign": foreign.strip()}


def read_lines(corpora: Path, language: str, name: str) -> Iterator[Pair]:
    files = [corpora / f"en-{language}" / f"{name}.{side}" for side in ("en", language)]
    for english, foreign in zip(*(file.read_text("utf-8").split("\n") for file in files), strict=True):
        if english.strip() and foreign.strip():
            yield pair(language, name, english, foreign)


def read_interface(corpora: Path, language: str) -> list[Pair]:
    rows = read_table(corpora / f"en-{language}/libreoffice-ui.tsv")
    # Letters on both sides: a mere number or sign teaches nothing.
    return [pair(language, "interface", *row[-2:]) for row in rows if all(re.search(r"\w", side) for side in row[-2:])]


def read_table(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row for row in rows[1:] if len(row) == len(rows[0])]


def read_documents(path: Path) -> dict[str, Document]:
    documents: dict[str, Document] = {}
    for name, _, english, foreign in read_table(path):
        if english.strip() and foreign.strip():
            documents.setdefault(name, []).append((english.strip(), foreign.strip()))
    return documents


def distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """One pair of all that share a side within a language."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for found in pairs:
        keys = {(found["language"], key(side)) for side in sides_of(found)}
        if not keys & seen:
            kept.append(found)
            seen |= keys
    return kept


def pages(documents: Iterable[Document]) -> Iterator[Document]:
    """Pages of 1,000 to 5,000 characters: short documents stand together, a long one is taken apart."""
    rng = random.Random(0)
    page: Document = []
    wanted = rng.randint(1_000, 4_000)
    for document in documents:
        for paragraph in document:
            if sum(len(foreign) + 1 for _, foreign in [*page, paragraph]) > 5_000:
                page = []
            page.append(paragraph)
            if sum(len(foreign) + 1 for _, foreign in page) > wanted:
                yield page
                page, wanted = [], rng.randint(1_000, 4_000)


def questions(page: Document, name: str) -> list[dict[str, str]]:
    """At most one question a third of a page."""
    length, kept = 0, []
    for english, foreign in page:
        kept.append((length, english, foreign))
        length += len(foreign) + 1
    text = "\n".join(foreign for _, _, foreign in kept)
    found: dict[int, dict[str, str]] = {}
    order = random.Random(name).sample(kept, len(kept))
    for start, english, foreign in order:
        third = min(3 * (start + len(foreign) // 2) // length, 2)
        if third in found or len(english) > 300:
            continue
        for literal in find_literals(foreign, ("number", "date", "time", "file", "latin")):
            answer = re.compile(rf"(?<![\w.]){re.escape(literal.text)}(?![\w])")
            words = len(english.split()) - len(literal.text.split())
            if len(literal.text.split()) <= 3 and len(answer.findall(english)) == 1 and words >= 3:
                prompt = QUESTION.format(gap=answer.sub("___", english))
                row = {"id": f"{name}-{third}", "foreign": text, "prompt": prompt, "completion": literal.text}
                found[third] = row | {"task": f"third_{third + 1}", "english": ""}
                break
    return list(found.values())


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    print(f"{path}: {len(rows)}")


if __name__ == "__main__":
    main()
