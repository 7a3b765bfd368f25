"""Writing systems: which script a language is written in, and what is usual and what is spelling in each script.

A row of [`SCRIPTS`] is all that the cleaning of parallel text knows about a script. Ratio limits of Khmer, Burmese,
Ethiopic and Japanese are measured: the 0.1 % and 99.9 % percentiles of foreign characters per English character in
clean corpora (TICO-19, WMT 2020 Khmer Wikipedia, Tanaka), halved and doubled; the other rows are set wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors_llink import LlinkConfigError

ZERO_WIDTH_SPACE = "\u200b"
JOINERS = "\u200c\u200d\u180e"

_MANY = (3, 1000)
_FEW = (2, 500)
_WIDE = (0.2, 5.0)


@dataclass(frozen=True)
class Script:
    """A writing system.

    Args:
        name: English name.
        characters: Its characters, as the inside of a regular expression's character class.
        length: Fewest and most characters of a sentence that is worth training on.
        ratio: Fewest and most characters of it per English character; see [`length_ratio`].
        word_breaks: Whether U+200B, the zero-width space, separates words, as spaces do elsewhere.
        joiners: Where U+200C and U+200D (in Mongolian U+180E) are spelling: pairs of insides of character classes, for
            the character before and the one after; an empty one stands for anything, the end of the text too.
    """

    name: str
    characters: str
    length: tuple[int, int] = _MANY
    ratio: tuple[float, float] = _WIDE
    word_breaks: bool = False
    joiners: tuple[tuple[str, str], ...] = ()


def _joining(name: str, characters: str, virama: str | None = None) -> Script:
    """A script in which a joiner between any two of its characters is spelling, and after a virama at a word's end."""
    final = () if virama is None else ((virama, ""),)
    return Script(name, characters, joiners=((characters, characters), *final))


_KHMER = r"\u1780-\u17ff\u19e0-\u19ff"
_BURMESE = r"\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"
_MONGOLIAN = r"\u1800-\u18af"
_KANA = r"\u3041-\u3096\u309d-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_HAN = r"\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HANGUL = r"\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff"

#: ISO 15924 code → row.
SCRIPTS: dict[str, Script] = {
    "Latn": Script("Latin", r"A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"),
    "Cyrl": Script("Cyrillic", r"\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f"),
    "Grek": Script("Greek", r"\u0370-\u03ff\u1f00-\u1fff"),
    "Armn": Script("Armenian", r"\u0531-\u058f\ufb13-\ufb17"),
    "Geor": Script("Georgian", r"\u10a0-\u10ff\u1c90-\u1cbf\u2d00-\u2d2f"),
    "Hebr": Script("Hebrew", r"\u0591-\u05f4\ufb1d-\ufb4f"),
    "Arab": _joining("Arabic", r"\u0620-\u06ff\u0750-\u077f\u0870-\u08ff\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc"),
    "Syrc": _joining("Syriac", r"\u0700-\u074f\u0860-\u086f"),
    "Thaa": Script("Thaana", r"\u0780-\u07bf"),
    "Nkoo": Script("N'Ko", r"\u07c0-\u07ff"),
    "Deva": _joining("Devanagari", r"\u0900-\u097f\ua8e0-\ua8ff", r"\u094d"),
    "Beng": _joining("Bengali", r"\u0980-\u09ff", r"\u09cd"),
    "Guru": _joining("Gurmukhi", r"\u0a00-\u0a7f", r"\u0a4d"),
    "Gujr": _joining("Gujarati", r"\u0a80-\u0aff", r"\u0acd"),
    "Orya": _joining("Odia", r"\u0b00-\u0b7f", r"\u0b4d"),
    "Taml": _joining("Tamil", r"\u0b80-\u0bff", r"\u0bcd"),
    "Telu": _joining("Telugu", r"\u0c00-\u0c7f", r"\u0c4d"),
    "Knda": _joining("Kannada", r"\u0c80-\u0cff", r"\u0ccd"),
    "Mlym": _joining("Malayalam", r"\u0d00-\u0d7f", r"\u0d4d"),
    "Sinh": _joining("Sinhala", r"\u0d80-\u0dff", r"\u0dca"),
    "Thai": Script("Thai", r"\u0e01-\u0e3a\u0e40-\u0e5b", word_breaks=True),
    "Laoo": Script("Lao", r"\u0e80-\u0eff", word_breaks=True),
    "Tibt": Script("Tibetan", r"\u0f00-\u0fff"),
    # A joiner of a virama shows it as the sign it is (the spelling of before Unicode 5.1); elsewhere it has no use.
    "Mymr": Script("Burmese", _BURMESE, ratio=(0.35, 4.6), word_breaks=True, joiners=((r"\u1039", ""),)),
    # The standard's syllable has a joiner before a vowel sign or register shifter only, to keep the shifter's shape.
    "Khmr": Script(
        "Khmer", _KHMER, ratio=(0.2, 4.0), word_breaks=True, joiners=((_KHMER, r"\u17b6-\u17c5\u17c9\u17ca"),)
    ),
    "Lana": Script("Tai Tham", r"\u1a20-\u1aaf", word_breaks=True),
    "Mong": _joining("Mongolian", _MONGOLIAN),
    "Ethi": Script("Ethiopic", r"\u1200-\u139f\u2d80-\u2ddf\uab01-\uab2f", ratio=(0.2, 2.6)),
    "Cher": Script("Cherokee", r"\u13a0-\u13ff\uab70-\uabbf"),
    "Cans": Script("Canadian syllabics", r"\u1400-\u167f\u18b0-\u18ff"),
    "Tfng": Script("Tifinagh", r"\u2d30-\u2d7f"),
    "Olck": Script("Ol Chiki", r"\u1c50-\u1c7f"),
    "Hani": Script("Chinese", _HAN + r"\u3105-\u312f", length=_FEW, ratio=(0.08, 2.0)),
    "Jpan": Script("Japanese", _HAN + _KANA, length=_FEW, ratio=(0.1, 2.2)),
    "Kore": Script("Korean", _HANGUL + _HAN, length=_FEW, ratio=(0.1, 2.5)),
}

#: Scripts in which no spaces stand between words.
SPACELESS = frozenset(code for code, row in SCRIPTS.items() if row.word_breaks) | {"Hani", "Jpan", "Tibt"}

_LATIN = (
    "af az bs ca ceb cs cy da de en es et eu fi fil fr ga gl ha hr ht hu id ig ilo is it jv kea ku la lb lg ln lt lv "
    "mg mi ms mt nb nl nn no ny oc om pl pt qu ro rw sk sl sm sn so sq st su sv sw tk tl tn tr ts uz vi wo xh yo zu"
)
_OTHERS = {
    "Cyrl": "be bg kk ky mk mn ru sr tg tt uk",
    "Arab": "ar ckb fa ks ps sd ug ur",
    "Deva": "bho hi mai mr ne sa",
    "Beng": "as bn",
    "Ethi": "am ti",
    "Hani": "yue zh",
    "Hebr": "he yi",
    "Mymr": "my shn",
    **{"Armn": "hy", "Cans": "iu", "Cher": "chr", "Geor": "ka", "Grek": "el", "Gujr": "gu", "Guru": "pa"},
    **{"Jpan": "ja", "Khmr": "km", "Knda": "kn", "Kore": "ko", "Lana": "nod", "Laoo": "lo", "Mlym": "ml"},
    **{"Nkoo": "nqo", "Olck": "sat", "Orya": "or", "Sinh": "si", "Syrc": "syr", "Taml": "ta", "Telu": "te"},
    **{"Tfng": "zgh", "Thaa": "dv", "Thai": "th", "Tibt": "bo dz"},
}

_THREE_LETTERS = """
afr af amh am ara ar asm as aze az bel be bul bg ben bn bod bo tib bo bos bs cat ca ces cs cze cs cym cy wel cy dan da
deu de ger de div dv dzo dz ell el gre el eng en spa es est et eus eu baq eu fas fa per fa fin fi fra fr fre fr gle ga
glg gl guj gu hau ha heb he hin hi hrv hr hat ht hun hu hye hy arm hy ind id ibo ig isl is ice is ita it iku iu jpn ja
jav jv kat ka geo ka kaz kk khm km kan kn kor ko kas ks kur ku kir ky lat la ltz lb lug lg lin ln lao lo lit lt lav lv
mlg mg mri mi mao mi mkd mk mac mk mal ml mon mn mar mr msa ms may ms mlt mt mya my bur my nob nb nep ne nld nl dut nl
nno nn nor no nya ny oci oc orm om ori or pan pa pol pl pus ps por pt que qu ron ro rum ro rus ru kin rw san sa snd sd
sin si slk sk slo sk slv sl smo sm sna sn som so sqi sq alb sq srp sr sot st sun su swe sv swa sw tam ta tel te tgk tg
tha th tir ti tuk tk tgl tl tsn tn tur tr tso ts tat tt uig ug ukr uk urd ur uzb uz vie vi wol wo xho xh yid yi yor yo
zho zh chi zh zul zu
"""
#: Code of three letters (ISO 639-2, both of its kinds) → the one of two, which tags prefer.
_SHORT = dict(zip(_THREE_LETTERS.split()[::2], _THREE_LETTERS.split()[1::2], strict=True))
#: Language (ISO 639) → the script that it is mostly written in.
LANGUAGE_SCRIPTS: dict[str, str] = {
    language: code for code, languages in {"Latn": _LATIN, **_OTHERS}.items() for language in languages.split()
}
#: Other codes of scripts → the key in [`SCRIPTS`].
REGION_SCRIPTS = {"Hans": "Hani", "Hant": "Hani", "Hira": "Jpan", "Kana": "Jpan", "Hang": "Kore"}


def script_code(language: str, script: str | None = None) -> str:
    """The key in [`SCRIPTS`] for a language.

    Args:
        language: BCP-47 tag; a script in it (`sr-Latn`) stands above the language's usual one.
        script: ISO 15924 code that stands above both.

    Raises:
        LlinkConfigError: If llink has no row for the script, or does not know the language's.
    """
    subtags = [script] if script else language.replace("_", "-").split("-")[1:]
    for subtag in subtags:
        code = subtag.title()
        code = REGION_SCRIPTS.get(code, code)
        if code in SCRIPTS:
            return code
        if script or len(subtag) == 4:
            raise LlinkConfigError(f"There is no script {subtag!r}; those that llink knows are {', '.join(SCRIPTS)}.")
    try:
        return LANGUAGE_SCRIPTS[primary_language(language)]
    except KeyError:
        raise LlinkConfigError(
            f"llink does not know which script {language!r} is written in; write it into the tag ({language}-Latn), "
            f"or, of the foreign side, give --script, one of {', '.join(SCRIPTS)}."
        ) from None


def length_ratio(foreign: str, target: str | None = None) -> tuple[float, float]:
    """Fewest and most foreign characters per target character, by the keys of two scripts; of English for None.

    Limits of a pair of scripts are those of each over English, as two spreads around their means that know nothing of
    each other: wider than either, narrower than both extremes at once. Khmer over Amharic is 0.17 to 8.9; measured in
    TICO-19 are 0.79 to 2.77 (the 0.1 % and 99.9 % percentiles).
    """
    if target is None:
        return SCRIPTS[foreign].ratio
    (mean, spread), (own_mean, own_spread) = (
        (math.log(low * high) / 2, math.log(high / low) / 2) for low, high in map(length_ratio, (foreign, target))
    )
    width = math.hypot(spread, own_spread)
    return math.exp(mean - own_mean - width), math.exp(mean - own_mean + width)


def word_count(text: str, script: str) -> int:
    """Words of a text; where no spaces separate them, how many English words (of six characters) are as long."""
    if script not in SPACELESS:
        return len(text.split())
    return round(len(text) / (6 * math.sqrt(math.prod(SCRIPTS[script].ratio))))


def primary_language(tag: str) -> str:
    """The language of a tag alone, in lower case, and in two letters where it has such: `EN_gb` and `eng` → `en`."""
    language = tag.replace("_", "-").partition("-")[0].lower()
    return _SHORT.get(language, language)
