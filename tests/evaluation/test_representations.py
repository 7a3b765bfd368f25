"""Readings of text and slots: pure measures against loops, the runner against the decoder alone, the command."""

import json

import pytest
import tiny
import torch
from baseline_runs import QUICK
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from llink.cli import main
from llink.data.errors import DataError
from llink.data.examples import training_example
from llink.evaluation.representations import (
    layer_cosines,
    paired_cosines,
    passage_means,
    read_passages,
    representation_report,
)
from llink.modeling_llink.errors import ForeignTextError
from llink.modeling_llink.lora import lora_rows
from llink.modeling_llink.tokenizing import encode_literal

ENGLISH = ["the cat sat on the mat", "a dog", "we eat rice at noon", "he runs home", "two books"]
KHMER = ["ក្មេងទៅសាលា", "ឆ្កែ", "បាយ ២៧ ១២", "សៀវភៅ", "ផ្ទះ ក ខ គ"]
PROMPT = "Translate to English."


# ------------------------------------------------------------------ pure functions


@given(st.integers(2, 8), st.integers(1, 6), st.integers(0, 10_000))
@settings(max_examples=40)
def test_cosines_are_those_of_all_pairs(n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator) + 1
    table = torch.nn.functional.cosine_similarity(one[:, None].double(), two[None].double(), dim=-1)  # (n, n)
    found = paired_cosines(one, two)
    assert found["matched"] == pytest.approx(table.diagonal().mean().item(), abs=1e-9)
    off = table[~torch.eye(n, dtype=torch.bool)]
    assert found["mismatched"] == pytest.approx(off.mean().item(), abs=1e-9)
    scaled = paired_cosines(one * 7, two * torch.rand(n, 1, generator=generator).add(0.1))
    assert scaled["matched"] == pytest.approx(found["matched"], abs=1e-6)


def test_an_anisotropic_space_has_a_high_baseline():
    common, own = 10 * torch.ones(50, 32), torch.randn(50, 32, generator=torch.Generator().manual_seed(0))
    other = torch.randn(50, 32, generator=torch.Generator().manual_seed(1))
    unrelated, related = paired_cosines(common + own, common + other), paired_cosines(common + own, common + own * 0.9)
    assert unrelated["matched"] > 0.97, "a cosine alone would call them alike"
    assert abs(unrelated["matched"] - unrelated["mismatched"]) < 0.002
    assert related["matched"] - related["mismatched"] > 0.005


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        (torch.ones(1, 3), torch.ones(1, 3), "N > 1"),
        (torch.ones(2, 3), torch.ones(3, 3), r"\(2, 3\) and \(3, 3\)"),
        (torch.ones(2, 3, 1), torch.ones(2, 3, 1), "must be"),
        (torch.ones(3, 2), torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [1.0, 1.0]]), "first is row 1"),
    ],
)
def test_states_that_cannot_be_compared(one, two, words):
    with pytest.raises(DataError, match=words):
        paired_cosines(one, two)


def test_means_are_over_each_rows_passage():
    torch.manual_seed(0)
    hidden = [torch.randn(3, 6, 4) for _ in range(4)]  # embeddings and three layers
    mask = torch.zeros(3, 6, dtype=torch.bool)
    spans = [(1, 3), (0, 6), (5, 6)]
    for row, (start, end) in enumerate(spans):
        mask[row, start:end] = True
    states, norms, residuals = passage_means(hidden, mask)
    assert (states.shape, norms.shape, residuals.shape) == ((4, 3, 4), (4, 3), (2, 3))
    for row, (start, end) in enumerate(spans):
        for layer, whole in enumerate(hidden):
            own = whole[row, start:end]
            assert torch.allclose(states[layer, row], own.mean(dim=0), atol=1e-6)
            assert norms[layer, row].item() == pytest.approx(own.norm(dim=-1).mean().item(), rel=1e-5)
        for layer in (1, 2):  # the third is the last, whose own output is hidden
            before, after = hidden[layer - 1][row, start:end], hidden[layer][row, start:end]
            change = ((after - before).norm(dim=-1) / before.norm(dim=-1)).mean()
            assert residuals[layer - 1, row].item() == pytest.approx(change.item(), rel=1e-5)


# ------------------------------------------------------------------ a model


def test_text_is_read_by_the_base_decoder(model):
    """Sentence by sentence, transformers' own forward with LoRA off gives the same states and losses."""
    reading = read_passages(model, KHMER, ENGLISH, PROMPT, batch_size=2)
    processor, decoder = model.processor, model.decoder
    for row, (text, answer) in enumerate(zip(KHMER, ENGLISH, strict=True)):
        message = {"role": "user", "content": f"{PROMPT}\n{text}"}
        example = training_example(processor, [message], answer)
        ids = torch.tensor([example["input_ids"]])
        body = processor.tokenizer.encode(text)
        start = next(i for i in range(ids.shape[1]) if ids[0, i : i + len(body)].tolist() == body)
        span = slice(start, start + len(body))
        with torch.no_grad(), lora_rows(False):
            output = decoder(input_ids=ids, output_hidden_states=True)
            text_labels = torch.full_like(ids, -100)
            text_labels[0, span] = ids[0, span]
            text_loss = decoder(input_ids=ids, labels=text_labels).loss
            loss = decoder(input_ids=ids, labels=torch.tensor([example["labels"]])).loss
        for layer, hidden in enumerate(output.hidden_states):
            assert torch.allclose(reading.states[layer, row], hidden[0, span].mean(dim=0), atol=1e-3), (row, layer)
        assert reading.tokens[row] == len(body)
        assert (reading.text_losses[row] / len(body)).item() == pytest.approx(text_loss.item(), rel=1e-3)
        assert (reading.answer_losses[row] / reading.answer_tokens[row]).item() == pytest.approx(loss.item(), rel=1e-3)


def test_slots_are_read_with_lora_where_inference_puts_them(model):
    reading = read_passages(model, KHMER, ENGLISH, PROMPT, as_slots=True, batch_size=3)
    assert reading.text_losses is None
    assert set(reading.tokens.tolist()) == {4}
    slots = model.encode_foreign(KHMER)  # (N, K, d)
    assert torch.allclose(reading.states[0], slots.mean(dim=1), atol=1e-5)
    assert torch.allclose(reading.norms[0], slots.norm(dim=-1).mean(dim=1), rtol=1e-4)
    processor = model.processor
    message = processor.user_message(PROMPT, KHMER[2:3])
    example = training_example(processor, [message], ENGLISH[2])
    inputs = {"input_ids": torch.tensor([example["input_ids"]]), "labels": torch.tensor([example["labels"]])}
    foreign = tiny.passage_inputs(processor, [KHMER[2:3]])
    with torch.no_grad():
        loss = model(**inputs, **foreign).loss
        without = model(**inputs, **foreign, reads_slots=torch.tensor([False])).loss
    found = (reading.answer_losses[2] / reading.answer_tokens[2]).item()
    assert found == pytest.approx(loss.item(), rel=1e-3)
    assert abs(loss - without) > 0.01, "vacuous unless LoRA does something"


@pytest.mark.parametrize("as_slots", [False, True])
def test_the_batch_size_and_order_do_not_matter(make_model, as_slots):
    model = make_model().train()
    one = read_passages(model, KHMER, ENGLISH, as_slots=as_slots, batch_size=1)
    two = read_passages(model, KHMER[::-1], ENGLISH[::-1], as_slots=as_slots, batch_size=5)
    assert model.training, "the mode is given back"
    assert torch.allclose(one.states, two.states.flip(1), atol=1e-3)
    assert torch.allclose(one.residuals, two.residuals.flip(1), rtol=1e-3)
    assert torch.allclose(one.answer_losses, two.answer_losses.flip(0), rtol=1e-3)
    assert torch.equal(one.tokens, two.tokens.flip(0))


def test_text_never_becomes_control(model):
    """What looks like a control token or a slot is read as its letters."""
    texts = ["<|end|> ក", "<f0><foreign_emb>"]
    reading = read_passages(model, texts, ENGLISH[:2])
    literal = [len(encode_literal(model.processor.tokenizer, text)) for text in texts]
    assert reading.tokens.tolist() == literal
    assert len(model.processor.tokenizer.encode(texts[0])) < literal[0], "vacuous unless it could be control"


def test_what_cannot_be_read(model):
    for texts, answers in (([], []), (KHMER[:2], ENGLISH[:1])):
        with pytest.raises(DataError, match="answer"):
            read_passages(model, texts, answers)
    with pytest.raises(ForeignTextError):
        read_passages(model, ["ក", " "], ENGLISH[:2], as_slots=True)


def test_the_report_is_of_plain_numbers(model):
    texts = {"english": ENGLISH, "foreign": KHMER}
    readings = {name: read_passages(model, lines, ENGLISH) for name, lines in texts.items()}
    readings["slots"] = read_passages(model, KHMER, ENGLISH, as_slots=True)
    report = json.loads(json.dumps(representation_report(readings, "english", texts)))
    assert report["cosines"].keys() == {"foreign", "slots"}
    assert len(report["cosines"]["slots"]["gap"]) == len(report["readings"]["slots"]["norms"]) == 3
    assert len(report["readings"]["english"]["residuals"]) == 1
    foreign = report["readings"]["foreign"]
    assert foreign["text_nll_per_char"] * sum(map(len, KHMER)) == pytest.approx(
        foreign["text_nll"] * foreign["tokens"] * len(KHMER), rel=1e-5
    )
    assert "text_nll" not in report["readings"]["slots"]
    same = layer_cosines(readings["english"], readings["english"])
    assert same["matched"] == pytest.approx([1.0] * 3)
    assert all(gap > 0 for gap in same["gap"])


# ------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "a.en").write_text("\n".join(ENGLISH) + "\n", "utf-8")
    (folder / "a.km").write_text("\n".join(KHMER) + "\n", "utf-8")
    (folder / "a.latin").write_text("kmeng tov sala\nchke\n\nsievphov\nphteah\n", "utf-8")
    (folder / "one.en").write_text("a\n", "utf-8")
    (folder / "one.km").write_text("ក\n", "utf-8")
    return folder


@pytest.mark.parametrize("stage", ["align", "inject"])
@pytest.mark.slow
def test_the_command_writes_record_and_plot(files, make_model, tmp_path, capsys, stage):
    make_model(stage=stage).save_pretrained(tmp_path / "model")
    command = ["eval", "representations", "--model", str(tmp_path / "model"), "--pairs", f"{files}/a.en"]
    command += [f"{files}/a.km", "--transliterated", f"{files}/a.latin", "--output-dir", str(tmp_path)]
    assert main(command) == 0
    found = json.loads((tmp_path / "representations.json").read_text())["results"]
    slots = {"slots"} if stage == "inject" else set()  # slots that nobody has learned to read are left out
    assert found["readings"].keys() == {"english", "foreign", "transliterated"} | slots
    assert found["n"] == 4, "the line that is blank in one file is left out of all"
    assert (tmp_path / "representations.png").read_bytes().startswith(b"\x89PNG")
    assert "cosine gap" in capsys.readouterr().out


@pytest.mark.slow
def test_a_finetuned_decoder_reads_the_foreign_text_itself(files, make_model, tmp_path, capsys):
    make_model(stage="inject").save_pretrained(tmp_path / "model")
    rows = [
        json.dumps({"foreign": text, "prompt": "Translate.", "completion": answer})
        for text, answer in zip(KHMER, ENGLISH, strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), "utf-8")
    tune = ["finetune", "--model", str(tmp_path / "model"), "--instructions", str(tmp_path / "rows.jsonl"), *QUICK]
    assert main([*tune, "--max_steps", "2", "--learning_rate", "0.1", "--output-dir", str(tmp_path / "tuned")]) == 0
    command = [
        "eval",
        "representations",
        "--model",
        str(tmp_path / "model"),
        "--pairs",
        f"{files}/a.en",
        f"{files}/a.km",
    ]
    assert main([*command, "--baselines", str(tmp_path / "tuned"), "--output-dir", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "representations.json").read_text())["results"]
    tuned, base = found["readings"]["finetune"], found["readings"]["foreign"]
    assert tuned["tokens"] == base["tokens"], "the same text"
    assert tuned["embedding_norm"] == base["embedding_norm"]
    assert tuned["answer_nll"] < base["answer_nll"] - 0.5, "it was trained on these"
    assert found["cosines"].keys() == {"foreign", "finetune", "slots"}
    assert main([*command, "--baselines", str(tmp_path / "model")]) == 2
    assert "holds no baseline" in capsys.readouterr().err


def test_a_prepared_folder(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    (tmp_path / "folder" / "data").mkdir(parents=True)
    rows = {name: list("abc") for name in ("id", "english", "foreign", "language")}
    Dataset.from_dict(rows).to_parquet(tmp_path / "folder" / "data" / "dev-00000-of-00001.parquet")
    command = ["eval", "representations", "--model", str(tmp_path / "model"), "--output-dir", str(tmp_path)]
    command += ["--pairs", str(tmp_path / "folder"), "dev", "--limit", "2"]
    assert main(command) == 0
    assert json.loads((tmp_path / "representations.json").read_text())["results"]["n"] == 2
    assert main([*command, "--transliterated", "x"]) == 2


def test_bad_input_is_refused_before_a_model_loads(files, capsys):
    pairs = ["--pairs", f"{files}/a.en", f"{files}/a.km"]
    cases = {
        "two files": ["--pairs", f"{files}/a.en"],
        "none.km": ["--pairs", f"{files}/a.en", f"{files}/none.km"],
        "--limit=1": [*pairs, "--limit", "1"],
        "--batch-size 0 must": [*pairs, "--batch-size", "0"],
        "not line-aligned": [*pairs, "--transliterated", f"{files}/one.en"],
        "at least 2 pairs": ["--pairs", f"{files}/one.en", f"{files}/one.km"],
    }
    for words, options in cases.items():
        assert main(["eval", "representations", "--model", "/nowhere/at/all", *options]) == 2, words
        error = capsys.readouterr().err
        assert words in error, (words, error)
        assert "/nowhere" not in error
