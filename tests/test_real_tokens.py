"""The real Llama-3 tokenizer on real parallel text: the figures that this project quotes."""

from pathlib import Path

import pytest

from llink.cli.eval_tokens import aligned_texts
from llink.evaluation.tokens import load_tokenizer, token_pieces, tokenization

SHARED = Path(__file__).parents[2] / "shared"
CORPORA = SHARED / "corpora"
LLAMA3 = SHARED / "tokenizers" / "llama3"

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.skipif(
        not (CORPORA.is_dir() and LLAMA3.is_dir()), reason="the real corpora are not beside this folder"
    ),
]


@pytest.fixture(scope="module")
def llama3():
    return load_tokenizer(str(LLAMA3))


@pytest.fixture(scope="module")
def tico(llama3):
    """TICO-19: the same 2,100 English sentences in Khmer, Burmese and Amharic."""
    files = {"en": f"{CORPORA}/en-km/tico19.en", "km": f"{CORPORA}/en-km/tico19.km"}
    files |= {"my": f"{CORPORA}/en-my/tico19.my", "am": f"{CORPORA}/en-am/tico19.am"}
    return tokenization(llama3, aligned_texts(files, "en"), "en")


def test_known_token_ids(llama3):
    """Ids that Llama-3's own code gives."""
    assert len(llama3) == 128_000
    assert token_pieces(llama3, ["Hello world!"])[0][0] == [9906, 1917, 0]
    text = "កន្សែង ២៧, 12345 it's\n\n  x"
    assert llama3.decode(token_pieces(llama3, [text])[0][0]) == text


def test_premiums_over_english(tico):
    assert tico["en"]["n"] == 2100
    assert {name: round(found["premium"], 2) for name, found in tico.items()} == {
        "en": 1.0,
        "km": 7.77,
        "my": 11.66,
        "am": 7.53,
    }
    assert {name: round(found["tokens"], 1) for name, found in tico.items()} == {
        "en": 31.4,
        "km": 243.7,
        "my": 365.7,
        "am": 236.2,
    }


def test_khmer_is_read_in_pieces_of_characters(tico):
    assert round(tico["km"]["tokens_per_char"], 2) == 1.54
    assert tico["en"]["tokens_per_char"] == pytest.approx(0.21, abs=0.005)
    assert tico["en"]["fragments"] < 0.001
    assert 0.4 < tico["km"]["fragments"] < 0.5


@pytest.mark.parametrize(("corpus", "premium"), [("wmt20-newstest", 7.77), ("wmt20-wikipedia", 6.87)])
def test_khmer_of_the_encyclopedia(llama3, corpus, premium):
    files = {name: f"{CORPORA}/en-km/{corpus}.{name}" for name in ("en", "km")}
    found = tokenization(llama3, aligned_texts(files, "en"), "en")["km"]
    assert round(found["premium"], 2) == premium
    assert round(found["tokens_per_char"], 2) == pytest.approx(1.62, abs=0.015)


def test_a_well_served_language_costs_little(llama3):
    files = {name: f"{CORPORA}/en-ja/tanaka-dev.{name}" for name in ("en", "ja")}
    found = tokenization(llama3, aligned_texts(files, "en"), "en")["ja"]
    assert round(found["premium"], 2) == 1.31
    assert found["fragments"] < 0.02
