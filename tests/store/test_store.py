"""A store: what it keeps is what the model makes, adding and going on lose nothing, and another model's is refused."""

import json
import re

import numpy as np
import pytest
import torch
from filelock import FileLock

from llink import DataError, NotFittedError, PromptError, SlotStore, StoreError
from llink.store import slot_store
from llink.store.slot_codec import bytes_of_slot, pack_slots, unpack_slots

TEXTS = ["ក្មេងទៅសាលា", "the cat sat on the mat", "a dog runs 25", "we eat rice at noon", "he has two books"]
TOKENS = {"slot_expander": "tokens", "literals": ["number", "latin"]}


@pytest.fixture(scope="module")
def words(make_model):
    """Slots of tokens, numbers written out between them."""
    return make_model(**TOKENS, long_passages="split")


@pytest.fixture(scope="module")
def kept(words, tmp_path_factory):
    """A store of five passages, that no test changes."""
    return SlotStore.build(words, TEXTS, tmp_path_factory.mktemp("kept") / "store")


@pytest.mark.parametrize("kind", ["tokens", "mlp"])
def test_the_kept_slots_are_the_models(kind, make_model, tmp_path):
    """Of tokens to within half a step of their eight bits, of p_F to half precision of it."""
    model = make_model(**(TOKENS if kind == "tokens" else {"slot_expander": "mlp"}))
    store = SlotStore.build(model, TEXTS, tmp_path / "store")
    assert store.rows["text"] == TEXTS
    for found, wanted in zip(store.slots(range(5)), model.encode_foreign(TEXTS), strict=True):
        assert found.shape == wanted.shape
        step = wanted.abs().amax(dim=-1, keepdim=True) / 127
        assert ((found - wanted).abs() <= (0.51 * step if kind == "tokens" else 2e-2 * wanted.norm(dim=-1).max())).all()
    vectors = np.array(store.rows["vector"])
    assert np.allclose(vectors, model.encode(TEXTS), atol=1e-3)
    if kind == "tokens":
        tokens = store.rows["tokens"]
        assert max(tokens[2]) >= 0, "vacuous unless a number is written out"


@pytest.mark.parametrize("width", [2048, 33, 8])
def test_packed_slots_take_about_half_of_float16(width):
    slots = torch.randn(7, width, generator=torch.Generator().manual_seed(0))
    slots[:, 0] *= 50  # one large number makes its own group coarse, and no other
    packed = pack_slots(slots)
    assert len(packed) == 7 * bytes_of_slot(width)
    wrong = (unpack_slots(packed, width) - slots).abs()
    assert wrong.max() < 0.6 * slots.abs().max() / 127
    assert width < 33 or wrong[:, 32:].max() < 0.6 * slots[:, 32:].abs().max() / 127
    assert torch.equal(unpack_slots(pack_slots(torch.zeros(1, width)), width), torch.zeros(1, width))
    assert bytes_of_slot(2048) < 0.54 * 2 * 2048


def test_a_search_finds_what_a_comparison_of_all_finds(words, kept):
    """Both sides; the scores are the cosines."""
    for side in ("english", "foreign"):
        scores = words.similarity(words.encode(TEXTS[1], side), words.encode(TEXTS))[0]
        found = kept.search(TEXTS[1], k=5, side=side)
        assert [one.row for one in found] == scores.argsort(descending=True).tolist()
        assert [one.score for one in found] == pytest.approx(sorted(scores.tolist(), reverse=True), abs=2e-3)
    assert found[0].text == TEXTS[1], "the same text on the same side"
    assert found[0].score == pytest.approx(1, abs=1e-3)


def test_an_answer_is_that_of_generate_with_the_kept_slots(words, kept):
    question = "What does the cat do?"
    answer = kept.ask(question, k=2, max_new_tokens=5)
    assert [one.row for one in answer.passages] == [one.row for one in kept.search(question, 2)]
    prompt = f"{question}\n<foreign_emb>\n<foreign_emb>"
    slots = kept.slots([one.row for one in answer.passages])
    tokens = words.generate(foreign_slots=[slots], prompt=prompt, max_new_tokens=5, do_sample=False)
    assert answer.text == words.processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
    placed = kept.ask(question, k=2, prompt="Is <foreign_emb> as <foreign_emb>?", max_new_tokens=5)
    assert placed.passages == answer.passages
    with pytest.raises(PromptError, match="1 <foreign_emb> placeholder"):
        kept.ask(question, k=2, prompt="Translate <foreign_emb>.")


def test_a_document_is_kept_in_pieces(words, tmp_path):
    """Each found by itself, also where the model itself would read the beginning alone."""
    lines = [f"{text}. " * 6 for text in TEXTS[1:]]
    store = SlotStore.build(
        words, [{"text": "\n".join(lines), "id": "book", "document": "shelf"}, "ទេ"], tmp_path / "s"
    )
    pieces = [row for row in store.rows if row["id"] == "book"]
    assert [row["piece"] for row in pieces] == list(range(len(pieces)))
    assert len(pieces) >= 2, "vacuous unless it is longer than the encoder reads"
    found = store.search(pieces[1]["text"], k=1, side="foreign")[0]
    assert (found.id, found.document, found.piece, found.text) == ("book", "shelf", 1, pieces[1]["text"])
    words.processor.long_passages = "cut"
    try:
        again = SlotStore.build(words, ["\n".join(lines)], tmp_path / "cut")
    finally:
        words.processor.long_passages = "split"
    assert again.rows["text"] == [row["text"] for row in pieces]


def test_the_same_call_adds_only_what_is_missing(words, tmp_path, monkeypatch):
    folder = tmp_path / "store"
    SlotStore.build(words, TEXTS[:2], folder)
    read = []
    encode = type(words).encode_pieces
    monkeypatch.setattr(
        type(words), "encode_pieces", lambda self, pieces, *a: read.extend(pieces) or encode(self, pieces, *a)
    )
    store = SlotStore.build(words, [*TEXTS, TEXTS[3]], folder)
    assert [piece.text for piece in read] == TEXTS[2:]
    assert store.rows["text"] == TEXTS, "a text that comes twice is one passage"
    SlotStore.build(words, TEXTS, folder)
    assert len(read) == 3
    whole = SlotStore.build(words, TEXTS, tmp_path / "at once")
    for name in ("text", "id", "vector", "tokens"):
        assert np.array_equal(store.rows[name][0], whole.rows[name][0])


def test_a_run_that_stops_between_files_is_gone_on_with(words, tmp_path, monkeypatch):
    monkeypatch.setattr(slot_store, "SHARD", 2)
    folder, encode, calls = tmp_path / "store", type(words).encode_pieces, []

    def stops(self, pieces, *arguments):
        calls.append(len(pieces))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, pieces, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(words), "encode_pieces", stops)
        with pytest.raises(KeyboardInterrupt):
            SlotStore.build(words, TEXTS, folder)
    assert SlotStore.load(folder, words).rows["text"] == TEXTS[:2]
    (folder / "data" / "rows-00001.arrow").write_bytes(b"half of a file")
    store = SlotStore.build(words, TEXTS, folder)
    assert store.rows["text"] == TEXTS
    assert len(store.manifest.shards) == 3


def test_a_store_is_bound_to_its_model(make_model, words, kept, monkeypatch):
    with pytest.raises(StoreError, match=r"another model.*slots"):
        SlotStore.load(kept.folder, make_model(**TOKENS, seed=1))
    other = make_model(**TOKENS, decoder="llama-untied")
    with pytest.raises(StoreError, match="the decoder, or how it reads"):
        SlotStore.build(other, ["new"], kept.folder)
    with pytest.raises(StoreError, match="how passages are read"):
        SlotStore.load(kept.folder, make_model(**TOKENS, tokens_per_slot=2))
    half = make_model(**TOKENS)
    half.decoder.bfloat16()
    with pytest.raises(StoreError, match=r"float32 and float32.*float32 and bfloat16.*dtype"):
        SlotStore.load(kept.folder, half)
    assert len(SlotStore.load(kept.folder, make_model(**TOKENS, long_passages="split"))) == 5, "another object, alike"


def test_one_run_writes_at_a_time(words, tmp_path):
    folder = tmp_path / "store"
    SlotStore.build(words, TEXTS[:1], folder)
    with FileLock(folder / ".lock"), pytest.raises(StoreError, match="Another run is writing"):
        SlotStore.build(words, TEXTS, folder)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "data" / "rows-00000.arrow").unlink(), "torn: .* is missing"),
        (lambda folder: (folder / "data" / "rows-00000.arrow").open("rb+").truncate(100), "torn: .* is of 100 bytes"),
        (lambda folder: (folder / "store.json").write_text("{"), "store.json is damaged"),
        (
            lambda folder: (folder / "store.json").write_text('{"kind": "llink store", "format": 9}'),
            "format 9.*upgrade",
        ),
        (lambda folder: (folder / "store.json").unlink(), "holds no store"),
    ],
)
def test_a_torn_store_is_refused(damage, told, words, tmp_path):
    SlotStore.build(words, TEXTS, tmp_path / "store")
    damage(tmp_path / "store")
    with pytest.raises(StoreError, match=told):
        SlotStore.load(tmp_path / "store", words)


def test_a_damaged_file_of_the_right_size_is_refused(words, tmp_path):
    SlotStore.build(words, TEXTS, tmp_path / "store")
    file = tmp_path / "store" / "data" / "rows-00000.arrow"
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(StoreError, match=r"rows-00000\.arrow is damaged"):
        SlotStore.load(tmp_path / "store", words)


@pytest.mark.parametrize(
    ("passages", "told"),
    [
        ([], "There are no passages"),
        (["fine", " "], "row 1 is empty"),
        ([{"text": "a", "speaker": "b"}], "Row 0 has unknown columns speaker"),
        ([{"id": "a"}], "no column 'text'"),
        (["fine", 5], "row 1 is 5"),
        ([{"text": "a", "id": "1"}, {"text": "b", "id": "1"}], "Row 1 has the id '1' of row 0"),
        (["ក" * (1 << 20) + "ខ"], r"Row 0 has 1048577 characters.*several"),
    ],
)
def test_passages_that_cannot_be_kept_are_refused_before_anything_is_written(passages, told, words, tmp_path):
    with pytest.raises(DataError, match=told):
        SlotStore.build(words, passages, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_id_stands_for_one_text(words, tmp_path):
    SlotStore.build(words, [{"text": "one", "id": "a"}], tmp_path / "store")
    with pytest.raises(StoreError, match="another text with the id 'a'"):
        SlotStore.build(words, [{"text": "two", "id": "a"}], tmp_path / "store")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"question": "  "}, "is empty"),
        ({"question": "why " * 600}, "shorten it to 2000"),
        ({"question": "why", "k": 6}, "k=6, and the store holds 5 pieces: give a k from 1 to 5"),
        ({"question": "why", "k": 0}, "k=0"),
    ],
)
def test_questions_that_cannot_be_asked(asked, told, kept):
    for ask in (kept.search, kept.ask):
        with pytest.raises(StoreError, match=told):
            ask(**asked)


def test_there_are_two_sides(words, kept):
    with pytest.raises(PromptError, match="side='khmer' is not one of foreign, english"):
        kept.search("why", side="khmer")
    with pytest.raises(PromptError, match="is not one of"):
        words.encode("why", side="query")


def test_a_prompt_that_the_decoder_cannot_read_is_refused(words, tmp_path):
    store = SlotStore.build(words, [f"{'ក' * 90} {number}" for number in range(8)], tmp_path / "store")
    with pytest.raises(StoreError, match=r"8 pieces take \d+ tokens, and the decoder reads 512: ask with a smaller k"):
        store.ask("why", k=8)


def test_untrained_models_keep_nothing_and_half_trained_ones_only_search(make_model, tmp_path):
    with pytest.raises(StoreError, match="not trained"):
        SlotStore.build(make_model(stage="untrained"), TEXTS, tmp_path / "store")
    with pytest.raises(NotFittedError):
        SlotStore.build(make_model(stage="align", teacher_conditioning="center"), TEXTS, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store = SlotStore.build(make_model(stage="align"), TEXTS, tmp_path / "store")
    assert len(store.search("why", 2)) == 2
    with pytest.raises(StoreError, match="stage was 'align', so it holds no slots"):
        store.ask("why")


def test_other_folders_are_left_alone(words, tmp_path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds letters.txt and no store.json"):
        SlotStore.build(words, TEXTS, tmp_path)
    with pytest.raises(StoreError, match="does not exist"):
        SlotStore.load(tmp_path / "nowhere", words)


def test_the_model_is_found_by_the_stores_word(words, tmp_path):
    words.save_pretrained(tmp_path / "model", self_contained=True)
    loaded = type(words).from_pretrained(tmp_path / "model")
    SlotStore.build(loaded, TEXTS, tmp_path / "store")
    assert len(SlotStore.load(tmp_path / "store")) == 5
    manifest = json.loads((tmp_path / "store" / "store.json").read_text("utf-8"))
    assert re.search("model$", manifest["model"])
    manifest["model"] = None
    (tmp_path / "store" / "store.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="does not name its model"):
        SlotStore.load(tmp_path / "store")
