"""The LangBridge-style bridge: one soft token an encoder token, in the right place, trained alone, kept whole.

Run as a script (by `test_two_processes_equal_one`) this file trains in each of several processes.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny
import torch
from baseline_runs import QUICK, fit, loss_by_hand, losses_of, quick, rows
from processes import run_in_processes
from transformers import AutoModelForCausalLM, set_seed

from llink.baselines.langbridge import LangBridgeForCausalLM, is_langbridge
from llink.cli import main
from llink.configuration_llink import LlinkConfigError
from llink.data.examples import training_example
from llink.data.instructions import instruction_dataset
from llink.evaluation.systems import LangBridgeSystem
from llink.modeling_llink.errors import LlinkCheckpointError, SlotMismatchError
from llink.modeling_llink.prompts import user_message
from llink.modeling_llink.slots import median_embedding_norm
from llink.trainers.langbridge_config import LangBridgeConfig
from llink.trainers.langbridge_trainer import LangBridgeTrainer


@pytest.fixture(scope="module")
def llink_folder(make_model, tmp_path_factory):
    """A function (encoder, decoder, **config) → folder of a light llink checkpoint, each made once."""
    made = {}

    def folder(encoder="xlm-roberta", decoder="llama", **config):
        key = (encoder, decoder, *sorted(config.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("llink")
            make_model(encoder, decoder, lora_dropout=0.0, **config).save_pretrained(made[key])
        return made[key]

    return folder


@pytest.fixture
def new_bridge(llink_folder):
    def new(encoder="xlm-roberta", decoder="llama", lora=False, **config):
        folder = llink_folder(encoder, decoder, **config)
        set_seed(0)
        return LangBridgeForCausalLM.from_llink(folder, lora)

    return new


@pytest.fixture
def train(new_bridge, tmp_path):
    def run(name="run", lora=False, resume=None, eval_dataset=None, dataset=None, **options):
        model = new_bridge(lora=lora)
        args = quick(LangBridgeConfig, tmp_path / name, **options)
        return fit(LangBridgeTrainer, model, args, model.processor, dataset, eval_dataset, resume)

    return run


def batch_of(model, count=7):
    return LangBridgeSystem(model).inputs(instruction_dataset(rows(count)))


def logits_of(model, inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def trained_state(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


# ------------------------------------------------------------------ prompts


def test_a_passage_takes_its_encoder_tokens_and_one_more(new_bridge, llink_folder):
    model = new_bridge()
    processor = model.processor
    slot = model.config.reserved_token_start
    for row in instruction_dataset(rows(7)):
        message = user_message(row["prompt"], row["foreign"])
        ids, passages = processor.render([message])
        lengths = [len(pieces[0].ids) for pieces in processor.read_passages(row["foreign"])]
        assert passages == row["foreign"]
        assert ids.count(slot) == sum(lengths) + len(lengths)
        assert training_example(processor, [message], "a")["input_ids"][: len(ids)] == ids


def test_around_the_soft_tokens_the_prompt_is_llinks(new_bridge, model):
    own = new_bridge().processor
    start = model.config.reserved_token_start
    for row in instruction_dataset(rows(7)):
        message = user_message(row["prompt"], row["foreign"])
        texts = [[i for i in p.render([message])[0] if i < start] for p in (own, model.processor)]
        assert texts[0] == texts[1]


# ------------------------------------------------------------------ soft tokens


@pytest.mark.parametrize("layer", [-1, 1])
def test_soft_tokens_are_the_mapped_states_and_the_end(new_bridge, layer):
    model = new_bridge(encoder_layer=layer)
    texts = ["ab", "abcde"]
    inputs = model.processor.pad_passages(model.processor.read_passages(texts))
    ids, mask = inputs["foreign_input_ids"][:, 0], inputs["foreign_attention_mask"][:, 0]
    assert not mask.all(), "vacuous unless one passage is padded"
    wanted = []
    for text in texts:
        tokens = model.processor.encoder_tokenizer(text, return_tensors="pt")
        states = model.encoder(**tokens, output_hidden_states=True).hidden_states[layer][0]
        wanted += [model.bridge(states), model.end_of_source.unsqueeze(0)]
    assert torch.allclose(model.soft_tokens(ids, mask), torch.cat(wanted), atol=1e-5)


def test_soft_tokens_stand_where_the_passages_do(new_bridge):
    model = new_bridge()
    inputs = batch_of(model)
    embeds = model.embed(**{k: v for k, v in inputs.items() if k != "attention_mask"})
    soft = inputs["input_ids"] >= model.config.reserved_token_start
    table = model.decoder.get_input_embeddings().weight
    assert torch.equal(embeds[~soft], table[inputs["input_ids"][~soft]])
    real = inputs["foreign_attention_mask"].any(-1)
    assert (real.sum(1) > 1).any(), "vacuous unless a row has two passages"
    wanted = model.soft_tokens(inputs["foreign_input_ids"][real], inputs["foreign_attention_mask"][real])
    assert torch.equal(embeds[soft], wanted)


def test_soft_tokens_begin_as_long_as_embeddings(new_bridge):
    model = new_bridge()
    d_e, d = model.bridge.in_features, model.bridge.out_features
    norm = median_embedding_norm(model.decoder.get_input_embeddings(), model.decoder.config.vocab_size)
    mapped = model.bridge(torch.randn(4000, d_e)).norm(dim=1)
    assert mapped.median().item() == pytest.approx(norm, rel=0.15)
    assert model.end_of_source.shape == (d,)


@pytest.mark.parametrize(("encoder", "decoder"), [("xlm-roberta", "llama"), ("t5", "qwen2"), ("bert", "gpt2")])
def test_a_batch_gives_what_its_rows_give_alone(new_bridge, encoder, decoder):
    model = new_bridge(encoder, decoder)
    dataset = instruction_dataset(rows(7))
    system = LangBridgeSystem(model)
    inputs = system.inputs(dataset)
    places = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)  # GPT-2's positions count from the first token
    together = logits_of(model, {**inputs, "position_ids": places})[:, -1]
    alone = torch.cat([logits_of(model, system.inputs([row]))[:, -1] for row in dataset])
    assert torch.allclose(together, alone, atol=2e-4)
    assert system.answer(dataset, 7, 5) == system.answer(dataset, 1, 5)


def test_without_passages_it_is_the_base_decoder(new_bridge, base_folder):
    model = new_bridge()
    inputs = model.processor("Say hello.")
    base = AutoModelForCausalLM.from_pretrained(base_folder("decoder", "llama"))
    assert torch.equal(logits_of(model, inputs), logits_of(base, inputs))
    tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert torch.equal(tokens, base.generate(**inputs, max_new_tokens=4, do_sample=False))


def test_soft_tokens_that_do_not_fit_are_refused(new_bridge):
    model = new_bridge()
    inputs = batch_of(model)
    with pytest.raises(SlotMismatchError, match="soft tokens"):
        model(input_ids=inputs["input_ids"])
    spoilt = inputs["input_ids"].clone()
    spoilt[spoilt >= model.config.reserved_token_start] = 5
    with pytest.raises(SlotMismatchError, match="Row 0 holds 0 soft tokens"):
        model(**{**inputs, "input_ids": spoilt})


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.slow(but=["False"])
def test_the_loss_falls_and_the_bases_stay(train, base_folder, lora):
    trainer = train(max_steps=40, lora=lora, learning_rate=3e-2)
    assert losses_of(trainer)[-1] < losses_of(trainer)[0] - 0.5
    model = trainer.model
    for kind, auto in (("encoder", "xlm-roberta"), ("decoder", "llama")):
        saved = tiny_state(base_folder(kind, auto))
        own = {key.replace(".base_layer.", "."): value for key, value in getattr(model, kind).state_dict().items()}
        shared = saved.keys() & own.keys()
        assert len(shared) > 10, "vacuous unless names fit"
        assert all(torch.equal(own[key], saved[key]) for key in shared)
    names = {name.partition(".")[0] for name in trained_state(model)}
    assert names == {"bridge", "end_of_source", *(["decoder"] if lora else [])}
    assert not model.training


def tiny_state(folder) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(f"{folder}/model.safetensors")


def test_every_trained_weight_moves(train, new_bridge):
    before = trained_state(new_bridge(lora=True))
    after = trained_state(train(lora=True).model)
    assert before.keys() == after.keys()
    assert [name for name, value in after.items() if torch.equal(value, before[name])] == []


def test_what_is_frozen_stays_in_evaluation_mode(new_bridge):
    assert not any(module.training for module in new_bridge().train().decoder.modules())
    with_lora = new_bridge(lora=True).train()
    assert with_lora.decoder.training
    assert not any(module.training for module in with_lora.encoder.modules())


def test_accumulation_equals_the_big_batch(train):
    big, small = train("big"), train("small", per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert losses_of(small) == pytest.approx(losses_of(big), rel=1e-4)
    for name, value in trained_state(big.model).items():
        assert torch.allclose(value, trained_state(small.model)[name], atol=1e-4)


@pytest.mark.slow
def test_two_processes_equal_one(llink_folder, train, tmp_path):
    """The trainers of both baselines share what is at stake here."""
    run_in_processes(__file__, llink_folder(), tmp_path / "two")
    found = json.loads((tmp_path / "two" / "result.json").read_text())
    assert found["world_size"] == 2, "vacuous unless two processes ran"
    single = train("one")
    assert found["losses"] == pytest.approx(losses_of(single), rel=1e-3)
    for name, value in trained_state(single.model).items():
        assert found["norms"][name] == pytest.approx(value.norm().item(), rel=2e-3, abs=1e-4), name
    metrics = single.evaluate(instruction_dataset(rows(9)))
    assert found["eval_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-3)


def test_evaluation_is_the_mean_over_tokens_of_the_whole_set(train):
    held_out = instruction_dataset(rows(7))
    trainer = train(eval_dataset=held_out, per_device_eval_batch_size=4)
    wanted = loss_by_hand(trainer.model, trainer, held_out)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.slow(but=["False"])
def test_a_resumed_run_ends_where_the_whole_one_does(train, tmp_path, lora):
    options = dict(save_strategy="steps", save_steps=2, max_steps=4, lora=lora)
    whole = train("whole", **options)
    resumed = train("resumed", resume=str(tmp_path / "whole" / "checkpoint-2"), **options)
    assert losses_of(resumed)[-2:] == losses_of(whole)[-2:]
    for name, value in trained_state(whole.model).items():
        assert torch.equal(value, trained_state(resumed.model)[name])


def test_learning_rates_are_by_module(train):
    groups = {g["name"]: g for g in train(lora=True, max_steps=1, lora_learning_rate=7e-3).parameter_groups()}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "bridge": 1e-2,
        "bridge_vectors": 1e-2,
        "lora": 7e-3,
    }
    with pytest.raises(LlinkConfigError, match="lora_learning_rate"):
        LangBridgeConfig("out", lora_learning_rate=0)


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.slow
def test_what_is_saved_answers_as_what_was_trained(train, tmp_path, lora):
    trainer = train(lora=lora, max_steps=8)
    trainer.save_model()
    saved = tmp_path / "run"
    assert is_langbridge(saved)
    weights = tiny_state(saved)
    assert set(weights) == {"bridge.weight", "bridge.bias", "end_of_source"}, "only what was trained"
    loaded = LangBridgeForCausalLM.from_pretrained(saved)
    inputs = batch_of(trainer.model)
    assert torch.equal(batch_of(loaded)["input_ids"], inputs["input_ids"])
    assert torch.equal(logits_of(loaded, inputs), logits_of(trainer.model, inputs))
    dataset = instruction_dataset(rows(7))
    answers = LangBridgeSystem(loaded).answer(dataset, max_new_tokens=6)
    assert answers == LangBridgeSystem(trainer.model).answer(dataset, max_new_tokens=6)


def test_what_saving_cannot_do_is_refused(new_bridge, tmp_path):
    with pytest.raises(TypeError, match="cannot take push_to_hub, repo_id"):
        new_bridge().save_pretrained(tmp_path / "lb", push_to_hub=True, repo_id="me/lb")
    assert not (tmp_path / "lb").exists()


def test_bases_of_a_self_contained_model_are_found_inside(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "whole", self_contained=True)
    model = LangBridgeForCausalLM.from_llink(tmp_path / "whole")
    model.save_pretrained(tmp_path / "lb")
    named = json.loads((tmp_path / "lb" / "config.json").read_text())
    assert named["encoder_name_or_path"] == str((tmp_path / "whole" / "encoder").resolve())
    loaded = LangBridgeForCausalLM.from_pretrained(tmp_path / "lb")
    assert torch.equal(logits_of(loaded, batch_of(model)), logits_of(model, batch_of(model)))


def test_damaged_and_foreign_folders_are_refused(new_bridge, base_folder, tmp_path):
    with pytest.raises(LlinkCheckpointError, match="no LangBridge model"):
        LangBridgeForCausalLM.from_pretrained(tmp_path)
    new_bridge().save_pretrained(tmp_path / "lb")
    weights = tmp_path / "lb" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(LlinkCheckpointError, match="damaged"):
        LangBridgeForCausalLM.from_pretrained(tmp_path / "lb")
    new_bridge().save_pretrained(tmp_path / "lb")
    config = json.loads((tmp_path / "lb" / "config.json").read_text())
    wider = tiny.save_encoder("bert", tmp_path / "wider", hidden_size=32)
    (tmp_path / "lb" / "config.json").write_text(json.dumps({**config, "encoder_name_or_path": wider}))
    with pytest.raises(LlinkCheckpointError, match="other ones"):
        LangBridgeForCausalLM.from_pretrained(tmp_path / "lb")


# ------------------------------------------------------------------ the command


@pytest.mark.slow
def test_the_command_trains_and_resumes(llink_folder, tmp_path):
    file, output = tmp_path / "rows.jsonl", tmp_path / "lb"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(12)), "utf-8")
    command = ["langbridge", *QUICK, "--model", str(llink_folder()), "--instructions", str(file), "--save-steps", "2"]
    command += ["--eval-instructions", str(file), "--output-dir", str(output), "--per-device-train-batch-size", "4"]
    assert main([*command, "--max-steps", "2", "--logging-steps", "1"]) == 0
    assert json.loads((output / "eval_results.json").read_text())["eval_loss"] > 0
    assert not (output / "lora").exists()
    assert main([*command, "--max-steps", "4", "--resume_from_checkpoint", "last"]) == 0
    assert json.loads((output / "trainer_state.json").read_text())["global_step"] == 4
    shutil.rmtree(output)
    assert main([*command, "--max-steps", "2", "--lora"]) == 0
    assert (output / "lora" / "adapter_model.safetensors").is_file()


def in_one_of_several_processes(llink: str, folder: str) -> None:
    """Trains; the first process writes what the test compares."""
    torch.set_num_threads(1)
    set_seed(0)
    model = LangBridgeForCausalLM.from_llink(llink)
    sizes = dict(per_device_train_batch_size=2, gradient_accumulation_steps=2, per_device_eval_batch_size=2)
    args = quick(LangBridgeConfig, folder, **sizes)
    trainer = fit(LangBridgeTrainer, model, args, model.processor, eval_dataset=instruction_dataset(rows(9)))
    loss = trainer.evaluate()["eval_loss"]
    if trainer.is_world_process_zero():
        norms = {name: value.norm().item() for name, value in trained_state(model).items()}
        result = dict(losses=losses_of(trainer), norms=norms, eval_loss=loss, world_size=args.world_size)
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / "result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    in_one_of_several_processes(*sys.argv[1:])
