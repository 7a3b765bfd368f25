"""The teacher: which state is read, LoRA off, and the conditioned space."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from llink.building import fit_teacher_space
from llink.configuration_llink import PAPER_TEACHER_TEMPLATE
from llink.modeling_llink.errors import NotFittedError
from llink.modeling_llink.teacher import TeacherSpace, read_teacher_state, teacher_inputs

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


def test_control_tokens_in_english_stay_text(model):
    special = set(model.processor.tokenizer.get_added_vocab().values())
    inputs = teacher_inputs(model.processor, ["a <|end|> b <foreign_emb> <tool_call>"], "User:{text}", 128)
    ids = inputs["input_ids"][0]
    assert not special & set(ids.tolist())
    assert (ids == model.processor.foreign_token_id).sum() == 1


def inverse(space, conditioned):
    """Conditioned vectors (…, d) → the decoder's own space (…, d): exact on what `forward` keeps."""
    if space.conditioning == "none":
        return conditioned
    if space.conditioning == "whiten":
        gain = space._gain()
        conditioned = (conditioned @ space.basis * torch.where(gain > 0, 1 / gain, 0.0)) @ space.basis.T
    return conditioned + space.mean


@settings(max_examples=25)
@given(
    conditioning=st.sampled_from(["none", "center", "whiten"]),
    power=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_conditioning_loses_nothing_that_it_keeps(conditioning, power, seed):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(60, 12, generator=generator) * torch.linspace(0.5, 3, 12) + 5
    space = TeacherSpace(12, conditioning, 12, power)
    fit_teacher_space(space, states)
    assert torch.allclose(inverse(space, space(states)), states, atol=1e-2)


def test_whitening_gives_unit_variance_and_drops_the_rest():
    torch.manual_seed(0)
    states = torch.randn(4000, 10) * torch.tensor([9.0, 5, 4, 3, 2, 1, 1, 1, 1, 1]) + 7
    space = TeacherSpace(10, "whiten", 4, 1.0)
    fit_teacher_space(space, states)
    conditioned = space(states)
    assert conditioned.shape == states.shape
    assert torch.allclose(conditioned.mean(dim=0), torch.zeros(10), atol=1e-4)
    variances = torch.linalg.eigvalsh(torch.cov(conditioned.T))
    assert torch.allclose(variances[-4:], torch.ones(4), atol=1e-3)
    assert torch.allclose(variances[:-4], torch.zeros(6), atol=1e-4)


def test_fewer_states_than_components_gives_no_nan():
    torch.manual_seed(0)
    states = torch.randn(3, 10)
    space = TeacherSpace(10, "whiten", 8, 1.0)
    fit_teacher_space(space, states)
    assert torch.isfinite(space(states)).all()
    assert torch.isfinite(inverse(space, space(states))).all()
    assert torch.allclose(inverse(space, space(states)), states, atol=1e-3)


def test_unfitted_and_unusable_states_are_refused():
    space = TeacherSpace(4, "whiten", 4, 1.0)
    with pytest.raises(NotFittedError, match="fit"):
        space(torch.zeros(2, 4))
    with pytest.raises(NotFittedError, match="NaN"):
        fit_teacher_space(space, torch.tensor([[1.0, 2, 3, float("nan")], [1, 2, 3, 4]]))
    with pytest.raises(NotFittedError, match="1 states"):
        fit_teacher_space(space, torch.ones(1, 4))
    assert not space.fitted


def test_the_space_travels_with_the_checkpoint(make_model, tmp_path):
    model = make_model(teacher_conditioning="whiten", teacher_components=3)
    with pytest.raises(NotFittedError):
        model.get_teacher_features(ENGLISH)
    fit_teacher_space(model.teacher_space, torch.randn(40, model.config.hidden_size))
    before = model.get_teacher_features(ENGLISH)
    model.save_pretrained(tmp_path)
    assert torch.equal(type(model).from_pretrained(tmp_path).get_teacher_features(ENGLISH), before)
