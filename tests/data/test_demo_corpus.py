"""The embedded demo corpus: distinct, right, balanced, and what it always was."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from decimal import Decimal

import pytest
from demo_corpus.grammar import KHMER_DIGITS, arabic_digits
from hypothesis import given, settings
from hypothesis import strategies as st

from llink.data.characters import sentence_keys
from llink.data.demo_corpus import (
    PHRASINGS,
    PLACEHOLDER,
    SIZES,
    TASK_MIX,
    DemoPair,
    demo_pairs,
    demo_splits,
    generate_instructions,
)
from llink.errors_llink import LlinkConfigError

KHMER = re.compile(r"[\u1780-\u17ff]")
ENGLISH_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?")
KHMER_NUMBER = re.compile(
    f"[{KHMER_DIGITS}]{{1,3}}(?:\\.[{KHMER_DIGITS}]{{3}})+|[{KHMER_DIGITS}]+(?:,[{KHMER_DIGITS}]+)?"
)


def english_numbers(text: str) -> Counter[Decimal]:
    """Numbers written the English way: 4,000 and 37.5."""
    return Counter(Decimal(number.replace(",", "")) for number in ENGLISH_NUMBER.findall(text))


def khmer_numbers(text: str) -> Counter[Decimal]:
    """Numbers of a Khmer sentence, in either kind of digits."""
    khmer = [number.replace(".", "").replace(",", ".") for number in KHMER_NUMBER.findall(text)]
    return Counter(Decimal(number) for number in khmer) + english_numbers(re.sub(f"[{KHMER_DIGITS}]", " ", text))


@pytest.fixture(scope="module")
def pairs() -> list[DemoPair]:
    return demo_pairs(4000)


def words(text: str) -> list[str]:
    """Words in lower case, without marks."""
    return re.findall(r"[a-z]+", text.lower())


# -- pairs --


#: SHA-256 of each split's pairs with all they know, and of the instructions about them: models were trained on these.
DIGESTS = {
    "test": ("e610be1209bbeee2", "f90d676094e73f4f"),
    "dev": ("1c2217d5dc9ab6b2", "dab96c75a6bc1d0d"),
    "train": ("04f3f0eef1382745", "7204f4f55d4019de"),
}


def digest(rows: list) -> str:
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()[:16]


def test_splits_and_instructions_are_what_they_always_were() -> None:
    splits = demo_splits()
    assert {name: len(pairs) for name, pairs in splits.items()} == SIZES
    for name, pairs in splits.items():
        whole = [[dict(pair), pair.template, pair.facts, pair.parts, pair.summary] for pair in pairs]
        assert (digest(whole), digest(generate_instructions(pairs))) == DIGESTS[name], name


def test_fewer_pairs_are_the_first_of_more() -> None:
    assert demo_pairs(40) == demo_pairs(400)[:40]
    assert demo_pairs(0) == []


@pytest.mark.parametrize("count", [-1, sum(SIZES.values()) + 1])
def test_an_impossible_count_is_refused(count: int) -> None:
    with pytest.raises(LlinkConfigError, match=f"count is {count}.*{sum(SIZES.values())}"):
        demo_pairs(count)


def test_the_map_is_one_to_one(pairs: list[DemoPair]) -> None:
    assert len({pair["english"] for pair in pairs}) == len(pairs)
    assert len({pair["foreign"] for pair in pairs}) == len(pairs)
    assert len({arabic_digits(pair["foreign"]) for pair in pairs}) == len(pairs), "two spellings of one sentence"
    assert len({pair["id"] for pair in pairs}) == len(pairs)


def test_a_row_has_the_columns_of_every_corpus(pairs: list[DemoPair]) -> None:
    assert all(set(pair) == {"id", "english", "foreign", "language"} and pair["language"] == "km" for pair in pairs)
    assert pairs[0].english == pairs[0]["english"]
    assert pairs[0].foreign == pairs[0]["foreign"]


def test_templates_are_all_reached_and_balanced(pairs: list[DemoPair]) -> None:
    counts = Counter(pair.template for pair in pairs)
    assert len(counts) >= 80
    assert set(counts) == {pair.template for pair in demo_pairs()}
    assert max(counts.values()) <= min(counts.values()) + 1


def test_numbers_agree_between_the_sides(pairs: list[DemoPair]) -> None:
    with_numbers = 0
    for pair in pairs:
        # Months, weekdays and halves of the day are words on both sides, so every digit on one side is on the other.
        assert english_numbers(pair.english) == khmer_numbers(pair.foreign), pair
        with_numbers += bool(khmer_numbers(pair.foreign))
    assert with_numbers > len(pairs) / 2, "vacuous unless most sentences hold numbers"


def test_both_kinds_of_digits_occur_but_never_in_one_sentence(pairs: list[DemoPair]) -> None:
    kinds = Counter()
    for pair in pairs:
        khmer, arabic = any(digit in pair.foreign for digit in KHMER_DIGITS), bool(re.search(r"[0-9]", pair.foreign))
        assert not (khmer and arabic)
        kinds[khmer, arabic] += 1
    assert kinds[True, False] > kinds[False, True] > 0.2 * len(pairs)


def test_sentences_are_well_formed(pairs: list[DemoPair]) -> None:
    for pair in pairs:
        english, khmer = pair.english, pair.foreign
        assert 12 <= len(khmer) <= 256
        assert 4 <= len(english.split()) <= 30
        assert english[0].isupper() or english[0].isdigit()
        assert not KHMER.search(english)
        assert not re.search(r"[A-Za-z]", khmer)
        assert english[-1] in ".?"
        assert khmer[-1] == {".": "។", "?": "?"}[english[-1]]
        assert not re.search(r"\s\s|\s[.?។,]|\.\.|[{}|]", english + khmer)
        assert not re.search(r"\ba (?=[aeio])|\ban (?=[^aeio])", english), english
        assert khmer == khmer.strip()
        assert "\u200b" not in khmer


def test_khmer_marks_are_in_order(pairs: list[DemoPair]) -> None:
    # A coeng must stand between letters, and a dependent vowel or sign must follow a letter.
    for pair in pairs:
        assert not re.search("\u17d2(?![\u1780-\u17a2])|(?<![\u1780-\u17b3])\u17d2", pair.foreign), pair
        assert not re.search("(?:^|[ \u17d4])[\u17b6-\u17d1\u17dd]", pair.foreign), pair
        assert not re.search("[\u17b6-\u17c5]{2}", pair.foreign), pair


def test_numbers_are_mostly_short(pairs: list[DemoPair]) -> None:
    digits = Counter(
        len(number.replace(",", "").split(".")[0]) for pair in pairs for number in ENGLISH_NUMBER.findall(pair.english)
    )
    assert sum(digits[length] for length in (1, 2, 3)) > 0.9 * sum(digits.values())
    assert max(digits) == 5


def test_some_texts_are_passages_questions_and_negatives(pairs: list[DemoPair]) -> None:
    assert sum(pair.foreign.count("។") == 2 for pair in pairs) > 0.05 * len(pairs)
    assert sum(pair.foreign.endswith("?") for pair in pairs) > 0.05 * len(pairs)
    assert sum(bool(re.search(r"\bnot\b|\bno\b", pair.english)) for pair in pairs) > 0.05 * len(pairs)


# -- facts, parts, summaries --


def test_material_says_nothing_that_the_text_does_not_say(pairs: list[DemoPair]) -> None:
    for pair in pairs:
        numbers = english_numbers(pair.english)
        texts = [pair.summary, *pair.parts, *pair.facts, *pair.facts.values()]
        for text in texts:
            assert set(english_numbers(text)) <= set(numbers), (pair, text)
        # Names of people and places are in capitals; none may come from elsewhere.
        names = set(re.findall(r"[A-Z]\w+", pair.english))
        for text in (pair.summary, *pair.parts, *pair.facts.values()):
            tail = " ".join(text.split()[1:])
            assert set(re.findall(r"[A-Z]\w+", tail)) <= names, (pair, text)


def test_material_is_well_formed(pairs: list[DemoPair]) -> None:
    for pair in pairs:
        assert len(pair.facts) >= 2
        assert len(pair.parts) >= 2
        assert pair.summary.endswith(".")
        assert len(pair.summary.split()) <= len(pair.english.split()) + 1
        assert all(question.endswith("?") and answer.endswith(".") for question, answer in pair.facts.items())
        assert not any(part.endswith(".") and not part.endswith(".m.") for part in pair.parts)
        for text in (pair.summary, *pair.parts, *pair.facts, *pair.facts.values()):
            assert text
            assert text[0].isupper() or text[0] in "$0123456789"
            assert "\n" not in text
            assert not re.search(r"\s\s|\.\.|[{}|\0]", text)


def test_all_numbers_of_a_text_are_in_its_points(pairs: list[DemoPair]) -> None:
    for pair in pairs:
        assert set(english_numbers(" ".join(pair.parts))) == set(english_numbers(pair.english)), pair


# -- instructions and dialogues --


def test_instructions_have_the_columns_and_layout(pairs: list[DemoPair]) -> None:
    rows = generate_instructions(pairs, seed=1)
    assert len(rows) == len(pairs)
    for pair, row in zip(pairs, rows, strict=True):
        assert set(row) == {"id", "foreign", "prompt", "completion", "task", "english"}
        assert (row["foreign"], row["english"]) == (pair["foreign"], pair["english"])
        assert row["prompt"].count(PLACEHOLDER) == 1
        assert row["prompt"].endswith("\n" + PLACEHOLDER)
        assert row["completion"]
        assert not KHMER.search(row["prompt"] + row["completion"])
    assert len({row["id"] for row in rows}) == len(rows)


def test_the_task_mix_is_kept(pairs: list[DemoPair]) -> None:
    counts = Counter(row["task"] for row in generate_instructions(pairs, seed=2))
    for task, share in TASK_MIX.items():
        assert counts[task] / len(pairs) == pytest.approx(share, abs=0.04)
    only = generate_instructions(pairs[:50], mix={"bullet_pointify": 1.0})
    assert {row["task"] for row in only} == {"bullet_pointify"}


def test_each_task_answers_from_the_pair(pairs: list[DemoPair]) -> None:
    by_id = {pair["id"]: pair for pair in pairs}
    for row in generate_instructions(pairs, seed=4, per_pair=3):
        pair = by_id[row["id"].rsplit("-", 1)[0]]
        instruction = row["prompt"].removesuffix("\n" + PLACEHOLDER)
        match row["task"]:
            case "translate_to_english":
                assert instruction in PHRASINGS[row["task"]]
                assert row["completion"] == pair.english
            case "summarize_in_english":
                assert instruction in PHRASINGS[row["task"]]
                assert row["completion"] == pair.summary
            case "bullet_pointify":
                assert instruction in PHRASINGS[row["task"]]
                assert row["completion"].splitlines() == [f"- {part}" for part in pair.parts]
            case "qa_about_text":
                asked = [question for question in pair.facts if instruction.endswith(question)]
                assert row["completion"] in [pair.facts[question] for question in asked]
        assert set(english_numbers(row["completion"])) <= set(english_numbers(pair.english))


def test_the_default_prompt_is_the_most_frequent(pairs: list[DemoPair]) -> None:
    assert all(len(phrasings) >= 5 for phrasings in PHRASINGS.values())
    rows = generate_instructions(pairs, seed=5)
    prompts = Counter(row["prompt"] for row in rows if row["task"] == "translate_to_english")
    assert prompts.most_common(1)[0][0] == f"Translate to English.\n{PLACEHOLDER}"
    assert len(prompts) == len(PHRASINGS["translate_to_english"])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), per_pair=st.integers(1, 12))
def test_instructions_of_one_pair_differ(seed: int, per_pair: int) -> None:
    few = demo_pairs(6)
    rows = generate_instructions(few, seed, per_pair)
    assert len(rows) == 6 * per_pair
    assert len({(row["foreign"], row["prompt"]) for row in rows}) == len(rows)


def test_bad_mixes_and_sizes_are_refused(pairs: list[DemoPair]) -> None:
    for mix in ({"sing": 1.0}, {"qa_about_text": 0.0}, {"qa_about_text": -1.0, "bullet_pointify": 2.0}):
        with pytest.raises(LlinkConfigError, match="mix is"):
            generate_instructions(pairs[:2], mix=mix)
    for per_pair in (0, 13):
        with pytest.raises(LlinkConfigError, match=f"per_pair is {per_pair}"):
            generate_instructions(pairs[:2], per_pair=per_pair)
    with pytest.raises(LlinkConfigError, match="different instructions"):
        generate_instructions(pairs[:2], per_pair=12, mix={"translate_to_english": 1.0})


# -- splits and sides --


def test_splits_share_no_sentence() -> None:
    splits = demo_splits()
    for side in ("english", "foreign"):
        keys = {name: set(sentence_keys([pair[side] for pair in pairs]).tolist()) for name, pairs in splits.items()}
        assert len(set.union(*keys.values())) == sum(SIZES.values()), "no sentence stands in two pairs, either"


def test_a_split_has_words_of_the_other_in_new_combinations() -> None:
    splits = demo_splits()
    known = {word for pair in splits["train"] for word in words(pair.english)}
    unseen = [pair for pair in splits["test"] if not set(words(pair.english)) <= known]
    assert len(unseen) <= 5
