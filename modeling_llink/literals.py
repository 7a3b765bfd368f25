"""What of a foreign passage an English decoder reads as it is, or by a table: numbers, months, addresses, Latin."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import regex

from ..configuration_llink import LITERAL_KINDS
from ..numerals_llink import read_ethiopic
from .calendar_names import MONTHS, WEEKDAYS

#: Characters of a literal at most; a longer one stays with the slots, whole.
MAX_LITERAL_CHARS = {"number": 40, "date": 40, "time": 40, "calendar": 40, "address": 128, "file": 128, "latin": 64}


@dataclass(frozen=True)
class Literal:
    """A part of a passage that is passed to the decoder as it stands.

    Attributes:
        start: Where it begins in the passage, in characters.
        end: Where it ends.
        text: What is written: digits and signs in ASCII, months and weekdays by their English names; currency signs and
            Latin letters as they are.
        kind: One of [`LITERAL_KINDS`].
    """

    start: int
    end: int
    text: str
    kind: str


#: Signs, one character for one, so that places stay; see [`_written`] for the rest.
_SIGNS = str.maketrans(
    "".join(map(chr, range(0xFF01, 0xFF5F))) + "٫٬٪﹪∕⁄÷؍〜∼−–—‒‐‑﹣’′￠￡￥￦\u00a0\u2009\u202f",
    "".join(map(chr, range(0x21, 0x7F))) + ".,%%////~~-------''¢£¥₩   ",
)
#: A comma or colon of their own script between digits; elsewhere they are the sentence's.
_BETWEEN_DIGITS = regex.compile(r"(?<=[0-9])(?:(?P<colon>፡)(?=[0-9])|[،፣၊](?=[0-9]{3}(?![0-9])))")
_DIGITS = "०-९০-৯੦-੯૦-૯୦-୯௦-௯౦-౯೦-೯൦-൯෦-෯๐-๙໐-໙၀-၉႐-႙០-៩"
#: Under asat or over a stack, a Burmese consonant closes a syllable, so that a letter stands before it: ၀န်ကြီး is
#: ဝန်ကြီး, and ၄င်း is ၎င်း.
_CLOSED = "[က-အ]့?[်္]"
_LETTER_AS_DIGIT = regex.compile(
    r"(?=[ဝଠంಂംရ])(?:"
    rf"(?<=[၀-၉୦-୯౦-౯೦-೯൦-൯][ဝ.,:]{{0,12}})[ဝଠంಂം]+(?!\p{{M}}|{_CLOSED})"
    r"|(?<![\p{L}\p{M}])[ဝଠ]+(?=[.,]?[၀-၉୦-୯])|(?<=[၀-၉])(?P<seven>ရ)(?=[၀-၉]))"
)
#: Digits under a sign of an Indian kind; zeros alone that touch a word, where zero looks like a letter, anusvara or the
#: sign of abbreviation (डॉ०); Malayalam digits that look like chillus, and Tamil ones that look like letters.
_DIGIT_AS_LETTER = regex.compile(
    rf"(?=[{_DIGITS}])(?:[{_DIGITS}](?=\p{{M}})|[၀-၉](?={_CLOSED})"
    r"|(?<=[\p{L}\p{M}])(?:[०૦୦௦౦೦൦၀]++(?![.,:]?\p{Nd})|[൪൯௧-௯](?!\p{Nd}))"
    r"|(?<!\p{Nd}[.,:/-]?)(?:[၀୦]++(?=\p{L})(?!ရာခိုင်|ဒီဂရီ)|[௧-௯](?=\p{L})))"
)

_URL = r"(?:[\w.~:/?#@!$&*+,;=%-]|\([\w.~:/?#@!$&*+,;=%-]*+\))*+"
_HOST = r"[a-z0-9-]++(?:\.[a-z0-9-]++)++"
_TOP_LEVEL = "com|org|net|edu|gov|int|io|info|kh|mm|th|la|vn|jp|cn|in|bd|et|sa|ae|eg|uk|de|fr|eu"
_ADDRESS = regex.compile(
    rf"(?=[a-z0-9._%+-])(?<![a-z0-9._%+@-])(?:(?:(?:https?|ftp)://|www\.)(?=\w){_URL}|[a-z0-9._%+-]++@{_HOST}"
    rf"|{_HOST}(?<=\.(?:{_TOP_LEVEL}))(?:[/?#:]{_URL})?+)",
    regex.IGNORECASE | regex.ASCII,
)
_NAME = r"[\w.+-]++"
_EXTENSIONS = (
    "txt|pdf|docx?|xlsx?|pptx?|od[tspgfb]|csv|tsv|json|xml|html?|css|js|py|cpp|java|exe|dll|zip|tar|gz|rar|7z|iso|png"
    "|jpe?g|gif|svg|bmp|tiff?|webp|mp[34]|wav|avi|mkv|ini|cfg|conf|log|yaml|sql|bat|jar|apk|epub|rtf|tex"
)
_FILE = regex.compile(
    rf"(?=[\w~./-])(?<![\w.~/\\:@<-])(?:[a-z]:\\[\w.$~\\()-]*+|(?:(?:~|\.\.?)(?:/{_NAME})++|(?:/{_NAME}){{2,}}+)/?"
    rf"|[\w-]++(?:\.[\w-]++)*+(?<=\.(?:{_EXTENSIONS})))",
    regex.IGNORECASE | regex.ASCII,
)

_CLOCK = r"(?>[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]++)?)?)"
_DATE = regex.compile(
    r"(?=[0-9])(?<![0-9]|[0-9][-/.:,])"
    r"(?:[12][0-9]{3}([-/.])[01]?[0-9]\1[0-3]?[0-9]|[0-3]?[0-9]([-/.])[0-3]?[0-9]\2[0-9]{4})"
    rf"(?:T{_CLOCK}Z?)?+(?![0-9]|[-/.:][0-9])"
)
_TIME = regex.compile(rf"(?=[0-9])(?<![0-9\p{{Latin}}]|[0-9][:.,]){_CLOCK}(?:-{_CLOCK})?+(?![0-9:])")
#: Tens, units, then ፻ (100) or ፼ (10,000), and again; signs in another order are left alone.
_ETHIOPIC = r"(?<![0-9፩-፼])(?:[፲-፺]?+[፩-፱]?+[፻፼])*+[፲-፺]?+[፩-፱]?+(?<=[፩-፼])(?![0-9፩-፼])"
_NUMERAL = regex.compile("[፩-፼]+")
_AMOUNT = rf"(?:(?:[0-9]{{1,3}}(?: [0-9]{{3}}(?![0-9])){{1,4}}+|[0-9]++)(?:[.,'][0-9]++)*+|{_ETHIOPIC})"
_TERM = rf"[%\p{{Sc}}]?+{_AMOUNT}(?:[%\p{{Sc}}](?![0-9])| [%\p{{Sc}}](?! ?[0-9]))?+"
#: Amounts joined by signs: ranges, formulas, versions, ratios. Digits after Latin letters belong to their word (A4),
#: and a number before ² or ½ would not be the number that is meant.
_NUMBER = regex.compile(
    r"(?=[\p{Latin}\p{Sc}0-9፩-፼%.+-])(?:\p{Latin}\p{M}*+[-+_]?[0-9](?:[-.]?[\p{Latin}0-9])*+"
    rf"|(?P<number>(?:(?<![\p{{L}}\p{{M}}\p{{N}}.)%])[-+.])?+{_TERM}(?:[-+*/=:~^×x<>][-+]?{_TERM})*+)"
    rf"(?P<part>[¼-¾⅐-⅞²³¹⁰-⁹])?+(?P<glued>[-'._+/&°]?\p{{Latin}})?+)"
)
_MONTH_NAMES, _DAY_NAMES = (
    {name: english for english, names in table.items() for name in names.split("|")} for table in (MONTHS, WEEKDAYS)
)
_UNSPACED = r"(?:\p{Khmer}|\p{Thai}|\p{Lao}|\p{Myanmar}|\p{Han}|\p{Hiragana}|\p{Katakana})"
_ENDS = rf"(?:(?<={_UNSPACED})(?!\p{{M}}|{_CLOSED})|(?<!{_UNSPACED})(?![\p{{L}}\p{{M}}]))"
_GAP = r"[\s\u200b,./-]{0,2}"
#: A month stands at a number or at its language's word for month: the names alone mean other things too.
_CALENDAR = regex.compile(
    rf"(?:(?<=[0-9]{_GAP}|(?:ខែ|เดือน|ເດືອນ){_GAP})\L<months>{_ENDS}"
    rf"|\L<months>{_ENDS}(?=(?:\s?ወር)?{_GAP}[0-9]|\s?ወር)|\L<months>(?=လ(?!\p{{M}}|{_CLOSED}))"
    rf"|(?<!(?!{_UNSPACED})[\p{{L}}\p{{M}}])\L<days>{_ENDS})",
    months=list(_MONTH_NAMES),
    days=list(_DAY_NAMES),
)
_WORD = r"(?:\p{Latin}\p{M}*+|[0-9]++(?:,[0-9]++)*+|[₀-₉⁰-⁹²³¹_°])++"
_LATIN = regex.compile(
    rf"(?:(?<![\p{{L}}\p{{M}}\p{{N}}])[-+]?\p{{Sc}}?(?=[0-9]))?+{_WORD}(?:(?:[ '.+/&-]|(?<=\p{{Lu}})\. | & ){_WORD})*+"
    r"(?:\+\+|#)?+"
)
_LATIN_LETTERS = regex.compile(r"\p{Latin}++")
_SYLLABLES = regex.compile(r"[\p{Ethiopic}\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]++")
_OTHER_LETTERS = regex.compile(r"(?V1)[[\p{L}\p{M}]--[\p{Latin}\p{Inherited}]]++")


def find_literals(text: str, kinds: Collection[str] = LITERAL_KINDS) -> list[Literal]:
    """The literals of a passage, in order and disjoint: an address before a file, a date, a time, a number, Latin.

    Latin words are literals only where most letters are of other scripts: a Swahili passage passes none through. With
    them, digits in or before a Latin word (H1N1, 30km) are part of it; without, those before one are a number.

    Args:
        text: A passage; takes time linear in its length.
        kinds: Those wanted; the digits of an address are never a number, whether addresses are wanted or not.

    Raises:
        ValueError: If a kind is none of [`LITERAL_KINDS`].
    """
    if unknown := set(kinds) - set(LITERAL_KINDS):
        raise ValueError(f"Unknown kinds of literals {sorted(unknown)}: choose of {', '.join(LITERAL_KINDS)}.")
    found: list[Literal] = []
    rest = _take(found, "address", text, _trimmed(_ADDRESS, text))
    rest = _in_ascii(_take(found, "file", rest, _trimmed(_FILE, rest)))
    named = (match.span() for match in _CALENDAR.finditer(rest))
    rest = _take(found, "calendar", rest, named, (_MONTH_NAMES | _DAY_NAMES).__getitem__)
    with_words = "latin" in kinds and _mostly_not_latin(rest)
    for kind, pattern in (("date", _DATE), ("time", _TIME)):
        rest = _take(found, kind, rest, (match.span() for match in pattern.finditer(rest)))
    rest = _take(found, "number", rest, _numbers(rest, with_words))
    if with_words:
        words = (match.span() for match in _LATIN.finditer(rest) if _LATIN_LETTERS.search(match[0]))
        _take(found, "latin", rest, words)
    return sorted((literal for literal in found if literal.kind in kinds), key=lambda literal: literal.start)


def _take(
    found: list[Literal],
    kind: str,
    rest: str,
    spans: Iterable[tuple[int, int]],
    write: Callable[[str], str] | None = None,
) -> str:
    """Adds the literals of one kind, and gives back the rest with NUL in their places."""
    pieces, last = [], 0
    for start, end in spans:
        written = (write or _written)(rest[start:end])
        if max(end - start, len(written)) <= MAX_LITERAL_CHARS[kind]:
            found.append(Literal(start, end, written, kind))
            pieces += [rest[last:start], "\0" * (end - start)]
            last = end
    return "".join([*pieces, rest[last:]])


def _in_ascii(text: str) -> str:
    """Digits and signs of all scripts in ASCII, character by character; digits that are letters become letters."""
    text = _LETTER_AS_DIGIT.sub(lambda match: "7" if match["seven"] else "0" * len(match[0]), text)
    text = _DIGIT_AS_LETTER.sub(lambda match: "ဝ" * len(match[0]), text).translate(_SIGNS)
    text = regex.sub(r"\p{Nd}", lambda match: str(unicodedata.decimal(match[0], match[0])), text)
    return _BETWEEN_DIGITS.sub(lambda match: ":" if match["colon"] else ",", text)


def _mostly_not_latin(text: str) -> bool:
    """Whether more letters, vowel signs among them, are of other scripts than of Latin; a syllable counts as two."""
    counted = (_LATIN_LETTERS, _OTHER_LETTERS, _SYLLABLES)
    latin, others, syllables = (sum(map(len, letters.findall(text))) for letters in counted)
    return others + syllables > latin


def _trimmed(pattern: regex.Pattern, text: str) -> Iterator[tuple[int, int]]:
    """Matches without the sentence's own punctuation."""
    for match in pattern.finditer(text):
        yield match.start(), match.start() + len(match[0].rstrip(".,;:!?"))


def _numbers(text: str, with_words: bool) -> Iterator[tuple[int, int]]:
    for match in _NUMBER.finditer(text):
        start, end = match.span("number")
        if not match["number"] or match["part"]:
            continue
        if with_words and match["glued"]:  # it is the Latin word's, unless that cannot hold it: 50%-Klausel
            limit = start + MAX_LITERAL_CHARS["latin"]
            run = _LATIN.match(text, start, limit + 1)
            if run and end < run.end() <= limit:
                continue
        yield start, end


def _written(text: str) -> str:
    """× is a Latin letter, and Ethiopic numerals have another length, only once they are written."""
    return _NUMERAL.sub(lambda match: str(read_ethiopic(match[0])), text.replace("×", "x"))
