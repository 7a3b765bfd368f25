"""Instruction rows: read with every error named, tokenised as inference renders them."""

import json

import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from llink.data.collators import FeatureBank, InstructionTensors, distinct, tokenize_instructions
from llink.data.errors import DataError
from llink.data.instructions import instruction_dataset, read_instructions
from llink.modeling_llink.processing_llink import LlinkProcessor

ROW = {"foreign": "ក្មេងទៅសាលា", "prompt": "Translate.\n<foreign_emb>", "completion": "Children go to school."}
BROKEN = {
    "a list": ["x"],
    "no foreign": {k: v for k, v in ROW.items() if k != "foreign"},
    "no prompt": {**ROW, "prompt": None},
    "no completion": {**ROW, "completion": ""},
    "white completion": {**ROW, "completion": "  "},
    "a number": {**ROW, "completion": 5},
    "empty foreign": {**ROW, "foreign": ""},
    "white foreign": {**ROW, "foreign": " \n"},
    "NUL": {**ROW, "foreign": "a\0b"},
    "foreign a number": {**ROW, "foreign": 7},
    "no passages": {**ROW, "foreign": []},
    "None among them": {**ROW, "foreign": ["a", None], "prompt": "<foreign_emb><foreign_emb>"},
    "two placeholders": {**ROW, "prompt": "<foreign_emb> <foreign_emb>"},
    "two passages": {**ROW, "foreign": ["a", "b"]},
}


def write(path, *lines) -> str:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines), "utf-8")
    return str(path)


def processor(num_slots=3) -> LlinkProcessor:
    return LlinkProcessor(tiny.decoder_tokenizer("llama"), tiny.encoder_tokenizer("xlm-roberta"), num_slots=num_slots)


def test_reading(tmp_path):
    several = {"foreign": ["a", "b"], "prompt": "<foreign_emb> or <foreign_emb>?", "completion": "a", "id": 9}
    path = write(tmp_path / "rows.jsonl", ROW, "\n", {**several, "task": "qa_about_text", "english": "A"})
    rows = read_instructions(path)
    assert rows.column_names == ["id", "foreign", "prompt", "completion", "task", "english"]
    assert rows["foreign"] == [[ROW["foreign"]], ["a", "b"]]
    assert rows["id"] == ["0", "9"]
    assert rows["english"] == [ROW["completion"], "A"], "a translation is its own reference"
    assert instruction_dataset(rows).to_list() == rows.to_list()


def test_lines_end_only_where_json_lines_end(tmp_path):
    strange = {**ROW, "completion": "one\u2028two\u0085three\u000bfour"}
    path = tmp_path / "rows.jsonl"
    lines = json.dumps(strange, ensure_ascii=False) + "\r\n" + json.dumps(ROW) + "\r\n"
    path.write_text(lines, "utf-8-sig", newline="")  # a byte order mark is no text
    assert read_instructions(path)["completion"] == [strange["completion"], ROW["completion"]]


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_row_is_named(tmp_path, broken):
    path = write(tmp_path / "rows.jsonl", ROW, ROW, broken)
    with pytest.raises(DataError, match="line 3"):
        read_instructions(path)
    if isinstance(broken, dict):
        with pytest.raises(DataError, match="Row 1"):
            instruction_dataset([ROW, broken])


def test_broken_files(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_instructions(tmp_path / "missing.jsonl")
    with pytest.raises(DataError, match="no rows"):
        read_instructions(write(tmp_path / "empty.jsonl", "\n\n"))
    with pytest.raises(DataError, match="line 2"):
        read_instructions(write(tmp_path / "cut.jsonl", ROW, '{"foreign": "a'))
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(ROW).encode() + b"\n" + b'{"foreign": "\xe9"}\n')
    with pytest.raises(DataError, match="line 2"):
        read_instructions(tmp_path / "latin.jsonl")
    with pytest.raises(DataError):
        instruction_dataset([])


def test_tokenising_masks_all_but_the_answer():
    made, cut = tokenize_instructions(processor(), instruction_dataset([ROW]), 768)
    answer = [i for i in made[0]["labels"] if i != -100]
    assert processor().tokenizer.decode(answer) == "Children go to school.<|end|>"
    assert cut == 0
    prompt = processor()("Translate.", ROW["foreign"])["input_ids"][0].tolist()
    assert made[0]["input_ids"] == prompt + answer


def test_long_answers_are_cut_and_counted_and_long_prompts_refused(caplog):
    rows = instruction_dataset([ROW, {**ROW, "completion": "word " * 300}, {**ROW, "id": "far"}])
    made, cut = tokenize_instructions(processor(), rows, 60)
    assert cut == 1
    assert [len(row["input_ids"]) <= 60 for row in made] == [True] * 3
    assert "1 of 3" in caplog.text
    with pytest.raises(DataError, match="max_length=5"):
        tokenize_instructions(processor(), rows, 5)


def test_distinct():
    assert distinct(["b", "a", "b"]) == (["b", "a"], {"b": 0, "a": 1})


def tensors(passages, total) -> InstructionTensors:
    examples = [{"input_ids": list(range(3 + n)), "labels": [-100] * 3 + [5] * n} for n in range(len(passages))]
    features = torch.arange(total, dtype=torch.float).unsqueeze(1).repeat(1, 4)
    return InstructionTensors(
        examples,
        FeatureBank(list(map(str, range(total))), [1] * total, features),
        passages,
        torch.zeros(len(passages), 4),
        torch.arange(len(passages)),
        pad_token_id=99,
        render=lambda row, others: examples[row],
    )


@given(st.data())
def test_shuffled_passages_are_never_the_rows_own(data):
    total = data.draw(st.integers(2, 12))
    widths = st.integers(1, max(1, total // 2))
    row = st.lists(st.integers(0, total - 1), min_size=1, max_size=data.draw(widths), unique=True)
    passages = data.draw(st.lists(row, min_size=1, max_size=6))
    batch = tensors(passages, total).collate(list(range(len(passages))))
    for index, own in enumerate(passages):
        shuffled = batch["shuffled"]["foreign_features"][index, : len(own), 0].long().tolist()
        assert not set(shuffled) & set(own), (own, shuffled)
        assert batch["foreign"]["foreign_features"][index, : len(own), 0].long().tolist() == own
        assert batch["foreign"]["foreign_mask"][index].tolist() == [True] * len(own) + [False] * (
            batch["foreign"]["foreign_mask"].shape[1] - len(own)
        )


def test_shuffled_passages_are_the_same_at_every_visit():
    bank = tensors([[i] for i in range(9)], 9)
    one, two = bank.collate([4, 2]), bank.collate([2, 8, 4])
    shuffled = [batch["shuffled"]["foreign_features"] for batch in (one, two)]
    assert torch.equal(shuffled[0][0], shuffled[1][2])
    assert len({int(bank.collate([i])["shuffled"]["foreign_features"][0, 0, 0]) for i in range(9)}) > 1


def test_batches_are_padded_on_the_right():
    batch = tensors([[0], [1, 2]], 3).collate([0, 1])
    assert batch["input_ids"].tolist() == [[0, 1, 2, 99], [0, 1, 2, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[-100] * 4, [-100, -100, -100, 5]]
    assert batch["foreign"]["foreign_mask"].tolist() == [[True, False], [True, True]]


def test_a_dataset_of_plain_strings_is_brought_into_shape():
    assert instruction_dataset(Dataset.from_list([ROW]))["foreign"] == [[ROW["foreign"]]]


def test_without_a_placeholder_the_passages_follow_the_prompt():
    rows = instruction_dataset([{**ROW, "prompt": "Translate."}, {**ROW, "prompt": "Translate.\n<foreign_emb>"}])
    (plain, placed), _ = tokenize_instructions(processor(), rows, 768)
    assert plain == placed
