"""The direct fine-tune: what it trains, that prompts and LoRA are llink's, equivalences, files, errors."""

import json
from dataclasses import fields

import pytest
import torch
from baseline_runs import QUICK, fit, loss_by_hand, losses_of, quick, rows
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from llink.baselines.direct import load_adapter, load_direct, new_direct
from llink.cli import main
from llink.configuration_llink import LlinkConfig, LlinkConfigError
from llink.data.errors import DataError
from llink.data.instructions import instruction_dataset
from llink.evaluation.systems import RawTextSystem
from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.errors import LlinkCheckpointError
from llink.modeling_llink.lora import lora_modules, lora_parameters
from llink.trainers.errors import TrainingError
from llink.trainers.finetune_config import FinetuneConfig
from llink.trainers.finetune_trainer import FinetuneTrainer
from llink.trainers.inject_config import BEST, InjectConfig


@pytest.fixture(scope="module")
def llink_folder(make_model, tmp_path_factory):
    """A light llink checkpoint whose LoRA is trained (awake) and has no dropout."""
    folder = tmp_path_factory.mktemp("llink")
    make_model(lora_dropout=0.0).save_pretrained(folder)
    return folder


@pytest.fixture
def train(llink_folder, tmp_path):
    def run(name="run", folder=None, resume=None, eval_dataset=None, dataset=None, **options):
        set_seed(0)
        decoder, processor = new_direct(folder or llink_folder)
        args = quick(FinetuneConfig, tmp_path / name, **options)
        return fit(FinetuneTrainer, decoder, args, processor, dataset, eval_dataset, resume)

    return run


@pytest.fixture(scope="module")
def trained_folder(llink_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ft")
    decoder, processor = new_direct(llink_folder)
    trainer = fit(FinetuneTrainer, decoder, quick(FinetuneConfig, folder), processor)
    trainer.save_model()
    return folder


def lora_of(decoder) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in lora_parameters(decoder)]


# ------------------------------------------------------------------ what is compared


def test_lora_is_llinks_and_untrained(llink_folder):
    model = LlinkForCausalLM.from_pretrained(llink_folder)
    assert any(m.lora_B["default"].weight.any() for _, m in lora_modules(model.decoder)), "vacuous unless trained"
    decoder, _ = new_direct(llink_folder)
    assert [(name, m.r, m.scaling) for name, m in lora_modules(decoder)] == [
        (name, m.r, m.scaling) for name, m in lora_modules(model.decoder)
    ]
    assert not any(m.lora_B["default"].weight.any() for _, m in lora_modules(decoder))
    assert all(m.lora_A["default"].weight.any() for _, m in lora_modules(decoder))


def test_lora_settings_default_to_those_of_the_configuration(make_model, tmp_path):
    make_model(awake=False).save_pretrained(tmp_path)
    adapter = new_direct(tmp_path)[0].peft_config["default"]
    assert (adapter.r, adapter.lora_alpha, adapter.lora_dropout) == (
        LlinkConfig.lora_rank,
        LlinkConfig.lora_alpha,
        LlinkConfig.lora_dropout,
    )


def test_defaults_are_stage_bs():
    ours = {field.name: field.default for field in fields(FinetuneConfig)}
    stage_b = {field.name: field.default for field in fields(InjectConfig)} | BEST["mlp"]
    assert {name: (value, stage_b[name]) for name, value in ours.items() if value != stage_b[name]} == {}


@pytest.mark.parametrize("decoder", ["llama", "gpt2"])
def test_training_prompts_are_those_of_inference(make_model, base_folder, tmp_path, decoder):
    make_model(decoder=decoder).save_pretrained(tmp_path)
    model, processor = new_direct(tmp_path)
    dataset = instruction_dataset(rows(7))
    trainer = FinetuneTrainer(model, quick(FinetuneConfig, tmp_path), processor)
    system = RawTextSystem("finetune", model, processor)
    for row, example in zip(dataset, trainer.make_tensors(dataset).examples, strict=True):
        prompt = system.inputs([row])["input_ids"][0].tolist()
        answer = [i for i in example["labels"] if i != -100]
        assert example["input_ids"] == prompt + answer
        assert example["labels"][: len(prompt)] == [-100] * len(prompt)
        assert processor.decode(answer, skip_special_tokens=True).strip() == row["completion"]


def test_answers_are_labelled_as_in_stage_b(llink_folder, tmp_path):
    from llink.data.collators import tokenize_instructions

    dataset = instruction_dataset(rows(7))
    decoder, processor = new_direct(llink_folder)
    ours = FinetuneTrainer(decoder, quick(FinetuneConfig, tmp_path), processor).make_tensors(dataset).examples
    llink, _ = tokenize_instructions(LlinkForCausalLM.from_pretrained(llink_folder).processor, dataset, 768)
    answers = [[[i for i in e["labels"] if i != -100] for e in examples] for examples in (ours, llink)]
    assert answers[0] == answers[1]


# ------------------------------------------------------------------ training


def test_the_loss_falls_and_the_base_stays(llink_folder, base_folder, train):
    trainer = train(max_steps=30, eval_dataset=instruction_dataset(rows(6)))
    assert losses_of(trainer)[-1] < losses_of(trainer)[0] - 1
    base = AutoModelForCausalLM.from_pretrained(base_folder("decoder", "llama")).state_dict()
    own = {key.replace(".base_layer.", "."): value for key, value in trainer.model.state_dict().items()}
    assert all(torch.equal(own[key], value) for key, value in base.items())
    assert len(own) > len(base), "vacuous unless the decoder has an adapter"
    assert {p.dtype for p in lora_parameters(trainer.model)} == {torch.float32}
    assert not trainer.model.training


def test_accumulation_equals_the_big_batch(train):
    big, small = train("big"), train("small", per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert losses_of(small) == pytest.approx(losses_of(big), rel=1e-4)
    for one, other in zip(lora_of(big.model), lora_of(small.model), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    moved = [module.lora_B["default"].weight.abs().max() for _, module in lora_modules(big.model)]
    assert min(moved) > 1e-3, "vacuous unless the steps are large"


def test_the_first_loss_is_the_answers_mean_over_tokens(llink_folder, train):
    dataset = instruction_dataset(rows(8))
    trainer = train(dataset=dataset, max_steps=1)
    fresh, _ = new_direct(llink_folder)
    assert losses_of(trainer)[0] == pytest.approx(loss_by_hand(fresh, trainer, dataset), rel=1e-4)


@pytest.mark.parametrize("batch", [1, 5])
def test_evaluation_is_the_mean_over_tokens_of_the_whole_set(train, batch):
    held_out = instruction_dataset(rows(7))
    trainer = train(eval_dataset=held_out, per_device_eval_batch_size=batch)
    wanted = loss_by_hand(trainer.model, trainer, held_out)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-5)
    assert trainer.evaluate(held_out)["eval_loss"] == pytest.approx(wanted, rel=1e-5)


def test_a_resumed_run_ends_where_the_whole_one_does(train, tmp_path):
    options = dict(save_strategy="steps", save_steps=2, max_steps=4)
    whole = train("whole", **options)
    resumed = train("resumed", resume=str(tmp_path / "whole" / "checkpoint-2"), **options)
    assert losses_of(resumed)[-2:] == losses_of(whole)[-2:]
    for one, other in zip(lora_of(whole.model), lora_of(resumed.model), strict=True):
        assert torch.equal(one, other)


def test_the_best_model_is_loaded_at_the_end(train):
    options = dict(eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, max_steps=3)
    held_out = instruction_dataset(rows(6))
    trainer = train(eval_dataset=held_out, load_best_model_at_end=True, learning_rate=3.0, **options)
    seen = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert min(seen) < seen[-1], "vacuous unless the last one is not the best"
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(seen), rel=1e-5)


# ------------------------------------------------------------------ files


def test_what_is_saved_answers_as_what_was_trained(llink_folder, tmp_path):
    decoder, processor = new_direct(llink_folder)
    trainer = fit(FinetuneTrainer, decoder, quick(FinetuneConfig, tmp_path, max_steps=8), processor)
    trainer.save_model()
    loaded, own = load_direct(tmp_path)
    assert isinstance(own, type(processor))
    dataset = list(instruction_dataset(rows(7)))
    systems = [RawTextSystem("a", decoder, processor), RawTextSystem("b", loaded, own)]
    inputs = systems[0].inputs(dataset)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, decoder(**inputs).logits)
    answers = [system.answer(dataset, max_new_tokens=6) for system in systems]
    assert answers[0] == answers[1]
    assert answers[0] != RawTextSystem("c", *new_direct(llink_folder)).answer(dataset, max_new_tokens=6)


def test_others_read_the_adapter(trained_folder, base_folder):
    ours, processor = load_direct(trained_folder)
    inputs = RawTextSystem("ft", ours, processor).inputs(rows(4))
    tokenizer = AutoTokenizer.from_pretrained(trained_folder)
    assert tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    untouched = AutoModelForCausalLM.from_pretrained(base_folder("decoder", "llama"))
    with torch.no_grad():
        wanted = ours(**inputs).logits
        assert not torch.allclose(untouched(**inputs).logits, wanted, atol=1e-2), "vacuous unless trained"
        adapted = PeftModel.from_pretrained(untouched, trained_folder)
        for read in (AutoPeftModelForCausalLM.from_pretrained(trained_folder), adapted):
            assert torch.allclose(read(**inputs).logits, wanted, atol=1e-5)


def test_the_adapter_of_a_self_contained_model_names_the_decoder_inside(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "whole", self_contained=True)
    decoder, processor = new_direct(tmp_path / "whole")
    FinetuneTrainer(decoder, quick(FinetuneConfig, tmp_path / "ft"), processor).save_model()
    named = json.loads((tmp_path / "ft" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str((tmp_path / "whole" / "decoder").resolve())
    load_direct(tmp_path / "ft")


def test_lora_stays_in_float32_on_a_bfloat16_base(llink_folder, trained_folder):
    decoder, _ = load_direct(trained_folder, "bfloat16")
    assert decoder.dtype == torch.bfloat16
    assert {p.dtype for p in lora_parameters(decoder)} == {torch.float32}
    exact, _ = load_direct(trained_folder)
    assert all(torch.equal(a, b) for a, b in zip(lora_of(decoder), lora_of(exact), strict=True))


# ------------------------------------------------------------------ bad input


def test_other_arguments_and_processors_are_refused(llink_folder, tmp_path):
    decoder, processor = new_direct(llink_folder)
    with pytest.raises(LlinkConfigError, match="needs a FinetuneConfig"):
        FinetuneTrainer(decoder, quick(InjectConfig, tmp_path), processor)
    slots = LlinkForCausalLM.from_pretrained(llink_folder).processor
    with pytest.raises(LlinkConfigError, match="needs a RawTextProcessor"):
        FinetuneTrainer(decoder, quick(FinetuneConfig, tmp_path), slots)


@pytest.mark.parametrize(
    ("option", "value"), [("max_length", 0), ("remove_unused_columns", True), ("label_smoothing_factor", 0.1)]
)
def test_bad_arguments_are_refused(tmp_path, option, value):
    with pytest.raises(LlinkConfigError, match=option):
        quick(FinetuneConfig, tmp_path, **{option: value})


def test_a_prompt_that_fills_the_length_is_refused(train):
    with pytest.raises(DataError, match="r0"):
        train(max_length=8)


def test_a_loss_that_is_not_finite_names_its_rows(llink_folder, tmp_path):
    decoder, processor = new_direct(llink_folder)
    next(iter(lora_parameters(decoder))).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="r"):
        fit(FinetuneTrainer, decoder, quick(FinetuneConfig, tmp_path), processor)


def test_damaged_and_foreign_adapters_are_refused(trained_folder, make_model, tmp_path):
    with pytest.raises(LlinkCheckpointError, match=r"adapter_config\.json"):
        load_direct(tmp_path)
    other = tmp_path / "rank"
    make_model(lora_rank=3).save_pretrained(other)
    with pytest.raises(LlinkCheckpointError, match="does not fit"):
        load_adapter(new_direct(other)[0], trained_folder)
    cut = tmp_path / "cut"
    cut.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (cut / name).write_bytes((trained_folder / name).read_bytes())
    (cut / "adapter_model.safetensors").write_bytes((cut / "adapter_model.safetensors").read_bytes()[:200])
    with pytest.raises(LlinkCheckpointError, match="damaged"):
        load_direct(cut)


# ------------------------------------------------------------------ the command


def test_the_command_trains_resumes_and_refuses(llink_folder, tmp_path, capsys):
    file, output = tmp_path / "rows.jsonl", tmp_path / "ft"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(12)), "utf-8")
    command = ["finetune", *QUICK, "--model", str(llink_folder), "--instructions", str(file), "--save-steps", "2"]
    command += ["--eval-instructions", str(file), "--output-dir", str(output), "--per-device-train-batch-size", "4"]
    assert main([*command, "--max-steps", "2", "--logging-steps", "1"]) == 0
    assert json.loads((output / "eval_results.json").read_text())["eval_loss"] > 0
    assert (output / "training.png").read_bytes().startswith(b"\x89PNG")
    first = (output / "adapter_model.safetensors").read_bytes()
    assert main([*command, "--max-steps", "4", "--resume_from_checkpoint", "last"]) == 0
    assert json.loads((output / "trainer_state.json").read_text())["global_step"] == 4
    assert (output / "adapter_model.safetensors").read_bytes() != first
    assert main(["finetune", "--model", "nowhere", "--instructions", "missing.jsonl", "--output-dir", "x"]) == 2
    assert "missing.jsonl does not exist" in capsys.readouterr().err
    assert main(["finetune", "--model", str(tmp_path), "--instructions", str(file), "--output-dir", "x"]) == 2
    assert "holds no llink model" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["align", "inject", "finetune", "langbridge", "langbridge --lora"])
@pytest.mark.slow(but=["inject"])
def test_the_attention_reaches_the_bases(command, llink_folder, base_folder, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({**row, "english": row["completion"]}) + "\n" for row in rows(12)), "utf-8")
    for name in ("en", "km"):
        (tmp_path / name).write_text("".join(f"{name} {n}\n" for n in range(12)), "utf-8")
    given = ["--model", str(llink_folder), "--instructions", str(file)]
    if command == "align":
        bases = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
        given = ["--encoder", str(bases[0]), "--decoder", str(bases[1])]
        given += ["--pairs", str(tmp_path / "en"), str(tmp_path / "km")]
    given = [*command.split(), *given, *QUICK, "--output-dir", str(tmp_path / "out"), "--attn_implementation"]
    assert main([*given, "none-such"]) == 2
    assert '--attn_implementation "none-such"` is not supported' in capsys.readouterr().err
    assert main([*given, "eager", "--max-steps", "1", "--per-device-train-batch-size", "4"]) == 0
