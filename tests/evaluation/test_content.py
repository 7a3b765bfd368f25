"""Do answers say what the text says: each measure against what it should see, and the command."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from llink.cli import main
from llink.data.errors import DataError
from llink.evaluation.content import MEASURES, RESTATE, agreement, content_scores, reference_losses
from llink.evaluation.outputs import OutputRow, write_outputs

TEXTS = ["He left at 7.", "A child goes to school.", "The train was 5 minutes late.", "Rice costs $3."]


def answered(outputs):
    return [
        OutputRow(f"r{place}", "", [f"ក{place}"], "<foreign_emb>", reference, "", output)
        for place, (reference, output) in enumerate(zip(TEXTS, outputs, strict=True))
    ]


@pytest.fixture
def seeing(model, monkeypatch):
    """A model whose encoder knows that the passages say what the references say."""
    known = {f"ក{place}": text for place, text in enumerate(TEXTS)}

    def vectors(texts, batch_size):
        rows = []
        for text in texts:
            seed = sum(map(ord, known.get(text, text)))
            rows.append(torch.randn(16, generator=torch.Generator().manual_seed(seed)))
        return torch.stack(rows)

    monkeypatch.setattr(model, "get_pooled_features", vectors)
    return model


def test_right_answers_are_told_from_anothers(seeing):
    systems = {"right": answered(TEXTS), "another's": answered([*TEXTS[1:], TEXTS[0]]), "none": answered([""] * 4)}
    found = content_scores(seeing, systems, resamples=50)["systems"]
    assert (found["right"]["finds_source"], found["another's"]["finds_source"], found["none"]["finds_source"]) == (
        1,
        0,
        0,
    )
    assert found["right"]["nearness"] > 0.5 > found["none"]["nearness"] == 0 > found["another's"]["nearness"]
    assert (found["right"]["chrf"], found["right"]["literals"], found["another's"]["literals"]) == (100, 1, 0)
    low, high = found["another's"]["intervals"]["chrf"]
    assert low < found["another's"]["chrf"] < high
    assert found["none"]["reference_gain"] == pytest.approx(0, abs=1e-5), "all rows have the same answer"
    assert found["right"]["n"] == 4


def test_a_reference_is_likelier_after_itself_where_the_decoder_copies(seeing, monkeypatch):
    monkeypatch.setattr(
        "llink.evaluation.content.reference_losses",
        lambda model, answers, references, *_: torch.tensor(
            [0.5 if answer == reference else 2.0 for answer, reference in zip(answers, references, strict=True)]
        ),
    )
    found = content_scores(seeing, {"right": answered(TEXTS), "wrong": answered(["x"] * 4)}, resamples=0)["systems"]
    assert (found["right"]["reference_gain"], found["wrong"]["reference_gain"]) == (1.5, 0)
    assert "intervals" not in found["right"]


def test_likelihoods_are_the_base_decoders_padded_or_not(model, base_folder):
    answers = ["A", "Another answer, a longer one.", ""]
    found = reference_losses(model, answers, TEXTS[:3], batch_size=3)
    assert found == pytest.approx(reference_losses(model, answers, TEXTS[:3], batch_size=1), abs=1e-4)
    processor, tokenizer = model.processor, model.processor.tokenizer
    prompt = processor.render([{"role": "user", "content": f"{answers[1]}\n\n{RESTATE}"}])[0]
    end = tokenizer.encode(TEXTS[1], add_special_tokens=False)
    ids = torch.tensor([prompt + end])
    labels = torch.tensor([[-100] * len(prompt) + end])
    base = AutoModelForCausalLM.from_pretrained(base_folder("decoder", "llama"))
    with torch.no_grad():
        assert base(input_ids=ids, labels=labels).loss.item() == pytest.approx(found[1].item(), abs=1e-4)


def test_what_no_model_can_be_given_is_no_answer(model):
    found = content_scores(model, {"odd": answered(["a\0b", "\0", "\u200b", "x"])}, resamples=0)["systems"]["odd"]
    assert found["n"] == 4
    assert found["finds_source"] <= 0.5, "two of them say nothing"


def test_agreement_is_of_ranks_over_the_rows_that_have_both():
    rising = np.arange(6.0)
    values = np.stack([rising, rising**3, -rising, np.ones(6), np.where(rising < 3, np.nan, rising)], axis=1)
    found = agreement(values)
    gain, finds, nearness, chrf, literals = MEASURES
    assert found[gain][finds] == pytest.approx(1)
    assert found[finds][nearness] == pytest.approx(-1)
    assert found[gain][chrf] is None, "one that never changes agrees with nothing"
    assert found[literals][gain] == pytest.approx(1)


def test_one_row_is_refused(model):
    with pytest.raises(DataError, match="give two at least"):
        content_scores(model, {"one": answered(TEXTS)[:1]})


def test_the_command_writes_a_record_and_a_picture(model, tmp_path, capsys):
    model.save_pretrained(tmp_path / "model", self_contained=True)
    files = []
    for name, outputs in (("right", TEXTS), ("empty", ["", "x", "", ""])):
        files.append(str(tmp_path / f"{name}.jsonl"))
        write_outputs(files[-1], answered(outputs))
    command = ["eval", "content", "--model", str(tmp_path / "model"), "--outputs", *files, "--limit", "3"]
    assert main([*command, "--output-dir", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "Spearman" in said
    record = json.loads((tmp_path / "out" / "content.json").read_text())
    assert record["results"]["systems"]["right"]["n"] == 3
    assert record["results"]["systems"]["right"]["chrf"] == pytest.approx(100)
    assert (tmp_path / "out" / "content.png").stat().st_size > 1000
    assert main([*command[:-1], "0"]) == 2
    assert "--limit" in capsys.readouterr().err
