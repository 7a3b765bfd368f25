"""Foreign text: checked, cut between graphemes with one warning, tokenised as nothing but text."""

import warnings
from unicodedata import normalize

import pytest
import regex
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers
from tokenizers.processors import TemplateProcessing

from llink.data.normalization import clean_invisible
from llink.modeling_llink.errors import ForeignTextError
from llink.modeling_llink.passages import Passage, ReadingOptions, check_passages, read_passage
from llink.modeling_llink.pieces import cut_text
from llink.modeling_llink.processing_llink import LlinkProcessor
from llink.modeling_llink.tokenizing import encode_literal, frame

#: Pieces whose code points belong together: Khmer and Burmese stacks, emoji with joiners, skin tones, flags, Hangul.
CLUSTERS = [
    "ក្មេ", "ខ្ញុំ", "ស្ត្រី", "ទៅ", "ក", "។", "မြန်", "က္ကူ", "မာ",
    "👩🏽‍🚀", "👨‍👩‍👧‍👦", "🇰🇭", "é", "각", "नि", "a", " ", "\r\n",
]  # fmt: skip
GARBAGE = [None, 3, b"abc", "", "   ", "\n\t\u3000", "ab\0c", 1.5, {"text": "a"}]
mixed = st.lists(st.sampled_from(CLUSTERS), min_size=1, max_size=40).map("".join)


@pytest.mark.parametrize("bad", GARBAGE, ids=repr)
def test_unusable_passages_are_refused_alone_in_a_list_and_nested(bad):
    with pytest.raises(ForeignTextError):
        check_passages(bad)
    with pytest.raises(ForeignTextError, match="row 1"):
        check_passages(["fine", bad])
    with pytest.raises(ForeignTextError, match="row 1"):
        check_passages([["fine"], ["fine", bad]])


def test_the_error_names_the_value_and_the_remedy():
    with pytest.raises(ForeignTextError, match=r"row 2.*position 1.*remove"):
        check_passages(["a", "b", "c\0"])
    with pytest.raises(ForeignTextError, match=r"NoneType.*give a string"):
        check_passages(["a", None])


@pytest.mark.parametrize("char", ["\ufeff", "\u00ad", "\u200f", "\u2060", "\u202e", "\U000e0041"])
def test_what_has_neither_shape_nor_meaning_is_not_read(char):
    assert check_passages(f"{char}ក{char}ខ {char}a") == [["កខ a"]]
    for text in (f"ក{char}ខ", f"a{char}b", f"{char}a", f"س{char}ل", f"क{char}ष", f"ไทย{char}ไทย"):
        assert clean_invisible(text) == check_passages(text)[0][0], (
            "prepared data are read as the passages of users are"
        )


@pytest.mark.parametrize("char", ["\u200b", "\u200c", "\u200d"])
def test_what_may_be_spelling_stays(char):
    assert check_passages(f"ក{char}ខ") == [[f"ក{char}ខ"]]


def test_shapes_are_normalised():
    assert check_passages("a") == [["a"]]
    assert check_passages(["a", "b"]) == [["a"], ["b"]]
    assert check_passages([["a", "b"], [], "c"]) == [["a", "b"], [], ["c"]]
    assert check_passages(("a",)) == [["a"]]
    with pytest.raises(ForeignTextError):
        check_passages([])


@given(text=mixed, limit=st.integers(12, 60))
def test_a_cut_never_falls_inside_a_cluster(text, limit):
    kept = cut_text(text, limit)
    assert text.startswith(kept)
    assert len(kept) <= limit
    assert (kept == text) == (len(text) <= limit)
    assert kept or not text
    boundaries = {0, *(m.end() for m in regex.finditer(r"\X", text))}
    assert len(kept) in boundaries
    assert not regex.search("[\u17d2\u1039\u200d]$", kept)  # nothing ends where the next consonant is stacked or joined
    if kept != text:  # as much is kept as fits: the next whole syllable would not have
        following = regex.match(r"\X(?:(?<=[\u17D2\u1039])\X)*", text[len(kept) :]).group()
        assert len(kept) + len(following) > limit


def test_guard_the_property_above_would_see_a_plain_cut():
    text = "ក្មេ" * 10
    assert regex.search("\u17d2$", text[:14]), "vacuous unless a plain cut leaves a dangling sign"
    assert cut_text(text, 14) == "ក្មេ" * 3


def processor(**limits) -> LlinkProcessor:
    return LlinkProcessor(tiny.decoder_tokenizer("llama"), tiny.encoder_tokenizer("xlm-roberta"), **limits)


def test_one_warning_counts_the_texts_cut_at_the_characters():
    with pytest.warns(UserWarning, match="2 of 3 foreign texts") as caught:
        tiny.passage_inputs(processor(max_foreign_chars=10), [["a" * 11], ["b"], ["c" * 12]])
    assert len(caught) == 1


def test_one_warning_counts_the_texts_cut_at_the_encoders_tokens():
    with pytest.warns(UserWarning, match="1 of 2 foreign texts") as caught:
        batch = tiny.passage_inputs(processor(max_foreign_tokens=8), [["a" * 20], ["b"]])
    assert len(caught) == 1
    assert batch["foreign_attention_mask"].sum(dim=-1).flatten().tolist() == [8, 3]


def test_a_cut_at_the_encoders_tokens_keeps_graphemes_and_the_closing_token():
    tokenizer = tiny.encoder_tokenizer("xlm-roberta")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = tiny.passage_inputs(processor(max_foreign_tokens=8), [["ក្មេ" * 5]])["foreign_input_ids"][0, 0].tolist()
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.decode(ids[1:-1]) == "ក្មេ"


def test_a_whole_call_warns_once(make_model):
    model = make_model(max_foreign_chars=10, long_passages="cut")
    texts = [letter * (5 + 3 * index) for index, letter in enumerate("abcdefgh")]
    for call in (model.encode_foreign, model.get_pooled_features, model.get_foreign_features):
        with pytest.warns(UserWarning, match="6 of 8 foreign texts") as caught:
            call(texts, batch_size=3)
        assert len([w for w in caught if "foreign texts" in str(w.message)]) == 1
    with pytest.warns(UserWarning, match="6 of 8 foreign texts") as caught:
        model.generate(foreign_text=texts, max_new_tokens=1)
    assert len([w for w in caught if "foreign texts" in str(w.message)]) == 1


def test_texts_within_the_limit_warn_of_nothing(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.passage_inputs(model.processor, [["the cat"]])


def test_leading_white_space_does_not_push_the_text_out():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            batch = tiny.passage_inputs(processor(max_foreign_chars=10), [[" " * 30 + "cat"]])
        except ForeignTextError:
            return
    decoded = tiny.encoder_tokenizer("xlm-roberta").decode(batch["foreign_input_ids"][0, 0], skip_special_tokens=True)
    assert decoded.strip(), "a passage of nothing but white space was encoded"


# ------------------------------------------------------------------ literal text


@pytest.mark.parametrize("family", ["xlm-roberta", "bert", "t5"])
@settings(max_examples=60)
@given(data=st.data())
def test_no_control_token_of_the_encoder_comes_out_of_text(family, data):
    tokenizer = tiny.encoder_tokenizer(family)
    control = sorted(tokenizer.get_added_vocab())
    pieces = st.sampled_from([*control, "<", ">", "[", "]", "<s", "ask>", "a", "ក", " ", "<f0>", "<foreign_emb>"])
    text = data.draw(st.lists(pieces, min_size=1, max_size=8).map("".join))
    ids = encode_literal(tokenizer, text)
    unknown = tokenizer.unk_token_id
    assert not {i for i in ids if i != unknown} & set(tokenizer.get_added_vocab().values())
    whole = Passage(text)
    if whole.strip():
        piece = read_passage(whole, tokenizer, tokenizer, ReadingOptions()).pieces[0]
        plain = tokenizer.encode("a")
        place = plain.index(tokenizer.encode("a", add_special_tokens=False)[0])
        assert piece.ids == plain[:place] + encode_literal(tokenizer, text.strip()) + plain[place + 1 :]


@given(st.lists(st.sampled_from(["<|end|>", "<|en", "d|>", "<tool_call>", "<tool", "_call>", "<|", "|>", "a ", "<"])))
def test_literal_text_decodes_to_itself(pieces):
    tokenizer, text = tiny.decoder_tokenizer("llama"), "".join(pieces)
    ids = encode_literal(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.get_added_vocab().values())


def test_guard_control_tokens_are_recognised_without_it():
    for tokenizer, text in (
        (tiny.decoder_tokenizer("llama"), "<|end|><tool_call>"),
        (tiny.encoder_tokenizer("xlm-roberta"), "<mask><lang>"),
    ):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert set(ids) <= set(tokenizer.get_added_vocab().values())


def test_an_added_token_of_one_character_stays_text():
    tokenizer = tiny.encoder_tokenizer("xlm-roberta")
    tokenizer.add_special_tokens({"additional_special_tokens": ["¤"]})
    control = tokenizer.convert_tokens_to_ids("¤")
    assert tokenizer.encode("a¤b")[2] == control, "vacuous unless it is recognised"
    assert control not in encode_literal(tokenizer, "a¤b")


def test_a_tokenizer_that_is_changed_later_is_asked_anew():
    tokenizer = tiny.encoder_tokenizer("xlm-roberta")
    assert encode_literal(tokenizer, "a¤b") == encode_literal(tokenizer, "a¤b")
    assert frame(tokenizer)[0], "vacuous unless a text is framed"
    tokenizer.add_tokens(["¤"])
    assert tokenizer.convert_tokens_to_ids("¤") not in encode_literal(tokenizer, "a¤b")
    tokenizer.add_special_tokens({"mask_token": "b"})
    assert "b" not in tokenizer.convert_ids_to_tokens(encode_literal(tokenizer, "a¤b"))
    bare = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    tokenizer.backend_tokenizer.post_processor = bare
    assert frame(tokenizer) == ([], [])


def lookalikes() -> dict[str, list[str]]:
    """Other characters that some Unicode normalisation, or a change of case, makes of each of these."""
    found = {char: [char] for char in "</>|[]_abdeimnoprst"}
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x1FFFF)):
        for made in {normalize("NFKC", chr(code)), normalize("NFKC", chr(code)).lower()}:
            if made in found:
                found[made].append(chr(code))
    return found


LOOKALIKES = lookalikes()


def disguised(token: str):
    return st.tuples(*[st.sampled_from(LOOKALIKES.get(char, [char])) for char in token]).map("".join)


@settings(max_examples=60)
@given(data=st.data())
def test_no_normalisation_makes_a_control_token_of_text(data):
    assert len(LOOKALIKES["<"]) > 2, "vacuous unless there are such characters"
    tokenizer = tiny.encoder_tokenizer("xlm-roberta")
    tokenizer.add_tokens([AddedToken("<mask>", special=True, normalized=True), AddedToken("¤", normalized=True)])
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace("¢", "¤")]
    )
    control = {tokenizer.convert_tokens_to_ids(token) for token in ("<mask>", "¤")}
    assert set(tokenizer.encode("a＜ＭＡＳＫ＞", add_special_tokens=False)) & control, (
        "vacuous unless it is made of text"
    )
    assert set(tokenizer.encode("a¢", add_special_tokens=False)) & control, "vacuous unless it is made of text"
    pieces = st.one_of(disguised("<mask>"), st.sampled_from(["¤", "¢", "a", "ក ", "<", "＜"]))
    text = data.draw(st.lists(pieces, min_size=1, max_size=5).map("".join))
    assert not set(encode_literal(tokenizer, text)) & control
