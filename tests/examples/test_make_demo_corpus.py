"""The maker of the demo corpus: it makes the shipped file byte for byte; its grammar; the dialogues made from it."""

from __future__ import annotations

import hashlib
import json
import lzma
import re

import pytest
from demo_corpus.chat import CHAT
from demo_corpus.corpus import MAX_PAIRS, TEMPLATES, generate_pairs
from demo_corpus.dialogues import english_instruction_dialogues
from demo_corpus.grammar import Choice, DemoCorpusError, Template, Word
from hypothesis import given, settings
from hypothesis import strategies as st
from make_demo_corpus import corpus_lines

from llink.data.demo_corpus import CORPUS_FILE, PHRASINGS, PLACEHOLDER, DemoPair, demo_pairs, demo_splits
from llink.errors_llink import LlinkConfigError

KHMER = re.compile(r"[\u1780-\u17ff]")


@pytest.fixture(scope="module")
def pairs() -> list[DemoPair]:
    return demo_pairs(4000)


@pytest.mark.slow
def test_the_maker_makes_the_shipped_file() -> None:
    """What is compressed is compared: releases of xz need not pack it alike."""
    assert hashlib.sha256(corpus_lines()).digest() == hashlib.sha256(lzma.decompress(CORPUS_FILE.read_bytes())).digest()


def test_dialogues_are_what_the_embedded_decoder_learnt() -> None:
    dialogues = english_instruction_dialogues(demo_splits()["train"])
    digest = hashlib.sha256(json.dumps(dialogues, ensure_ascii=False).encode()).hexdigest()
    assert digest.startswith("051bf0173642bac23cd691c577483a5c")


def test_every_word_of_every_slot_has_the_forms_its_template_asks_for() -> None:
    for template in TEMPLATES:
        longest = max(len(choice.words) for choice in template.slots.values())
        for index in range(longest):
            filled = {name: choice.words[index % len(choice.words)] for name, choice in template.slots.items()}
            texts = [template.english(filled), template.summary(filled), *template.parts(filled)]
            texts += [text for fact in template.facts(filled).items() for text in fact]
            assert not any("{" in text or "}" in text or KHMER.search(text) for text in texts), template.name
            assert not re.search(r"[A-Za-z{}]", template.khmer(filled)), template.name


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 300), more=st.integers(0, 100))
def test_fewer_pairs_are_a_prefix_and_seeds_differ(seed: int, count: int, more: int) -> None:
    fewer = generate_pairs(count, seed)
    assert len(fewer) == count
    assert generate_pairs(count + more, seed)[:count] == fewer
    if count > 20:
        assert [pair.english for pair in generate_pairs(count, seed + 1)] != [pair.english for pair in fewer]


@pytest.mark.parametrize("count", [-1, MAX_PAIRS + 1])
def test_an_impossible_count_is_refused(count: int) -> None:
    with pytest.raises(DemoCorpusError, match=f"count is {count}.*{MAX_PAIRS}"):
        generate_pairs(count)


def test_a_grammar_that_runs_out_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Template(
        "small\nen: The {a} is here today.\nkm: {a}នៅទីនេះថ្ងៃនេះ។\nsum: x.\npts: x\nq: What? It.",
        a=Choice.of([Word("cow", "គោ"), Word("duck", "ទា")]),
    )
    monkeypatch.setattr("demo_corpus.corpus.TEMPLATES", (small,))
    assert len(generate_pairs(2)) == 2
    with pytest.raises(DemoCorpusError, match="ran out after 2 of 3 pairs"):
        generate_pairs(3)


def test_the_english_vocabulary_stays_small(pairs: list[DemoPair]) -> None:
    dialogues = english_instruction_dialogues(pairs)
    types = {
        word for row in dialogues for word in re.findall(r"[a-z]+", (row["prompt"] + " " + row["completion"]).lower())
    }
    assert 500 < len(types) <= 900


def test_dialogues_hold_english_only_and_carry_the_text(pairs: list[DemoPair]) -> None:
    rows = english_instruction_dialogues(pairs, seed=6)
    english, chat = {pair["english"] for pair in pairs}, set(CHAT)
    copies = small_talk = 0
    for row in rows:
        assert set(row) == {"prompt", "completion"}
        assert not KHMER.search(row["prompt"] + row["completion"])
        assert PLACEHOLDER not in row["prompt"]
        if (row["prompt"], row["completion"]) in chat:
            small_talk += 1
            continue
        instruction, text = row["prompt"].split("\n")
        assert text in english
        if instruction in PHRASINGS["translate_to_english"]:
            assert row["completion"] == text
        copies += row["completion"] == text
    assert len(rows) == len(pairs) + small_talk
    assert small_talk > 0.02 * len(pairs)
    assert copies > 0.4 * len(pairs)
    with pytest.raises(LlinkConfigError, match="per_pair is 13"):
        english_instruction_dialogues(pairs[:2], per_pair=13)
