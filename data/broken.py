"""Files without what is broken in them: `llink prepare --skip_broken` reads copies, and says what it left out and why.

A translation unit of a TMX file, a pair of lines, or a row of a table goes as a whole, counted and with its line.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

from .errors import DataError
from .readers import Input, sniffed_dialect
from .streams import CHUNK, LONGEST, chunks, open_stream
from .tmx import variant_language

_SHOWN = 10
#: A comment, or a translation unit that ends.
_UNIT = re.compile(rb"<!--.*?-->|<tu[\s>].*?</tu\s*>", re.DOTALL)
_OPEN = re.compile(rb"<tu[\s>]")
_DECLARATION = re.compile(rb"\s*(?:\xef\xbb\xbf)?(<\?xml[^>]*\?>)")
#: Bytes of a unit at most; more is no unit of sentences.
_LARGEST = 16 * LONGEST


@dataclass
class Broken:
    """What was left out of one input.

    Attributes:
        count: How many units, pairs of lines or rows.
        examples: Of the first, `line` (of the file, unpacked) and `reason`.
    """

    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        """Counts one."""
        self.count += 1
        if len(self.examples) < _SHOWN:
            self.examples.append({"line": line, "reason": reason})


def without_broken(source: Input, folder: Path) -> tuple[Input, dict[str, Any]]:
    """An input's copy without what is broken in it, and what was.

    Args:
        source: A file of any format; Parquet and datasets of the Hub have no such places and are returned as they are.
        folder: Where the copies go.

    Raises:
        DataError: If nothing is left, or a file cannot be read at all.
    """
    broken, copies = Broken(), tuple(folder / f"whole-{path.name}" for path in source.paths)
    if source.format in ("parquet", "hub"):
        return source, asdict(broken)
    if source.format == "moses":
        kept = _whole_lines(source.paths, copies, broken)
    elif source.format == "tmx":
        kept = _copied(source.paths[0], copies[0], _whole_units(source.paths[0], broken))
    elif source.format == "jsonl":
        kept = _copied(source.paths[0], copies[0], _whole_objects(source.paths[0], broken))
    else:
        kept = _copied(source.paths[0], copies[0], _whole_rows(source, broken))
    if not kept:
        first = broken.examples[0] if broken.examples else {"line": 1, "reason": "it is empty"}
        raise DataError(
            f"{source.name}: everything in it is broken, {broken.count} in all, the first in line {first['line']}: "
            f"{first['reason']}."
        )
    return replace(source, paths=copies), asdict(broken)


def _copied(path: Path, copy: Path, parts: Iterable[tuple[bytes, bool]]) -> int:
    """Writes parts; how many of them count as something that was kept."""
    kept = 0
    with copy.open("wb") as out:
        for part, counts in parts:
            out.write(part)
            kept += counts
    return kept


# ---------------------------------------------------------------------- translation memories


def _whole_units(path: Path, broken: Broken) -> Iterator[tuple[bytes, bool]]:
    """What stands around the units, and the units that can be read."""
    with open_stream(path) as stream:
        head, declaration, line = b"", b"", 1
        for before, unit in _units(stream):
            if not head:
                head = before
                found = _DECLARATION.match(head)
                declaration = found[1] if found else b""
                yield head, False
            line += before.count(b"\n")
            if unit and (reason := _unit_fault(unit, declaration)):
                broken.add(line, reason)
            elif unit:
                yield unit + b"\n", True
            line += unit.count(b"\n")
        yield b"</body></tmx>\n", False


def _units(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(what stands before a unit, the unit): a unit that has no end goes up to where the next one begins."""
    waiting, before = b"", b""
    for data in (*chunks(stream), b""):
        waiting += data
        while found := _UNIT.search(waiting):
            if found[0].startswith(b"<!--"):
                before, waiting = before + waiting[: found.end()], waiting[found.end() :]
                continue
            opened = [place.start() for place in _OPEN.finditer(found[0])]
            end = found.start() + opened[1] if len(opened) > 1 else found.end()
            yield before + waiting[: found.start()], waiting[found.start() : end]
            before, waiting = b"", waiting[end:]
        if len(waiting) > _LARGEST and (start := _OPEN.search(waiting)):
            yield before + waiting[: start.start()], waiting[start.start() : -CHUNK]
            before, waiting = b"", waiting[-CHUNK:]
        if not data and (start := _OPEN.search(waiting)):
            yield before + waiting[: start.start()], waiting[start.start() :]


def _unit_fault(unit: bytes, declaration: bytes) -> str:
    """Why a unit cannot be read; "" where it can."""
    if len(unit) > _LARGEST:
        return f"a unit of {len(unit)} bytes is none of sentences"
    parser, seen = expat.ParserCreate(), _Seen()
    parser.StartElementHandler, parser.EndElementHandler = seen.start, seen.end
    parser.CharacterDataHandler = seen.text
    try:
        parser.Parse(declaration + b"<body>" + unit + b"</body>", True)
    except expat.ExpatError as error:
        return f"not well-formed XML ({expat.ErrorString(error.code)})"
    except (UnicodeError, LookupError) as error:
        raise DataError(f"The encoding that the TMX file names cannot be read ({error}).") from error
    return seen.fault


class _Seen:
    """What a unit's elements hold that a reader cannot use."""

    def __init__(self) -> None:
        self.fault, self._length, self._inside = "", 0, False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "tuv" and not variant_language(attributes):
            self.fault = "a <tuv> does not say its language (xml:lang)"
        self._inside, self._length = self._inside or name == "seg", 0 if name == "seg" else self._length

    def text(self, text: str) -> None:
        self._length += len(text) if self._inside else 0
        if self._length > LONGEST:
            self.fault = f"a segment has more than {LONGEST} characters"

    def end(self, name: str) -> None:
        self._inside = self._inside and name != "seg"


# ---------------------------------------------------------------------- lines and rows


def _lines(path: Path) -> Iterator[tuple[bytes, str]]:
    """Each line with its end, and what is wrong with it."""
    with open_stream(path) as stream:
        while line := stream.readline(4 * LONGEST):
            whole = line
            while len(line) == 4 * LONGEST and not line.endswith(b"\n"):  # the rest of what is too long
                line = stream.readline(4 * LONGEST)
            yield whole, _line_fault(whole)


def _line_fault(line: bytes) -> str:
    if len(line) >= 4 * LONGEST:
        return f"more than {LONGEST} characters"
    if b"\0" in line:
        return "NUL"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte 0x{line[error.start]:02x} is not UTF-8 ({error.reason})"
    return ""


def _whole_lines(paths: tuple[Path, ...], copies: tuple[Path, ...], broken: Broken) -> int:
    """The pairs of lines of which both can be read; files of unequal length stay so, and are refused later."""
    kept = 0
    with copies[0].open("wb") as first, copies[1].open("wb") as second:
        for number, pair in enumerate(zip_longest(*map(_lines, paths)), 1):
            if None not in pair and (reason := pair[0][1] or pair[1][1]):
                broken.add(number, reason)
                continue
            for out, line in zip((first, second), pair, strict=True):
                if line is not None:
                    out.write(line[0].removesuffix(b"\n") + b"\n")
            kept += 1
    return kept


def _whole_objects(path: Path, broken: Broken) -> Iterator[tuple[bytes, bool]]:
    for number, (line, fault) in enumerate(_lines(path), 1):
        if not fault and line.strip():
            try:
                fault = "" if isinstance(json.loads(line), dict) else "no JSON object"
            except (ValueError, RecursionError) as error:
                fault = f"not JSON ({error})"
        if fault:
            broken.add(number, fault)
        else:
            yield line.removesuffix(b"\n") + b"\n", bool(line.strip())


def _whole_rows(source: Input, broken: Broken) -> Iterator[tuple[bytes, bool]]:
    """The rows of a CSV or TSV that have as many columns as its first."""
    dialect = sniffed_dialect(source)
    rows = csv.reader(_text_lines(source.paths[0]), **dialect)
    width, line = 0, 1
    while True:
        try:
            row = next(rows, None)
            fault = ""
        except csv.Error as error:
            row, fault = [], f"no row ({error})"
        if row is None:
            return
        width = width or len(row)
        text = dialect["delimiter"].join(row)
        if row and not fault and len(row) != width:
            fault = f"{len(row)} columns where the first row has {width}"
        fault = fault or _line_fault(text.encode("utf-8", "surrogateescape"))
        if fault:
            broken.add(line, fault)
        elif row:
            yield _written(row, dialect).encode(), True
        line = rows.line_num + 1


def _text_lines(path: Path) -> Iterator[str]:
    with open_stream(path) as stream:
        for number, line in enumerate(stream):
            text = line.decode("utf-8", "surrogateescape")
            yield text.removeprefix("\ufeff") if number == 0 else text


def _written(row: list[str], dialect: dict[str, Any]) -> str:
    if dialect.get("quoting") == csv.QUOTE_NONE:
        return dialect["delimiter"].join(row) + "\n"
    return dialect["delimiter"].join('"' + text.replace('"', '""') + '"' for text in row) + "\n"
