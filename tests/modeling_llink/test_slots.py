"""Slots: their norm, scale, adapter and expander."""

import pytest
import tiny
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llink import LlinkConfig, LlinkForCausalLM
from llink.configuration_llink import SLOT_EXPANDERS, LlinkConfigError
from llink.modeling_llink.errors import LlinkCheckpointError, SlotMismatchError
from llink.modeling_llink.layers import GatedAdapter, pool_segments
from llink.modeling_llink.slots import SLOTS, Reading, SlotEmbedder, median_embedding_norm


@pytest.mark.parametrize("decoder", tiny.DECODERS)
def test_every_slot_starts_at_the_median_embedding_norm(shared_model, decoder):
    model = shared_model(decoder=decoder)
    ids = torch.arange(model.config.vocab_size)
    wanted = model.get_input_embeddings()(ids).norm(dim=-1).median().item()
    norms = model.encode_foreign(tiny.SENTENCES).norm(dim=-1)
    assert norms.shape == (len(tiny.SENTENCES), model.config.num_slots)
    assert torch.allclose(norms, torch.full_like(norms, wanted), rtol=1e-4)
    # Guard: a plain LayerNorm would give the square root of the width, which must be far from the median here.
    assert abs(model.config.hidden_size**0.5 / wanted - 1) > 0.2


def test_scaled_embeddings_are_honoured(shared_model):
    model = shared_model(decoder="gemma3")
    raw = model.get_input_embeddings().weight.norm(dim=-1).median().item()
    assert model.slot_embedder.scale.item() == pytest.approx(raw * model.config.hidden_size**0.5, rel=1e-3)


def test_the_median_is_taken_in_chunks_alike():
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(1000, 7)
    whole = median_embedding_norm(embedding, 1000)
    assert whole == pytest.approx(median_embedding_norm(embedding, 1000, chunk_size=13))
    assert whole == pytest.approx(embedding.weight.norm(dim=-1).median().item())


@settings(max_examples=30)
@given(
    width=st.integers(4, 48),
    num_slots=st.integers(1, 9),
    expander=st.sampled_from(sorted(SLOT_EXPANDERS)),
    residual=st.booleans(),
    adapter=st.sampled_from(["gated", "none"]),
    scale=st.floats(0.01, 100),
    size=st.floats(1e-3, 1e3),
)
def test_norms_equal_the_scale_whatever_the_input(width, num_slots, expander, residual, adapter, scale, size):
    assume(num_slots > 1 or expander != "lexicon")
    torch.manual_seed(width)
    embedder = make_embedder(width, num_slots, adapter, expander, residual)
    embedder.scale.data.fill_(scale)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    slots = embedder(torch.randn(3, width) * size, reading(embedder, torch.randn(3, 5, 7), mask))
    assert slots.shape == (3, num_slots, width)
    assert torch.allclose(slots.norm(dim=-1), torch.tensor(scale), rtol=1e-3)


def make_embedder(width, num_slots, adapter, expander, residual=False) -> SlotEmbedder:
    torch.manual_seed(width)
    config = LlinkConfig(
        encoder_config={"model_type": "xlm-roberta", "hidden_size": 7, "num_attention_heads": 1},
        decoder_config={"model_type": "gpt2", "n_embd": width, "n_head": 1},
        num_slots=num_slots,
        slot_adapter=adapter,
        slot_expander=expander,
        slot_residual=residual,
        slot_expander_hidden_size=6,
        slot_vocabulary_size=11,
    )
    embedder = SLOTS[expander](config)
    if embedder.lexicon is not None:
        embedder.lexicon.fit(torch.arange(config.vocab_size).float())
    return embedder


def reading(embedder, states=None, mask=None) -> Reading:
    """What slots may be made of beside p_F, with a projector and a decoder's embeddings of its own."""
    torch.manual_seed(1)
    return Reading(states, mask, torch.nn.Linear(7, embedder.width), torch.nn.Embedding(60_000, embedder.width))


def any_reading(embedder, rows, tokens) -> Reading:
    """As [`reading`], of random states without padding."""
    return reading(embedder, torch.randn(rows, tokens, 7), torch.ones(rows, tokens))


@pytest.mark.parametrize("expander", [name for name in SLOT_EXPANDERS if name != "lexicon"])
def test_with_a_residual_the_mean_of_the_slots_stays_where_the_projector_put_it(expander):
    features = torch.randn(5, 64)
    centred = torch.nn.functional.layer_norm(features, (64,))
    cosines = {}
    for residual in (False, True):
        embedder = make_embedder(64, 8, "none", expander, residual)
        slots = embedder(features, any_reading(embedder, 5, 3))
        cosines[residual] = torch.cosine_similarity(slots.mean(dim=1), centred)
        assert torch.cdist(slots, slots).flatten(1).max() > 0.1 * slots.norm(dim=-1).mean(), "slots still differ"
    assert cosines[True].min() > 0.95
    assert cosines[False].mean() < cosines[True].mean() - 0.01, "vacuous unless the expander would move it"


def test_a_single_slot_still_has_its_expander():
    embedder = make_embedder(16, 1, "gated", "mlp", residual=True)
    features = torch.randn(2, 16)
    before = embedder(features, reading(embedder))
    torch.nn.init.normal_(embedder.expander.up.weight)
    assert not torch.allclose(embedder(features, reading(embedder)), before, atol=1e-2)


def test_a_resampler_reads_the_passages_tokens_and_no_padding():
    embedder = make_embedder(16, 4, "gated", "resampler")
    features, states = torch.randn(1, 16), torch.randn(1, 6, 7)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    slots = embedder(features, reading(embedder, states, mask))
    padding, token = states.clone(), states.clone()
    padding[:, 5] += 1
    token[:, 3] += torch.randn(7)
    assert torch.equal(embedder(features, reading(embedder, padding, mask)), slots)
    assert not torch.allclose(embedder(features, reading(embedder, token, mask)), slots, atol=1e-3)
    assert torch.allclose(embedder(features, reading(embedder, states[:, :4], mask[:, :4])), slots, atol=1e-6)
    with pytest.raises(SlotMismatchError, match="foreign_input_ids"):
        embedder(features, reading(embedder))


@settings(max_examples=50)
@given(length=st.integers(1, 12), padding=st.integers(0, 3), count=st.integers(1, 9))
def test_segments_cover_the_passage_evenly_and_no_padding(length, padding, count):
    states = torch.randn(1, length, 5)
    padded = torch.cat([states, torch.full((1, padding, 5), 1e6)], dim=1)
    mask = torch.tensor([[1] * length + [0] * padding])
    wanted = torch.nn.functional.adaptive_avg_pool1d(states.transpose(1, 2), count).transpose(1, 2)
    assert torch.allclose(pool_segments(padded, mask, count), wanted, atol=1e-5)
    assert torch.allclose(
        pool_segments(padded.flip(1), mask.flip(1), count),
        pool_segments(states.flip(1), mask[:, :length], count),
        atol=1e-5,
    )


def test_each_slot_reads_its_own_segment():
    embedder = make_embedder(16, 4, "gated", "segments")
    features, states, mask = torch.randn(1, 16), torch.randn(1, 8, 7), torch.ones(1, 8)
    slots = embedder(features, reading(embedder, states, mask))
    states[:, 5] += torch.randn(7)
    moved = (embedder(features, reading(embedder, states, mask)) - slots).norm(dim=-1)[0] > 1e-3
    assert moved.tolist() == [False, False, True, False]
    with pytest.raises(SlotMismatchError, match="foreign_input_ids"):
        embedder(features, reading(embedder))


@pytest.mark.parametrize("expander", ["queries", "resampler", "segments", "lexicon"])
def test_every_expander_goes_through_saving_forward_and_generation(make_model, tmp_path, expander):
    model = make_model(slot_expander=expander, slot_residual=True)
    inputs = model.processor(["Translate.", "A longer prompt."], [["the cat"], ["a dog", "two cats"]])
    logits = tiny.logits_of(model, inputs)
    slots, mask = model.resolve_slots(**{k: inputs[k] for k in ("foreign_input_ids", "foreign_attention_mask")})
    kept = model.encode_foreign(["the cat", "a dog", "two cats"], batch_size=2)
    assert torch.allclose(slots[mask], kept, atol=1e-5)
    whole = kept[1:2, 0] if expander == "lexicon" else kept[1:2].mean(dim=1)
    assert torch.allclose(model.get_slot_features("a dog"), whole, atol=1e-5)
    model.save_pretrained(tmp_path)
    again = LlinkForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(tiny.logits_of(again, inputs), logits)
    answers = [m.generate(foreign_text="the cat", max_new_tokens=4, do_sample=False) for m in (model, again)]
    assert torch.equal(*answers)
    features = model.get_foreign_features(["the cat"]).unsqueeze(1)
    prompt = {key: value[:1] for key, value in inputs.items() if not key.startswith("foreign_")}
    if model.slot_embedder.reads_states:
        with pytest.raises(SlotMismatchError, match="foreign_input_ids"):
            model(**prompt, foreign_features=features)
    else:
        model(**prompt, foreign_features=features)


def test_slots_are_renewed_between_the_stages(make_model, tmp_path):
    model = make_model(stage="align")
    before, projector = model.get_slot_features("the cat"), model.get_foreign_features("the cat")
    model.renew_slots(slot_expander="resampler", slot_residual=True, slot_adapter="none")
    assert (model.config.slot_expander, model.config.slot_residual, model.config.slot_adapter) == (
        *("resampler", True, "none"),
    )
    median = median_embedding_norm(model.get_input_embeddings(), model.config.vocab_size)
    assert model.slot_embedder.scale.item() == pytest.approx(median)
    assert not torch.allclose(model.get_slot_features("the cat"), before)
    assert torch.equal(model.get_foreign_features("the cat"), projector)
    assert all(torch.isfinite(p).all() and p.requires_grad for p in model.slot_embedder.parameters())
    assert model.slot_embedder.expander.queries.weight.std().item() == pytest.approx(1, abs=0.4)
    model.save_pretrained(tmp_path)
    again = LlinkForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.get_slot_features("the cat"), model.get_slot_features("the cat"))
    for fields, message in (
        ({"slot_expander": "huge"}, "slot_expander='huge'"),
        ({"num_slots": 3}, "num_slots: settings"),
    ):
        with pytest.raises(LlinkConfigError, match=message):
            model.renew_slots(**fields)
    assert model.config.slot_expander == "resampler", "a refused change changes nothing"
    model.config.stage = "inject"
    with pytest.raises(LlinkCheckpointError, match="throw away"):
        model.renew_slots(slot_expander="mlp")


def test_slots_depend_on_the_direction_of_the_input_and_not_on_its_size():
    torch.manual_seed(0)
    embedder = make_embedder(2048, 2, "none", "low_rank")  # the paper's width: eps must not swallow 1/d
    features = torch.randn(2, 2048)
    slots = embedder(features, reading(embedder))
    assert torch.allclose(slots, embedder(features * 50, reading(embedder)), rtol=1e-3, atol=1e-5)
    assert (slots[0] - slots[1]).norm() > 0.1 * slots[0].norm()


def test_slots_of_one_passage_differ(model):
    slots = model.encode_foreign(["the cat"])[0]
    distances = torch.cdist(slots, slots) + torch.eye(len(slots)) * 1e9
    assert distances.min() > 0.05 * slots.norm(dim=-1).mean()


def test_the_gate_starts_half_open():
    torch.manual_seed(0)
    adapter = GatedAdapter(8, 4)
    assert adapter.gate.item() == 0.5
    x = torch.randn(3, 8)
    inner = adapter.down(torch.nn.functional.gelu(adapter.up(adapter.norm(x))))
    assert torch.allclose(adapter(x), x + torch.tanh(torch.tensor(0.5)) * inner)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("expander", SLOT_EXPANDERS)
def test_gradients_reach_every_part(expander, residual):
    embedder = make_embedder(16, 3, "gated", expander, residual)
    slots = embedder(torch.randn(4, 16), any_reading(embedder, 4, 5))
    (slots * torch.randn(4, 3, 16)).sum().backward()
    silent = {n for n, p in embedder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 1e-5}
    assert silent == set()
