"""The target side: what its column is called, which language it is in, and what asks for a translation into it.

The language that the decoder answers in is English unless rows say otherwise, in a column `target_language` beside
`language`, that of the foreign side. Their column `target` is then what `english` is elsewhere; both names are accepted
wherever pairs and instruction rows are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from ..errors_llink import LlinkConfigError
from .scripts import LANGUAGE_SCRIPTS, REGION_SCRIPTS, SCRIPTS, primary_language

ENGLISH = "en"
TARGET_LANGUAGE = "target_language"
#: Task → its name where the answer is not English.
ANY_LANGUAGE = {"translate_to_english": "translate", "summarize_in_english": "summarize"}

_NAMES = """
af Afrikaans, am Amharic, ar Arabic, as Assamese, az Azerbaijani, be Belarusian, bg Bulgarian, bho Bhojpuri, bn Bengali,
bo Tibetan, bs Bosnian, ca Catalan, ceb Cebuano, chr Cherokee, ckb Central Kurdish, cs Czech, cy Welsh, da Danish,
de German, dv Dhivehi, dz Dzongkha, el Greek, en English, es Spanish, et Estonian, eu Basque, fa Persian, fi Finnish,
fil Filipino, fr French, ga Irish, gl Galician, gu Gujarati, ha Hausa, he Hebrew, hi Hindi, hr Croatian,
ht Haitian Creole, hu Hungarian, hy Armenian, id Indonesian, ig Igbo, ilo Ilocano, is Icelandic, it Italian,
iu Inuktitut, ja Japanese, jv Javanese, ka Georgian, kea Kabuverdianu, kk Kazakh, km Khmer, kn Kannada, ko Korean,
ks Kashmiri, ku Kurdish, ky Kyrgyz, la Latin, lb Luxembourgish, lg Luganda, ln Lingala, lo Lao, lt Lithuanian,
lv Latvian, mai Maithili, mg Malagasy, mi Maori, mk Macedonian, ml Malayalam, mn Mongolian, mr Marathi, ms Malay,
mt Maltese, my Burmese, nb Norwegian Bokmål, ne Nepali, nl Dutch, nn Norwegian Nynorsk, no Norwegian, nod Northern Thai,
nqo N'Ko, ny Chichewa, oc Occitan, om Oromo, or Odia, pa Punjabi, pl Polish, ps Pashto, pt Portuguese, qu Quechua,
ro Romanian, ru Russian, rw Kinyarwanda, sa Sanskrit, sat Santali, sd Sindhi, shn Shan, si Sinhala, sk Slovak,
sl Slovenian, sm Samoan, sn Shona, so Somali, sq Albanian, sr Serbian, st Southern Sotho, su Sundanese, sv Swedish,
sw Swahili, syr Syriac, ta Tamil, te Telugu, tg Tajik, th Thai, ti Tigrinya, tk Turkmen, tl Tagalog, tn Tswana,
tr Turkish, ts Tsonga, tt Tatar, ug Uyghur, uk Ukrainian, ur Urdu, uz Uzbek, vi Vietnamese, wo Wolof, xh Xhosa,
yi Yiddish, yo Yoruba, yue Cantonese, zgh Tamazight, zh Chinese, zu Zulu
"""
#: Language (ISO 639) → its English name; of every language whose script is known.
LANGUAGE_NAMES: dict[str, str] = dict(
    tuple(entry.strip().split(" ", 1))
    for entry in _NAMES.split(",")  # type: ignore[misc]
)
#: A language of two or three letters, and what follows it.
_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")


def is_english(language: str) -> bool:
    """Whether a tag is of English, of any region."""
    return primary_language(language) == ENGLISH


def language_of(row: Mapping[str, Any]) -> str:
    """Tag of a row's target side; English where it does not say."""
    return row.get(TARGET_LANGUAGE) or ENGLISH


def language_name(language: str) -> str:
    """The English name of a language, by its BCP-47 tag.

    Raises:
        LlinkConfigError: If llink does not know it.
    """
    try:
        return LANGUAGE_NAMES[primary_language(language)]
    except KeyError:
        raise LlinkConfigError(
            f"llink knows no English name of the language {language!r}, which instructions say; it knows those of "
            f"{', '.join(LANGUAGE_NAMES)}. Give one of these, or write the instructions yourself "
            "(translation_instructions(pairs, prompt=…))."
        ) from None


def language_tag(given: str) -> str:
    """The BCP-47 tag that is meant: by itself, in three letters (khm), by a name (Khmer), or by its script (Khmr).

    Raises:
        LlinkConfigError: If it is none of them, or several languages are written in the script.
    """
    named = {name.casefold(): code for code, name in LANGUAGE_NAMES.items()}
    if given.casefold() in named:
        return named[given.casefold()]
    script = REGION_SCRIPTS.get(given.title(), given.title())
    if script not in SCRIPTS:
        if not _TAG.fullmatch(given):
            near = difflib.get_close_matches(given.title(), LANGUAGE_NAMES.values(), n=1)
            raise LlinkConfigError(
                f"{given!r} is no language: give a BCP-47 tag, such as km or zh-Hant, or one of the English names that "
                f"llink knows{f' ({near[0]}?)' if near else ''}."
            )
        first, mark, rest = given.partition("-")
        return f"{primary_language(first)}{mark}{rest}" if len(first) == 3 else given  # khm is km
    written = [language for language, code in LANGUAGE_SCRIPTS.items() if code == script]
    if len(written) != 1:
        raise LlinkConfigError(
            f"{given!r} is a script, in which {', '.join(written) or 'several languages'} are written: give one of "
            "these languages."
        )
    return written[0]


def translation_prompt(language: str = ENGLISH) -> str:
    """The instruction that asks for a translation: `Translate to Khmer.`

    Raises:
        LlinkConfigError: As [`language_name`].
    """
    return f"Translate to {language_name(language)}."


def task_in(language: str, task: str) -> str:
    """What rows call a task whose answers are in a language."""
    return task if is_english(language) else ANY_LANGUAGE.get(task, task)
