"""Slots: their norm, scale, adapter and expander."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llink.modeling_llink.slots import GatedAdapter, SlotEmbedder, median_embedding_norm


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


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(4, 48),
    num_slots=st.integers(1, 9),
    expander=st.sampled_from(["mlp", "low_rank"]),
    adapter=st.sampled_from(["gated", "none"]),
    scale=st.floats(0.01, 100),
    size=st.floats(1e-3, 1e3),
)
def test_norms_equal_the_scale_whatever_the_input(width, num_slots, expander, adapter, scale, size):
    torch.manual_seed(width)
    embedder = SlotEmbedder(width, num_slots, adapter, 5, expander, 6)
    embedder.scale.data.fill_(scale)
    slots = embedder(torch.randn(3, width) * size)
    assert slots.shape == (3, num_slots, width)
    assert torch.allclose(slots.norm(dim=-1), torch.tensor(scale), rtol=1e-3)


def test_slots_depend_on_the_direction_of_the_input_and_not_on_its_size():
    torch.manual_seed(0)
    embedder = SlotEmbedder(2048, 2, "none", 1, "low_rank", 8)  # the paper's width: eps must not swallow 1/d
    features = torch.randn(2, 2048)
    slots = embedder(features)
    assert torch.allclose(slots, embedder(features * 50), rtol=1e-3, atol=1e-5)
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


def test_gradients_reach_every_part():
    torch.manual_seed(0)
    embedder = SlotEmbedder(16, 3, "gated", 8, "mlp", 32)
    (embedder(torch.randn(4, 16)) * torch.randn(4, 3, 16)).sum().backward()
    silent = [n for n, p in embedder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
