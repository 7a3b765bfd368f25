"""Slots of tokens: as many as a passage has tokens, through batches, prompts, caches, files and usage."""

import json

import pytest
import tiny
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, DynamicCache

from llink import InjectConfig, InjectTrainer, LlinkConfig, LlinkForCausalLM
from llink.building import renew_slots
from llink.configuration_llink import GONE_EXPANDERS, LlinkConfigError
from llink.data.collators import instruction_tensors, passage_bank, tokenize_instructions
from llink.data.errors import DataError
from llink.data.examples import training_example
from llink.data.instructions import instruction_dataset
from llink.evaluation.retrieval_rows import slot_features
from llink.evaluation.usage import usage_variants
from llink.evaluation.usage_rows import evaluate_usage
from llink.hub_cards.canary import take_canary
from llink.modeling_llink.errors import LlinkCheckpointError, SlotMismatchError
from llink.modeling_llink.prompts import user_message

TEXTS = ["the cat sat", "no", "a dog runs on the mat", "ក្មេងទៅសាលា"]
GREEDY = dict(max_new_tokens=6, do_sample=False)


@pytest.fixture(scope="module")
def model(make_model):
    """Read only."""
    return make_model(slot_expander="tokens")


def test_a_passage_has_a_slot_for_each_of_its_tokens_but_the_frame(model):
    slots = model.encode_foreign(TEXTS)
    bare = [model.processor.encoder_tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert [len(row) for row in slots] == list(map(len, bare))
    assert len({len(row) for row in slots}) > 2, "vacuous unless passages differ"
    scale = model.slot_embedder.scale
    assert all(torch.allclose(row.norm(dim=-1), scale.expand(len(row)), rtol=1e-4) for row in slots)
    ids = model.processor("Say.", TEXTS)["input_ids"]
    found = (ids >= model.config.reserved_token_start).sum(dim=1)
    assert found.tolist() == list(map(len, bare))
    assert set(ids[ids >= model.config.reserved_token_start].tolist()) == {model.config.reserved_token_start}
    assert model.processor.foreign_token_id not in model.processor.slot_token_ids


@pytest.mark.parametrize("encoder", tiny.ENCODERS)
def test_every_family_of_encoders_counts_its_own_frame(make_model, encoder):
    model = make_model(encoder=encoder, slot_expander="tokens")
    assert [len(row) for row in model.encode_foreign(["cat", "a dog"])] == [3, 5]


def test_batch_and_padding_change_nothing(model):
    together = model.encode_foreign(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        assert torch.allclose(model.encode_foreign([text])[0], row, atol=1e-5)
    inputs = model.processor("Say.", TEXTS, padding_side="left")
    logits = tiny.logits_of(model, inputs)[:, -1]
    for row, text in enumerate(TEXTS):
        alone = tiny.logits_of(model, model.processor("Say.", text))[0, -1]
        assert torch.allclose(alone, logits[row], atol=1e-4)


def test_the_states_of_all_layers_come_from_one_pass(model):
    inputs = model.processor("Say.", TEXTS[0])
    ids, mask = inputs["foreign_input_ids"][:, 0], inputs["foreign_attention_mask"][:, 0]
    with torch.no_grad():
        hidden = model.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        with tiny.count_calls(model.encoder) as calls:
            states = model.passage_states(ids, mask, model.config.slot_layers)
    assert len(calls) == 1
    assert model.config.slot_layers == [1, 1, 2]
    assert torch.allclose(states, torch.cat([hidden[layer] for layer in (1, 1, 2)], dim=-1), atol=1e-6)


def test_several_passages_stand_where_their_placeholders_stood(model):
    rows = [["the cat", "no"], ["a dog runs"]]
    inputs = model.processor(["Compare.", "Say."], rows)
    output = model(**inputs)
    assert output.foreign_mask.sum(dim=2).tolist() == [[7, 2], [10, 0]]
    kept = model.encode_foreign(["the cat", "no", "a dog runs"])
    assert torch.allclose(output.foreign_slots[output.foreign_mask], torch.cat(kept), atol=1e-5)


def test_generation_is_the_same_by_batch_slots_beams_and_cache(model):
    together = model.generate(foreign_text=TEXTS, **GREEDY)
    for row, text in enumerate(TEXTS):
        assert torch.equal(model.generate(foreign_text=text, **GREEDY)[0], together[row, : GREEDY["max_new_tokens"]])
    assert torch.equal(model.generate(foreign_text=TEXTS, use_cache=False, **GREEDY), together)
    kept = model.encode_foreign(TEXTS)
    assert torch.equal(model.generate(foreign_slots=kept, **GREEDY), together)
    beams = model.generate(foreign_text=TEXTS, num_beams=3, **GREEDY)
    assert torch.equal(model.generate(foreign_slots=kept, num_beams=3, **GREEDY), beams)
    pair = model.generate(foreign_text=[TEXTS[:2]], **GREEDY)
    assert torch.equal(model.generate(foreign_slots=[kept[:2]], **GREEDY), pair)
    padded, mask = model.stack_slots(kept)
    ids = dict(model.processor(None, TEXTS))
    inputs = {name: ids[name] for name in ("input_ids", "attention_mask")}
    ahead = inputs["input_ids"].shape[1]
    found = model.generate(**inputs, foreign_slots=padded, foreign_mask=mask, **GREEDY)
    assert torch.equal(found[:, ahead:], together)


def test_a_conversation_goes_on_from_its_cache(model):
    part = lambda text: {"type": "foreign_text", "text": text}  # noqa: E731
    first = [{"role": "user", "content": [{"type": "text", "text": "Say "}, part("the cat sat")]}]
    cache = DynamicCache(config=model.config.get_text_config())
    answer = model.generate(messages=first, past_key_values=cache, **GREEDY)
    text = model.processor.batch_decode(answer, skip_special_tokens=True)[0]
    turn = {"role": "user", "content": [part("no"), {"type": "text", "text": " and "}, part("a dog runs")]}
    longer = [*first, {"role": "assistant", "content": text}, turn]
    assert torch.equal(
        model.generate(messages=longer, past_key_values=cache, **GREEDY), model.generate(messages=longer, **GREEDY)
    )


def test_it_is_saved_loaded_and_answers_alike(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = LlinkForCausalLM.from_pretrained(tmp_path)
    remote = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    for other in (again, remote):
        assert other.processor.num_slots is None
        assert torch.equal(other.generate(foreign_text=TEXTS, **GREEDY), model.generate(foreign_text=TEXTS, **GREEDY))
    canary, stored = take_canary(model), take_canary(again)
    assert all(torch.equal(canary.tensors[name], stored.tensors[name]) for name in canary.tensors)


def test_slots_are_renewed_with_their_processor(make_model):
    model = make_model(stage="align")
    assert model.processor.num_slots == 4
    renew_slots(model, slot_expander="tokens", slot_layers=[0, 1.0])
    assert (model.config.num_slots, model.config.slot_layers, model.processor.num_slots) == (None, [0, 2], None)
    assert len(model.encode_foreign(["the cat"])[0]) == 7
    renew_slots(model, slot_expander="mlp")
    assert (model.config.num_slots, model.config.slot_layers, model.processor.num_slots) == (8, None, 8)


def test_the_full_models_vector_is_that_of_stage_a(model):
    assert torch.equal(slot_features(model, TEXTS), model.get_foreign_features(TEXTS))


def test_wrong_input_is_refused(model, make_model):
    inputs = dict(model.processor("Say.", TEXTS[0]))
    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(SlotMismatchError, match="not enough"):
        model(**prompt, foreign_features=model.get_foreign_features([TEXTS[0]]).unsqueeze(1))
    with pytest.raises(SlotMismatchError, match="foreign_slot_index"):
        model(**{name: value for name, value in inputs.items() if name != "foreign_slot_index"})
    with pytest.raises(SlotMismatchError, match=r"Row 0 holds 11 slot tokens.*2 slots need 2"):
        model(**prompt, foreign_slots=model.encode_foreign(["no"])[0][None, None])
    with pytest.raises(SlotMismatchError, match="empty"):
        model.generate(foreign_slots=[], **GREEDY)
    with pytest.raises(SlotMismatchError, match="encode_foreign"):
        model.generate(foreign_slots=[torch.zeros(3, 5)], **GREEDY)
    with pytest.raises(LlinkConfigError, match="num_slots=3 does not apply"):
        make_model(slot_expander="tokens", num_slots=3)
    with pytest.raises(LlinkConfigError, match="slot_layers is empty"):
        make_model(slot_expander="tokens", slot_layers=[])
    with pytest.raises(LlinkConfigError, match=r"slot_layers=9 is outside \[-3, 2\]"):
        make_model(slot_expander="tokens", slot_layers=[9])
    with pytest.raises(LlinkConfigError, match="choose slot_expander='tokens'"):
        LlinkConfig(slot_layers=[1])
    with pytest.raises(LlinkConfigError, match="made of one vector"):
        LlinkConfig(tokens_per_slot=2)
    with pytest.raises(LlinkConfigError, match="without an order"):
        LlinkConfig(literals=["number"])
    with pytest.raises(LlinkConfigError, match="literals=\\['words'\\] are none of number"):
        LlinkConfig(slot_expander="tokens", literals=["words"])
    with pytest.raises(LlinkConfigError, match=r"tokens_per_slot=0 is not a whole number in \[1, 256\]"):
        LlinkConfig(slot_expander="tokens", tokens_per_slot=0)
    with pytest.raises(LlinkConfigError, match="min_slots=9 is above max_slots=8"):
        LlinkConfig(slot_expander="tokens", min_slots=9, max_slots=8)


@pytest.mark.parametrize("kind", GONE_EXPANDERS)
def test_kinds_that_are_gone_are_named(make_model, tmp_path, kind):
    make_model(stage="align").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "slot_expander": kind}), "utf-8")
    with pytest.raises(LlinkCheckpointError, match=f"'{kind}' is no more") as caught:
        LlinkForCausalLM.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ Stage B


def rows() -> Dataset:
    prompt = "Say it.\n<foreign_emb>"
    found = [dict(id=str(i), foreign=[text], prompt=prompt, completion=f"{text}.") for i, text in enumerate(TEXTS)]
    both = dict(id="both", foreign=["no", "the cat sat"], prompt="<foreign_emb><foreign_emb> or?", completion="cat")
    return instruction_dataset(Dataset.from_list([*found, both]))


def tensors_of(model):
    data = rows()
    examples, _ = tokenize_instructions(model.processor, data, 512)
    bank = lambda passages: passage_bank(model, passages, None)  # noqa: E731
    return instruction_tensors(data, examples, model.processor, bank)


def test_a_shuffled_passage_has_its_own_number_of_slots(model):
    tensors = tensors_of(model)
    everything = list(range(len(tensors)))
    batch = tensors.collate(everything)
    start = model.config.reserved_token_start
    for row in everything:
        others = [TEXTS[index] for index in tensors._others(row)]
        message = user_message(rows()[row]["prompt"], others)
        wanted = training_example(model.processor, [message], rows()[row]["completion"])
        length = int(batch["shuffled"]["attention_mask"][row].sum())
        assert batch["shuffled"]["input_ids"][row, :length].tolist() == wanted["input_ids"]
        assert batch["shuffled"]["labels"][row, :length].tolist() == wanted["labels"]
    counts = [(batch[k] if k else batch)["input_ids"].ge(start).sum(dim=1).tolist() for k in ("shuffled", "")]
    assert counts[0] != counts[1], "vacuous unless the other passages are of other lengths"


def test_usage_is_the_same_in_any_batch(model):
    tensors = tensors_of(model)
    whole, single = (evaluate_usage(model, tensors, batch_size=size, resamples=10) for size in (5, 1))
    for name in ("loss", "shuffled_gap", "zeroed_gap", "gaussian_gap"):
        assert whole[name] == pytest.approx(single[name], abs=1e-4), name
    assert abs(whole["shuffled_gap"]) > 1e-3
    with pytest.raises(DataError, match="differ in their number"):
        usage_variants(None, per_slot=True)


def test_stage_b_takes_what_is_best_for_the_kind(make_model, tmp_path):
    args = InjectConfig(str(tmp_path), report_to=[], use_cpu=True, max_steps=2, per_device_train_batch_size=5)
    args.gradient_accumulation_steps = 1
    model = make_model(slot_expander="tokens", stage="lexicon")
    before = {name: value.clone() for name, value in model.slot_embedder.state_dict().items()}
    trainer = InjectTrainer(model, args, rows())
    for name, value in model.slot_embedder.state_dict().items():
        assert torch.equal(before[name], value), "what was learned is not drawn anew"
    own = trainer.args
    assert (own.learning_rate, own.slot_learning_rate) == (3e-3, 1e-3)
    assert (own.usage_weight, own.cosine_weight, own.nce_weight) == (0, 0, 0)
    assert args.learning_rate is None, "the caller's arguments stay as they were"
    trainer.train()
    assert all(
        not torch.equal(before[name], model.slot_embedder.state_dict()[name]) for name in ("map.weight", "scale")
    )
    assert trainer.evaluate(rows())["eval_shuffled_gap"] is not None
    other = args.for_slots("mlp")
    assert (other.learning_rate, other.usage_weight, other.nce_weight) == (1e-3, 0.05, 0.1)
    assert (
        InjectConfig(str(tmp_path), report_to=[], use_cpu=True, usage_weight=0.5).for_slots("tokens").usage_weight
        == 0.5
    )


@pytest.mark.parametrize("variant", ["zeroed", "shuffled"])
def test_the_contrast_still_works_where_it_is_asked_for(make_model, tmp_path, variant):
    options = dict(usage_weight=0.5, usage_every=1, usage_variant=variant, cosine_weight=0.0, nce_weight=0.0)
    losses = []
    for size, parts in ((4, 1), (2, 2)):
        folder = str(tmp_path / f"{size}")
        args = InjectConfig(
            folder, report_to=[], use_cpu=True, max_steps=2, logging_steps=1, save_strategy="no", **options
        )
        args.per_device_train_batch_size, args.gradient_accumulation_steps = size, parts
        trainer = InjectTrainer(
            make_model(slot_expander="tokens", stage="lexicon", lora_dropout=0.0), args, rows().select(range(4))
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4), "accumulation equals the big batch"
