"""Parallel text for tests of `llink prepare`: pairs that pass every cleaning step, and files of every format."""

import bz2
import csv
import gzip
import json
import lzma
import random
from pathlib import Path
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq

_ENGLISH = (
    "rain house river teacher market green old letter bread window doctor garden never always quickly market sister "
    "village monday school heavy small bright engine paper number winter friend kitchen mountain bridge yellow silent "
    "seven basket morning carpet harbour lantern pocket thunder velvet whisper orchard compass feather"
)
_KHMER = (
    "ភ្លៀង ផ្ទះ ទន្លេ គ្រូ ផ្សារ បៃតង ចាស់ សំបុត្រ នំប៉័ង បង្អួច វេជ្ជបណ្ឌិត សួន មិនដែល តែងតែ រហ័ស បងស្រី ភូមិ ចន្ទ សាលា ធ្ងន់ "
    "តូច ភ្លឺ ម៉ាស៊ីន ក្រដាស លេខ រដូវ មិត្ត ផ្ទះបាយ ភ្នំ ស្ពាន លឿង ស្ងាត់ ប្រាំពីរ កន្ត្រក ព្រឹក កំរាល កំពង់ផែ ចង្កៀង ហោប៉ៅ ផ្គរ"
)


ENGLISH, KHMER = _ENGLISH.split(), _KHMER.split()


def make_pairs(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct pairs of five to nine random words a side, hardly ever near duplicates."""
    rng = random.Random(seed)
    pairs = {}
    while len(pairs) < number:
        words = rng.randint(5, 9)
        english = " ".join(rng.choices(ENGLISH, k=words)).capitalize() + "."
        pairs[english] = "".join(rng.choices(KHMER, k=words)) + "។"
    return list(pairs.items())


def tmx(pairs: list[tuple[str, str]], tags: tuple[str, str] = ("en", "km"), head: str = "") -> str:
    """A TMX document with the markup that published ones have."""
    units = "".join(
        f' <tu tuid="{number}">\n  <prop type="score">0.7</prop>\n'
        f'  <tuv xml:lang="{tags[0]}"><prop type="url">x</prop><seg>{escape(english)}</seg></tuv>\n'
        f'  <tuv xml:lang="{tags[1]}"><seg>{escape(foreign)}</seg></tuv>\n </tu>\n'
        for number, (english, foreign) in enumerate(pairs)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{head}<tmx version="1.4">\n<header srclang="en"/>\n<body>\n'
        f"{units}</body>\n</tmx>\n"
    )


def compress(data: bytes, ending: str) -> bytes:
    """`gz` (without the time: the same bytes at every call), `xz`, `zst`, `bz2`, or as it is."""
    if ending == "gz":
        return gzip.compress(data, mtime=0)
    if ending == "zst":
        return pa.Codec("zstd").compress(data, asbytes=True)
    return {"xz": lzma.compress, "bz2": bz2.compress}.get(ending, bytes)(data)


def write_tmx(path: Path, pairs: list[tuple[str, str]], **options) -> Path:
    """A TMX file, compressed as its name says."""
    path.write_bytes(compress(tmx(pairs, **options).encode(), path.suffix[1:]))
    return path


def write_moses(folder: Path, name: str, pairs: list[tuple[str, str]], ending: str = "") -> list[Path]:
    """Two line-aligned files."""
    paths = [folder / f"{name}.{side}{ending and '.'}{ending}" for side in ("en", "km")]
    for column, path in enumerate(paths):
        path.write_bytes(compress("".join(f"{pair[column]}\n" for pair in pairs).encode(), ending))
    return paths


def write_table(
    path: Path, pairs: list[tuple[str, str]], names: tuple[str, str] | None = ("english", "foreign")
) -> Path:
    """A TSV, CSV, JSONL or Parquet file, as its name says; a TSV without names when there are none."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(names, map(list, zip(*pairs, strict=True)), strict=True))), path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, pair, strict=True)), ensure_ascii=False) for pair in pairs]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".tsv":
                file.writelines("\t".join(row) + "\n" for row in [*([names] if names else []), *pairs])
            else:
                csv.writer(file).writerows([("id", *names), *((n, *pair) for n, pair in enumerate(pairs))])
    return path
