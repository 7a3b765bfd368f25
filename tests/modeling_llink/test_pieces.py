"""Long passages: cut where their script ends a sentence, never inside a literal or a syllable that fits."""

from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from llink.modeling_llink.literals import find_literals
from llink.modeling_llink.pieces import split_passage


def split(text, most):
    return split_passage(text, lambda piece: len(piece) <= most, find_literals(text))


def bare(text):
    return "".join(text.split())


#: Text, characters that fit, pieces.
SENTENCES = [
    ("ខ្ញុំទៅសាលា។ គាត់ទៅផ្សារ។ យើងទៅផ្ទះ៕", 15, ["ខ្ញុំទៅសាលា។", "គាត់ទៅផ្សារ។", "យើងទៅផ្ទះ៕"]),
    ("ខ្ញុំទៅសាលា។ គាត់ទៅផ្សារ។ យើងទៅផ្ទះ៕", 30, ["ខ្ញុំទៅសាលា។ គាត់ទៅផ្សារ។", "យើងទៅផ្ទះ៕"]),
    ("គាត់លក់បន្លែ ត្រី ។ល។ នៅផ្សារ ។ យើងទិញ ។", 34, ["គាត់លក់បន្លែ ត្រី ។ល។ នៅផ្សារ ។", "យើងទិញ ។"]),
    ("သူသွားသည်။ ငါလာသည်။", 12, ["သူသွားသည်။", "ငါလာသည်။"]),
    ("彼は「行く。」と言った。私も行く！本当？はい。", 14, ["彼は「行く。」と言った。", "私も行く！本当？はい。"]),
    ("أين هو؟ ذهب إلى البيت. رجع اليوم.", 24, ["أين هو؟ ذهب إلى البيت.", "رجع اليوم."]),
    ("وہ گیا۔ میں آیا۔", 9, ["وہ گیا۔", "میں آیا۔"]),
    ("वह गया। मैं आया॥", 9, ["वह गया।", "मैं आया॥"]),
    ("እሱ ሄደ። እኔ መጣሁ፡፡ ማን ነው፧", 9, ["እሱ ሄደ።", "እኔ መጣሁ፡፡", "ማን ነው፧"]),
    ("བོད་ཡིག། སྐད་ཡིག།", 9, ["བོད་ཡིག།", "སྐད་ཡིག།"]),
    ("Alienda 3.5 km. “Kweli?” Ndiyo!", 16, ["Alienda 3.5 km.", "“Kweli?” Ndiyo!"]),
    ("Mstari wa kwanza\nMstari wa pili", 20, ["Mstari wa kwanza", "Mstari wa pili"]),
    # clauses, then spaces (or none), then syllables
    ("မနက်၊ ည၊ နေ့၊ ညနေ။", 9, ["မနက်၊ ည၊", "နေ့၊ ညနေ။"]),
    ("ទៅ\u200bសាលា\u200bរៀន", 7, ["ទៅ\u200b", "សាលា\u200b", "រៀន"]),
    ("ស្ត្រីស្ត្រីស្ត្រី", 8, ["ស្ត្រី", "ស្ត្រី", "ស្ត្រី"]),
    ("က္ကူက္ကူ", 5, ["က္ကူ", "က္ကူ"]),
    # a literal stays whole, unless it does not fit by itself
    ("១,០០០,០០០,០០០", 14, ["១,០០០,០០០,០០០"]),
    ("ក១,០០០,០០០,០០០ក", 13, ["ក", "១,០០០,០០០,០០០", "ក"]),
    ("ក http://a.org/b.c,d ក", 12, ["ក", "http://a.org", "/b.c,d", "ក"]),
    ("   \n ", 2, []),
]


@pytest.mark.parametrize(("text", "most", "pieces"), SENTENCES)
def test_pieces_of_sentences(text, most, pieces):
    assert split(text, most) == pieces


def test_what_fits_is_one_piece_and_is_asked_once():
    asked = []
    assert split_passage(" ខ្មែរ។ ខ្មែរ។\n", lambda piece: not asked.append(piece), []) == ["ខ្មែរ។ ខ្មែរ។"]
    assert asked == ["ខ្មែរ។ ខ្មែរ។"]


def test_a_single_character_is_a_piece_even_if_it_does_not_fit():
    assert split_passage("ស្ត្រី 1", lambda piece: False, []) == list("ស្ត្រី1")


PARTS = [
    "ស្ត្រី", "ខ្មែរ", "។", "ကြီး", "။", "၊", "日本", "。", "ሰላም", "፡፡", "a", "Ngo ", "1,000", "២.៥", "http://a.org/x.y ",
    ".", "? ", "”", " ", "\n", "\u200b", "\u0301", "\ud800", "😀",
]  # fmt: skip
texts = st.lists(st.sampled_from(PARTS), max_size=60).map("".join)


@given(text=st.one_of(texts, st.text(max_size=60)), most=st.integers(1, 40))
def test_pieces_fit_and_give_the_text_back(text, most):
    pieces = split(text, most)
    assert bare("".join(pieces)) == bare(text)
    assert all(0 < len(piece) <= most and piece == piece.strip() for piece in pieces)


@given(text=texts, most=st.integers(18, 40))
def test_no_cut_in_a_literal_or_a_syllable_that_fits(text, most):
    whole = [literal.text for literal in find_literals(text, ["number", "address"])]
    pieces = split(text, most)
    assert [literal.text for piece in pieces for literal in find_literals(piece, ["number", "address"])] == whole
    assert not any(regex.search("[\u17d2\u1039]$", piece) for piece in pieces)


@given(text=texts, most=st.integers(1, 40))
def test_two_pieces_of_a_text_in_sentences_never_fit_as_one(text, most):
    """Greedy: vacuous where a sentence was cut, as its last part starts anew."""
    sentences = [sentence for sentence in regex.split(r"(?<=[។။。])", "".join(text.split())) if sentence]
    if max(map(len, sentences), default=0) > most:
        return
    pieces = split("\n".join(sentences), most)
    assert all(len(one) + 1 + len(two) > most for one, two in pairwise(pieces))


def test_a_long_text_is_read_a_few_times():
    sentence = "ខ្ញុំទៅសាលារៀននៅភ្នំពេញ១,០០០ដង"
    read: list[int] = []
    for text in (f"{sentence}។ " * 3_000, sentence * 3_000, f"{sentence} " * 3_000):
        read.clear()
        pieces = split_passage(text, lambda piece: read.append(len(piece)) or len(piece) <= 500, find_literals(text))
        assert len(pieces) > 150
        assert sum(read) < 25 * len(text)
        assert bare("".join(pieces)) == bare(text)
