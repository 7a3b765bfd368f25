"""The teacher's states: which is read, LoRA off."""

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

from llink.configuration_llink import PAPER_TEACHER_TEMPLATE
from llink.modeling_llink.encoding import teacher_inputs
from llink.modeling_llink.errors import LlinkCheckpointError
from llink.modeling_llink.layers import hidden_states, read_teacher_state
from llink.modeling_llink.lora import lora_rows, text_part

ENGLISH = ["the cat sat on the mat", "a dog", "he said: we eat rice at noon today"]


@pytest.mark.parametrize("decoder", tiny.DECODERS)
def test_the_placeholder_state_is_the_base_decoders_state_at_a_zero_vector(make_model, base_folder, decoder):
    model = make_model(
        decoder=decoder, teacher_state="placeholder", teacher_template=PAPER_TEACHER_TEMPLATE, teacher_layer=-1
    )
    base = AutoModelForCausalLM.from_pretrained(base_folder("decoder", decoder))
    tokenizer = tiny.decoder_tokenizer(decoder)
    for text, state in zip(ENGLISH, model.get_teacher_states(ENGLISH), strict=True):
        ids = tokenizer.encode("User:" + text, return_tensors="pt")
        embeds = torch.cat([base.get_input_embeddings()(ids), torch.zeros(1, 1, model.config.hidden_size)], dim=1)
        with torch.no_grad():
            wanted = base.base_model(inputs_embeds=embeds).last_hidden_state[0, -1]
        assert torch.allclose(state, wanted, atol=1e-4), (state - wanted).abs().max()


def test_the_mean_state_averages_the_sentence_only():
    hidden = torch.arange(24, dtype=torch.float).reshape(1, 6, 4)
    text_mask = torch.tensor([[0, 1, 1, 0, 0, 0]], dtype=torch.bool)
    attention = torch.tensor([[1, 1, 1, 1, 1, 0]])
    assert torch.equal(read_teacher_state(hidden, text_mask, attention, "mean"), hidden[:, 1:3].mean(dim=1))
    assert torch.equal(read_teacher_state(hidden, text_mask, attention, "placeholder"), hidden[:, 4])


@pytest.mark.parametrize("state", ["placeholder", "mean"])
@pytest.mark.parametrize("layer", [-1, 1])
def test_batching_changes_nothing(make_model, state, layer):
    model = make_model(teacher_state=state, teacher_layer=layer)
    batched = model.get_teacher_states(ENGLISH, batch_size=3)
    single = torch.cat([model.get_teacher_states([text]) for text in ENGLISH])
    assert batched.dtype == torch.float32
    assert torch.allclose(batched, single, atol=1e-4)
    assert (batched[0] - batched[1]).norm() > 0.1 * batched[0].norm()


def test_lora_and_training_mode_do_not_reach_the_teacher(make_model):
    model = make_model(awake=False, lora_dropout=0.5)
    before = model.get_teacher_states(ENGLISH)
    inputs = model.processor(["hi"], ["cat"])
    asleep = tiny.logits_of(model, inputs)
    tiny.wake(model).train()
    assert torch.equal(model.get_teacher_states(ENGLISH), before)
    assert model.training
    assert model.decoder.training
    assert not torch.allclose(tiny.logits_of(model.eval(), inputs), asleep)  # guard: LoRA is really awake


def test_long_sentences_are_cut_at_their_own_tokens(make_model):
    model = make_model(teacher_max_tokens=5, teacher_state="placeholder")
    processor = model.processor
    inputs = teacher_inputs(processor, ["a b c d e f g h i j k l"], model.config.teacher_template, 5)
    assert inputs["text_mask"].sum() == 5
    assert inputs["input_ids"][0, -1] == processor.foreign_token_id
    text = processor.tokenizer.decode(inputs["input_ids"][0, :-1])
    assert text.startswith('This sentence: "a')
    assert text.endswith('means in one word: "')


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_what_follows_a_sentence_in_the_template_does_not_change_its_mean(make_model, family):
    model = make_model(decoder=family, teacher_state="mean")
    texts, template = [*ENGLISH, "one"], model.config.teacher_template
    whole = teacher_inputs(model.processor, texts, template, 128)
    short = teacher_inputs(model.processor, texts, template, 128, "mean")
    tail = whole["input_ids"].shape[1] - short["input_ids"].shape[1]
    assert tail > 5, "vacuous unless the template goes on behind the sentence"
    ids = whole["input_ids"]
    reserved = ids >= model.config.reserved_token_start
    with torch.no_grad(), lora_rows(False):
        (states,) = hidden_states(
            text_part(model.decoder),
            [model.config.teacher_layer],
            input_ids=ids.masked_fill(reserved, model.config.filler_token_id),
            attention_mask=whole["attention_mask"],
        )
    expected = read_teacher_state(states, whole["text_mask"].bool(), whole["attention_mask"], "mean")
    torch.testing.assert_close(model.get_teacher_states(texts), expected, rtol=1e-4, atol=1e-5)


def test_control_tokens_in_english_stay_text(model):
    special = set(model.processor.tokenizer.get_added_vocab().values())
    inputs = teacher_inputs(model.processor, ["a <|end|> b <foreign_emb> <tool_call>"], "User:{text}", 128)
    ids = inputs["input_ids"][0]
    assert not special & set(ids.tolist())
    assert (ids == model.processor.foreign_token_id).sum() == 1


def test_a_merged_decoder_has_no_teachers_states(make_model):
    model = make_model()
    assert model.get_teacher_states(["a dog"]).shape == (1, model.config.hidden_size)
    model.merge_and_unload()
    with pytest.raises(LlinkCheckpointError, match="merged"):
        model.get_teacher_states(["a dog"])
    with pytest.raises(LlinkCheckpointError, match="merged"):
        model.encode("a dog", side="english")
