"""Translation memories (TMX) as streams of sentence pairs: bounded memory, safe XML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from .errors import DataError
from .scripts import primary_language
from .streams import LONGEST, chunks, open_stream

#: Native codes inside a segment, which are no text (TMX 1.4b); `hi` marks text.
_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
_SHOWN = 12
#: After so many units without the languages, there is no use in reading on.
PATIENCE = 100_000


def check_tmx(path: Path, watch: Callable[[bytes], object]) -> None:
    """Reads a TMX file once, quickly, to find what is wrong with it before any work is done on it.

    Raises:
        DataError: As [`open_stream`]; if it is not well-formed XML, declares entities, or is no TMX.
    """
    parser = _safe_parser(path)

    def first(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2] != "tmx":
            raise DataError(f"{path} is not TMX: its outermost element is <{name}>.")
        parser.StartElementHandler = None

    parser.StartElementHandler = first
    for _ in _parsed(parser, path, watch):
        pass


def read_tmx(path: Path, target: str, foreign: str, watch: Callable[[bytes], object]) -> Iterator[tuple[str, str]]:
    """The pairs of a TMX file, one for each translation unit.

    Args:
        path: The file, compressed or not.
        target, foreign: Language tags; only their languages are compared (`en` finds `EN-us`). A unit that has
            several variants in a language gives the first.
        watch: Called with every piece of the file.

    Yields:
        Target and foreign text; "" for a language that the unit lacks.

    Raises:
        DataError: As [`check_tmx`]; if no unit, or none of the first `PATIENCE`, has both languages (those found are
            named); if a segment is longer than `LONGEST`, or a variant names no language.
    """
    wanted = (primary_language(target), primary_language(foreign))
    units = _Units(_safe_parser(path), path, wanted)
    complete = seen = 0
    for is_end in _parsed(units.parser, path, watch):
        if is_end:
            units.finish()
        pairs, units.pairs = units.pairs, []
        seen += len(pairs)
        if not complete:
            complete = sum(1 for pair in pairs if pair[0] and pair[1])
            if not complete and seen >= PATIENCE:
                break
        yield from pairs
    if not complete:
        found = sorted(units.languages)
        if {0, 1} <= set(units.languages.values()):
            raise DataError(
                f"{path}: of {seen} translation units none holds text of both {wanted[0]!r} and {wanted[1]!r} in its "
                "<seg> elements, though both languages are named. Export it anew as TMX 1.4."
            )
        raise DataError(
            f"{path}: none of {seen} translation units has both {wanted[0]!r} and {wanted[1]!r}; its languages are "
            f"{', '.join(found[:_SHOWN]) or 'none'}{', …' if len(found) > _SHOWN else ''}. Give the right --language."
        )


def variant_language(attributes: Mapping[str, str]) -> str:
    """The language of a <tuv>, by TMX 1.4's attribute or by the one before it; "" where it has none."""
    return attributes.get("xml:lang") or attributes.get("lang") or ""


class _Units:
    """Gathers the pairs of the units that a parser goes through; a unit is complete when the next one begins.

    Handlers for text and ends are set only inside a segment that is wanted: calls are what reading costs.
    """

    def __init__(self, parser: expat.XMLParserType, path: Path, wanted: tuple[str, str]) -> None:
        self.parser, self.path, self.wanted = parser, path, wanted
        self.pairs: list[tuple[str, str]] = []
        self.languages: dict[str, int | None] = {}  # tag → 0 target, 1 foreign, None neither
        self._unit: list[str | None] | None = None
        self._side: int | None = None
        self._texts: list[str] = []
        self._length = self._codes = 0
        parser.StartElementHandler = self._start

    def finish(self) -> None:
        """Completes the unit that is open."""
        if self._unit is not None:
            self.pairs.append((self._unit[0] or "", self._unit[1] or ""))
            self._unit = None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "prop":
            return
        if name == "seg":
            if self._side is not None and self._unit is not None and self._unit[self._side] is None:
                self._texts, self._length, self._codes = [], 0, 0
                self.parser.CharacterDataHandler, self.parser.EndElementHandler = self._text, self._end
        elif name == "tuv":
            tag = variant_language(attributes)
            if not tag:
                raise DataError(
                    f"{self.path}, line {self.parser.CurrentLineNumber}: a <tuv> does not say its language (xml:lang). "
                    "Mend it, or leave such units out with --skip_broken."
                )
            if tag not in self.languages:
                language = primary_language(tag)
                self.languages[tag] = self.wanted.index(language) if language in self.wanted else None
            self._side = self.languages[tag]
        elif name == "tu":
            self.finish()
            self._unit = [None, None]
        elif name in _CODES:
            self._codes += 1

    def _text(self, text: str) -> None:
        if self._codes == 0:
            self._texts.append(text)
            self._length += len(text)
            if self._length > LONGEST:
                line = self.parser.CurrentLineNumber
                raise DataError(
                    f"{self.path}, line {line}: a segment has more than {LONGEST} characters: it is no sentence."
                )

    def _end(self, name: str) -> None:
        if name == "seg":
            self.parser.CharacterDataHandler = self.parser.EndElementHandler = None
            self._unit[self._side] = "".join(self._texts)
        elif name in _CODES:
            self._codes -= 1


def _safe_parser(path: Path) -> expat.XMLParserType:
    """A parser that refuses every entity but the five of XML itself: no bombs, and no reading of other files."""

    def refuse(name: str, *_: object) -> NoReturn:
        raise DataError(f"{path} declares or uses the XML entity {name!r}; entities are refused, as they can be bombs.")

    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.EntityDeclHandler = parser.ExternalEntityRefHandler = parser.SkippedEntityHandler = refuse
    parser.buffer_text = True
    return parser


def _parsed(parser: expat.XMLParserType, path: Path, watch: Callable[[bytes], object]) -> Iterator[bool]:
    """Feeds the file to the parser and pauses after each piece; true after the last."""
    try:
        with open_stream(path, watch) as stream:
            for data in chunks(stream):
                parser.Parse(data, False)
                yield False
            parser.Parse(b"", True)
            yield True
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        truncated = ": the file is truncated" if "no element found" in reason or "unclosed" in reason else ""
        raise DataError(
            f"{path}, line {error.lineno}, column {error.offset + 1}: not well-formed XML ({reason}){truncated}. "
            "TMX is UTF-8 or UTF-16, or names its encoding in the first line. --skip_broken leaves such units out."
        ) from error
    except (UnicodeError, LookupError) as error:
        raise DataError(f"{path}: the encoding that its first line names cannot be read ({error}).") from error
