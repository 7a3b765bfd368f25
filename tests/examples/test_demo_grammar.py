"""The mechanism of the demo grammar: digits, sentence ends, slots and malformed templates."""

from __future__ import annotations

from random import Random

import pytest
from demo_corpus.grammar import (
    Choice,
    DemoCorpusError,
    Template,
    Word,
    arabic_digits,
    finish_english,
    finish_khmer,
    khmer_digits,
)
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 999_999))
def test_digits_go_to_khmer_and_back(number: int) -> None:
    for text in (str(number), f"{number:,}", f"{number / 10:.1f}"):
        assert arabic_digits(khmer_digits(text)) == text
        assert not any(digit in khmer_digits(text) for digit in "0123456789")


def test_sentence_ends() -> None:
    assert (
        finish_english("he left at 5 p.m.. she left at 6 a.m. on Monday.")
        == "He left at 5 p.m. She left at 6 a.m. on Monday."
    )
    assert finish_english("is it? the end") == "Is it? The end"
    assert finish_khmer("សុខា  ទៅ ។") == "សុខា ទៅ។"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t\nen: {x}.\nkm: x\nsum: x\npts: x\nq: What? It.", "uses the slot 'x'"),
        ("t\nen: a.\nkm: x\nsum: x\npts: x", "at least one q line"),
        ("t\nen: a.\nen: b.\nkm: x\nsum: x\npts: x\nq: What? It.", "once each"),
        ("t\nen: a.\nkm: x\nsum: x\npts: x\nq: It.", "Question"),
        ("t\nnote: a.", "none of the labels"),
    ],
)
def test_malformed_templates_are_refused(text: str, message: str) -> None:
    with pytest.raises(DemoCorpusError, match=message):
        Template(text)


def test_slots_that_cannot_differ_are_refused() -> None:
    same = Choice.of([Word("cow", "គោ", key="cow")])
    template = Template("t\nen: {a} {b}.\nkm: {a}{b}\nsum: x\npts: x\nq: What? It.", a=same, b=same)
    assert template.size == 1
    with pytest.raises(DemoCorpusError, match="different things"):
        template.sample(Random(0))
    with pytest.raises(DemoCorpusError, match="at least one word"):
        Choice.of([])
