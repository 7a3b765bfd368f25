"""Stage A on the real model: tiny random bases, the real encoder, teacher, projector and checkpoints."""

import pytest
import tiny
import torch
from align_fakes import Kill, config, losses
from datasets import Dataset

from llink.evaluation.retrieval import retrieval_metrics
from llink.modeling_llink import LlinkForCausalLM
from llink.trainers.align_trainer import AlignTrainer


def real_pairs(numbers) -> Dataset:
    """Sentences that differ in their words, for tokenizers that read letters."""
    words = ["cat", "dog", "mat", "rice", "noon", "book", "school", "house"]
    foreign = ["ឆ្មា", "ឆ្កែ", "កន្ទេល", "បាយ", "ថ្ងៃ", "សៀវភៅ", "សាលា", "ផ្ទះ"]
    numbers = list(numbers)

    def sentence(vocabulary, k):
        return " ".join([vocabulary[k % 8], vocabulary[k // 8 % 8], str(k)])

    return Dataset.from_dict(
        {
            "id": [f"pair-{k}" for k in numbers],
            "english": [sentence(words, k) for k in numbers],
            "foreign": [sentence(foreign, k) for k in numbers],
        }
    )


def real_trainer(folder, model, **changes) -> AlignTrainer:
    return AlignTrainer(model, config(folder, **changes), real_pairs(range(48)), real_pairs(range(100, 116)))


@pytest.mark.parametrize("conditioning", ["none", "center", "whiten"])
def test_the_real_model_trains_only_its_projector(tmp_path, make_model, conditioning):
    model = make_model(teacher_conditioning=conditioning, teacher_components=8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = real_trainer(tmp_path, model, num_train_epochs=8, learning_rate=5e-3, eval_strategy="no")
    untrained = run.evaluate()
    with tiny.count_calls(model.encoder) as encoder_calls, tiny.count_calls(model.decoder.base_model) as decoder_calls:
        run.train()
        trained = run.evaluate()
    assert (len(encoder_calls), len(decoder_calls)) == (0, 0)  # evaluate() had computed all features
    changed = {n.split(".")[0] for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed - {"teacher_space"} == {"projector"}
    assert trained["eval_loss"] < untrained["eval_loss"]
    metrics = retrieval_metrics(
        model.get_foreign_features(list(run.eval_dataset["foreign"])),
        model.get_teacher_features(list(run.eval_dataset["english"])),
    )
    assert metrics["mrr"] == pytest.approx(trained["eval_mrr"])  # one path, in training and inference


def test_the_real_model_resumes_and_reloads(tmp_path, make_model):
    options = {"save_strategy": "steps", "save_steps": 4, "num_train_epochs": 2}
    options |= {"eval_strategy": "steps", "eval_steps": 4, "load_best_model_at_end": True}
    options |= {"metric_for_best_model": "loss", "logging_steps": 1}
    build = {"teacher_conditioning": "whiten", "teacher_components": 8, "projector_dropout": 0.2}
    whole = real_trainer(tmp_path / "whole", make_model(**build), **options)
    whole.train()
    killed = real_trainer(tmp_path / "killed", make_model(**build), **options)
    killed.add_callback(Kill(6))
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    other = make_model(**build)
    other.projector.up.weight.data.zero_()
    resumed = real_trainer(tmp_path / "killed", other, **options)
    resumed.train(resume_from_checkpoint=True)
    assert {s: v for s, v in losses(resumed).items() if s > 4} == {s: v for s, v in losses(whole).items() if s > 4}
    assert len(losses(whole)) == 12
    resumed.save_model()
    reloaded = LlinkForCausalLM.from_pretrained(resumed.args.output_dir)
    texts = ["ឆ្មា 5", "បាយ"]
    assert torch.equal(reloaded.get_foreign_features(texts), whole.llink_model.get_foreign_features(texts))
    assert torch.equal(reloaded.get_teacher_features(["a cat"]), whole.llink_model.get_teacher_features(["a cat"]))
    assert reloaded.config.stage == "align"


def test_the_card_describes_the_whole_model_and_keeps_earlier_text(tmp_path, make_model):
    run = real_trainer(tmp_path, make_model(), max_steps=1)
    run.train()
    run.create_model_card(model_name="small")
    card = tmp_path / "README.md"
    assert "small" in card.read_text()
    assert run.model is run.llink_model.projector
    assert "1 rows" not in card.read_text(), "vacuous unless the counts are its own"
    assert f"{len(run.train_dataset)} rows" in card.read_text()
    card.write_text("written by hand")
    run.create_model_card(model_name="small")
    assert "written by hand" in card.read_text()
    assert "# small" in card.read_text()
