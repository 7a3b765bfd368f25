"""Data as it comes: columns found by language, lists, conversations, and what is refused by name."""

import pytest
import tiny
from datasets import Dataset, DatasetDict, IterableDataset

from llink.data.collators import tokenize_instructions
from llink.data.errors import DataError
from llink.data.instructions import instruction_dataset, translation_instructions
from llink.data.shapes import language_of_column, pair_dataset
from llink.modeling_llink.processing_llink import LlinkProcessor

EN, KM = ["A cat.", "Two dogs."], ["ឆ្មា។", "ឆ្កែពីរ។"]
PAIRS = {"english": EN, "foreign": KM}


def processor() -> LlinkProcessor:
    return LlinkProcessor(tiny.decoder_tokenizer("llama"), tiny.encoder_tokenizer("xlm-roberta"), num_slots=3)


@pytest.mark.parametrize(
    "given",
    [
        Dataset.from_dict(PAIRS),
        [{"english": e, "foreign": f} for e, f in zip(EN, KM, strict=True)],
        Dataset.from_dict({"en": EN, "km": KM}),
        Dataset.from_dict({"km": KM, "en": EN, "score": [1.0, 2.0]}),
        Dataset.from_dict({"English": EN, "Khmer": KM}),
        Dataset.from_dict({"eng_Latn": EN, "km_Khmr": KM}),
        Dataset.from_dict({"en-GB": EN, "km-KH": KM, "id": [5, 6]}),
        Dataset.from_list([{"translation": {"en": e, "km": f}} for e, f in zip(EN, KM, strict=True)]),
        Dataset.from_list([{"id": "a", "translation": {"en": e, "id": f}} for e, f in zip(EN, KM, strict=True)]),
        Dataset.from_dict({"en": EN, "id": KM}),
    ],
    ids=lambda given: str(getattr(given, "column_names", "list")),
)
def test_pairs_as_they_come(given):
    made = pair_dataset(given)
    assert (made["english"][:], made["foreign"][:]) == (EN, KM)
    assert made["id"][:] in (["0", "1"], ["5", "6"])
    assert made.to_dict().get("language", ["km", "km"]) in (["km", "km"], ["id", "id"])
    assert pair_dataset(made) is made


def test_columns_that_are_named():
    made = pair_dataset(Dataset.from_dict({"source": EN, "khmer": KM}), english="source", foreign="khmer")
    assert (made["english"][:], made["foreign"][:], made["language"][:]) == (EN, KM, ["km"] * 2)
    french = pair_dataset(Dataset.from_dict({"fr": EN, "km": KM}), english="fr", foreign="km")
    assert (french["target"][:], french["target_language"][:]) == (EN, ["fr"] * 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Dataset.from_dict({"fr": EN, "km": KM}), r"\['fr', 'km'\] it is not plain which.*pair_dataset"),
        (Dataset.from_dict({"en": EN, "km": KM, "th": KM}), "not plain which"),
        (Dataset.from_dict({"source": EN, "target_text": KM}), "no two of them are named for languages"),
        (DatasetDict(train=Dataset.from_dict(PAIRS)), r"several splits, train: give one"),
        (IterableDataset.from_generator(lambda: iter([])), "is a stream.*take"),
        ([], "no rows"),
        ("en.txt", "is a str"),
        ([{"english": "a", "foreign": "b"}, {"english": ["a"], "foreign": "b"}], "do not make columns"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_parallel_text_is_refused_by_name(given, said):
    with pytest.raises(DataError, match=said):
        pair_dataset(given)
    with pytest.raises(DataError, match=r"lacks the columns \['nope'\]"):
        pair_dataset(Dataset.from_dict(PAIRS), english="nope")


def test_languages_of_columns():
    named = {name: language_of_column(name) for name in ("en", "KM", "km-KH", "pt_BR", "zh-Hant", "Khmer", "eng_Latn")}
    assert list(named.values()) == ["en", "km", "km", "pt", "zh", "km", "en"]
    assert [language_of_column(name) for name in ("score", "id_1234", "text", "source")] == [None] * 4


def test_translations_of_pairs_as_they_come():
    rows = translation_instructions([{"translation": {"en": "A cat.", "km": "ឆ្មា។"}}])
    assert rows[0]["english"] == rows[0]["completion"] == "A cat."


# ------------------------------------------------------------------ instruction rows

PART = {"type": "foreign_text", "text": "ឆ្មា។"}
ASKED = [{"type": "text", "text": "Translate to English.\n"}, PART]
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}
SIMPLE = {"foreign": "ឆ្មា។", "prompt": "Translate to English.", "completion": "A cat."}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (SIMPLE, {}),
        ({"messages": [{"role": "user", "content": ASKED}, ANSWER]}, {}),
        ({"prompt": [{"role": "user", "content": ASKED}], "completion": [ANSWER]}, {}),
        (
            {"instruction": "Translate to English.", "input": "ឆ្មា។", "output": "A cat."},
            {"prompt": "instruction", "foreign": "input", "completion": "output"},
        ),
    ],
    ids=["plain", "messages", "prompt-completion", "mapping"],
)
def test_rows_as_they_come_are_one_example(row, columns):
    wanted, _ = tokenize_instructions(processor(), instruction_dataset([SIMPLE]), 768)
    for given in ([row], Dataset.from_list([row]), IterableDataset.from_generator(lambda: iter([row]))):
        made = instruction_dataset(given, **columns)
        assert made["english"][:] == ["A cat."], "a translation is its own reference"
        assert tokenize_instructions(processor(), made, 768)[0] == wanted
        assert instruction_dataset(made).to_list() == made.to_list()


def test_conversations_keep_their_turns_and_literal_placeholders():
    system = {"role": "system", "content": "Be brief."}
    first = {"role": "user", "content": [{"type": "text", "text": "What is <foreign_emb>? "}, PART]}
    row = {
        "messages": [
            system,
            first,
            {"role": "assistant", "content": "A mark."},
            {"role": "user", "content": "And?"},
            ANSWER,
        ]
    }
    made = instruction_dataset([row, SIMPLE])
    (example, _), _ = tokenize_instructions(processor(), made, 768)
    ids = processor().render(row["messages"][:-1])[0]
    assert example["input_ids"][: len(ids)] == ids
    assert processor().tokenizer.decode([t for t in example["labels"] if t != -100]).startswith("A cat.")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [{"role": "user", "content": ASKED}]}, "do not end in"),
        ({"messages": [{"role": "user", "content": "No passage."}, ANSWER]}, "hold no foreign text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, ANSWER]}, "is not a role with a string"),
        ({"instruction": "a", "input": "b", "output": "c"}, "say which is what"),
        ({"en": "a", "km": "b"}, "translation_instructions"),
    ],
    ids=str,
)
def test_rows_that_are_none_are_refused(row, said):
    with pytest.raises(DataError, match=f"Row 0.*{said}"):
        instruction_dataset([row])


def test_wrong_names_are_refused():
    with pytest.raises(DataError, match=r"\['answer'\] are no columns"):
        instruction_dataset([SIMPLE], answer="completion")
    with pytest.raises(DataError, match="several splits"):
        instruction_dataset(DatasetDict(train=Dataset.from_list([SIMPLE])))


def test_names_of_rows_are_no_indonesian():
    rows = {"id": ["a", "b"], "english": EN, "text": KM}
    with pytest.raises(DataError, match=r"lacks the columns \['foreign'\]"):
        pair_dataset(Dataset.from_dict(rows))
    assert pair_dataset(Dataset.from_dict(rows), english="english", foreign="text")["foreign"][:] == KM
