"""How passages are read: pieces, slots of several tokens, and what is written out at its place."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llink import LlinkConfig, LlinkForCausalLM
from llink.modeling_llink.errors import ForeignTextError
from llink.modeling_llink.passages import SLOT, ReadingOptions, check_passage, read_passage

GREEDY = dict(do_sample=False, max_new_tokens=4)
NUMBERS = ("number", "date", "time")


def read(text, family="xlm-roberta", **options):
    options = {"literals": NUMBERS, **options}
    tokenizers = tiny.decoder_tokenizer("llama"), tiny.encoder_tokenizer(family)
    return read_passage(check_passage(text), *tokenizers, ReadingOptions(**options))


def written(piece) -> str:
    """A piece as it stands in the prompt, a dot for each slot."""
    tokenizer, text, run = tiny.decoder_tokenizer("llama"), "", []
    for token in [*piece.tokens, None]:
        if token is not None and token != SLOT:
            run.append(token)
            continue
        text += tokenizer.decode(run) if run else ""
        text += "." if token == SLOT else ""
        run = []
    return text


# ------------------------------------------------------------------ in place


def test_numbers_stand_where_the_passage_has_them():
    (piece,) = read("ក្មេង 27 ឆ្មា ១៩៨៥ ស").pieces
    shown = written(piece)
    assert "27" in shown
    assert "1985" in shown
    before, between, after = shown.replace("1985", "27").split("27")
    assert set(before) == set(between) == set(after) == {"."}, shown
    assert max(piece.slots) == piece.tokens.count(SLOT) == len(before + between + after)
    (plain,) = read("ក្មេង 27 ឆ្មា ១៩៨៥ ស", literals=()).pieces
    assert plain.tokens == [SLOT] * max(plain.slots)
    assert plain.ids == piece.ids, "the encoder reads the numbers too"
    assert len(plain.tokens) > max(piece.slots), "vacuous unless numbers had slots"


@pytest.mark.parametrize("text", ["27", "27 1985", "១៩៨៥", "7:30 27"])
def test_a_passage_of_nothing_but_numbers_has_one_slot(text):
    (piece,) = read(text).pieces
    assert piece.tokens.count(SLOT) == max(piece.slots) == 1
    assert piece.tokens[0] == SLOT


@pytest.mark.parametrize("text", ["27 ក្មេង 1985", "27ក្មេង", "ក្មេង27"])
def test_numbers_at_both_ends(text):
    (piece,) = read(text).pieces
    shown = written(piece)
    assert shown.startswith(text[:2]) == text.startswith("27")
    assert ("1985" in text) == shown.endswith("1985")


def test_neighbouring_numbers_do_not_grow_together():
    (piece,) = read("ក 27 1985 ក").pieces
    assert "27 1985" in written(piece)


def test_ten_thousand_digits_stay_with_the_slots():
    reading = read("ក្មេង " + "7" * 10_000, long_passages="cut")
    assert reading.cut
    assert reading.pieces[0].tokens == [SLOT] * max(reading.pieces[0].slots)


def test_a_number_is_never_cut_in_two():
    reading = read("ក្មេងក្មេង 198523", long_passages="cut", max_foreign_chars=14)
    assert reading.cut
    assert written(reading.pieces[0]).strip(".") == ""


@pytest.mark.parametrize("family", ["xlm-roberta", "bert", "t5"])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["ក្មេង", "27", " ", "១៩", "a", ".", "</s>", "<f0>", "\u200b", "(", "%"]), min_size=1))
def test_every_token_has_a_slot_or_is_written_out(family, parts):
    text = "".join(parts)
    if not text.strip():
        return
    options = dict(family=family, max_foreign_chars=1000, max_foreign_tokens=1000)
    (piece,), (plain,) = read(text, **options).pieces, read(text, literals=(), **options).pieces
    assert piece.tokens.count(SLOT) == max(piece.slots) >= 1
    assert sorted(set(piece.slots) - {0}) == list(range(1, max(piece.slots) + 1)), "numbered in order, none left out"
    in_order = [slot for slot in piece.slots if slot]
    assert in_order == sorted(in_order)
    if piece.ids == plain.ids:  # a tokenizer that tells where its tokens stand
        assert len(in_order) <= len([slot for slot in plain.slots if slot])


# ------------------------------------------------------------------ several tokens a slot


@pytest.mark.parametrize("share", [1, 2, 3, 8])
def test_tokens_share_slots(share):
    (piece,) = read("ក្មេងក្មេងក្មេង", tokens_per_slot=share).pieces
    count = sum(slot > 0 for slot in piece.slots)
    assert max(piece.slots) == -(-count // share)
    assert all(piece.slots.count(slot) == share for slot in range(1, max(piece.slots)))


def test_the_number_of_slots_has_bounds():
    text = "ក្មេង" * 8
    (all_slots,) = read(text).pieces
    total = max(all_slots.slots)
    (few,) = read(text, max_slots=4).pieces
    assert max(few.slots) <= 4 < total
    (many,) = read(text, tokens_per_slot=64, min_slots=6).pieces
    assert 6 <= max(many.slots) < total


def test_slots_do_not_reach_across_a_number():
    (piece,) = read("ក 27 ក", tokens_per_slot=64).pieces
    assert written(piece) == ".27."


def test_a_slot_of_several_tokens_is_made_of_their_mean(make_model):
    model = make_model(slot_expander="tokens", tokens_per_slot=2)
    text = "ក្មេងក្មេ"
    inputs = tiny.passage_inputs(model.processor, [[text]])
    states = model.passage_states(
        inputs["foreign_input_ids"][0], inputs["foreign_attention_mask"][0], model.config.slot_layers
    )[0]  # (L, C)
    index = inputs["foreign_slot_index"][0, 0]
    means = torch.stack([states[index == slot].mean(dim=0) for slot in range(1, int(index.max()) + 1)])
    wanted = torch.nn.functional.normalize(model.slot_embedder.directions(means), dim=-1) * model.slot_embedder.scale
    (slots,) = model.encode_foreign([text])
    assert len(slots) == int(index.max()) < int((index > 0).sum()), "vacuous unless slots have several tokens"
    torch.testing.assert_close(slots, wanted)


# ------------------------------------------------------------------ pieces

DOCUMENT = "ក្មេងឆ្មា ២៧។ " * 12


def test_a_long_passage_is_read_in_pieces(make_model):
    model = make_model(slot_expander="tokens", max_foreign_chars=40)
    pieces = model.processor.read_passages([DOCUMENT])[0]
    assert len(pieces) > 2
    assert "".join("".join(piece.text for piece in pieces).split()) == "".join(DOCUMENT.split()), "nothing is lost"
    inputs = model.processor("Translate.", [[DOCUMENT, "ក្មេង"]])
    assert inputs["foreign_input_ids"].shape[:2] == (1, len(pieces) + 1)
    with torch.no_grad():
        output = model(**inputs)
    assert int(output["foreign_mask"].sum()) == int((inputs["input_ids"] >= model.config.reserved_token_start).sum())


def test_pieces_one_after_the_other_are_passages_one_after_the_other(make_model):
    model = make_model(slot_expander="tokens", max_foreign_chars=40)
    pieces = [piece.text for piece in model.processor.read_passages([DOCUMENT])[0]]
    whole, parts = model.processor("Say.", [[DOCUMENT]]), model.processor("Say.", [pieces])
    assert torch.equal(whole["input_ids"], parts["input_ids"])
    with torch.no_grad():
        torch.testing.assert_close(model(**whole).logits, model(**parts).logits)


def test_slots_of_one_vector_are_repeated_for_each_piece(make_model):
    model = make_model(max_foreign_chars=40)
    count = len(model.processor.read_passages([DOCUMENT])[0])
    assert len(model.processor.prompt_tokens(DOCUMENT)) == count * model.config.num_slots
    with torch.no_grad():
        model(**model.processor("Say.", [[DOCUMENT], ["ក្មេង"]]))
    assert [len(slots) for slots in model.encode_foreign([DOCUMENT, "ក"])] == [
        count * model.config.num_slots,
        model.config.num_slots,
    ]


def test_too_many_pieces_are_refused(make_model):
    model = make_model(slot_expander="tokens", max_foreign_chars=40, max_pieces=2)
    with pytest.raises(ForeignTextError, match=r"max_pieces=2. Give it in several parts"):
        model.generate(foreign_text=DOCUMENT, **GREEDY)


def test_each_piece_has_a_vector(make_model):
    model = make_model(slot_expander="tokens", max_foreign_chars=40)
    features, pieces = model.get_piece_features(["ក្មេង", DOCUMENT])
    read_pieces = model.processor.read_passages([DOCUMENT])[0]
    assert pieces == [(0, "ក្មេង"), *[(1, piece.text) for piece in read_pieces]]
    assert features.shape == (1 + len(read_pieces), model.config.hidden_size)
    torch.testing.assert_close(model.get_foreign_features(["ក្មេង"])[0], features[0])
    pooled = model.get_pooled_features([DOCUMENT])[0]
    torch.testing.assert_close(pooled, model.get_pooled_features([piece.text for piece in read_pieces]).mean(dim=0))


# ------------------------------------------------------------------ one path


def test_kept_slots_are_read_as_the_text_is(make_model):
    model = make_model(slot_expander="tokens", max_foreign_chars=40)
    for text in ("ក្មេង 27 ឆ្មា", DOCUMENT, "27"):
        inputs = model.processor("Say.", [text])
        kept = model.encode_foreign([text])
        assert len(kept[0]) == len(model.processor.prompt_tokens(text))
        direct = model.generate(foreign_text=text, prompt="Say.", **GREEDY)
        assert torch.equal(direct, model.generate(foreign_slots=kept, prompt="Say.", **GREEDY))
        assert (inputs["input_ids"] < model.config.reserved_token_start).any()


def test_rows_of_all_lengths_share_a_batch(make_model):
    model = make_model(slot_expander="tokens", max_foreign_chars=40)
    rows = ["ក្មេង 27", DOCUMENT, "27", "ឆ្មា"]
    together = model.generate(foreign_text=rows, prompt="Say.", **GREEDY)
    for row, text in enumerate(rows):
        alone = model.generate(foreign_text=text, prompt="Say.", **GREEDY)
        assert torch.equal(together[row, : alone.shape[1]], alone[0])


def test_the_options_travel_and_earlier_checkpoints_read_as_before(make_model, tmp_path):
    model = make_model(slot_expander="tokens", tokens_per_slot=2, max_foreign_chars=40, literals=["number"])
    model.save_pretrained(tmp_path / "new", self_contained=True)
    again = LlinkForCausalLM.from_pretrained(tmp_path / "new")
    assert again.processor.literals == again.config.literals == ["number"]
    assert again.processor.prompt_tokens(DOCUMENT) == model.processor.prompt_tokens(DOCUMENT)
    fields = {
        name: value for name, value in model.config.to_dict().items() if name not in ("literals", "long_passages")
    }
    old = LlinkConfig.from_dict(fields)
    assert (old.literals, old.long_passages) == ([], "cut")
    assert (LlinkConfig(slot_expander="tokens").long_passages, LlinkConfig().literals) == ("split", [])
