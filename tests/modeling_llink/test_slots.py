"""Slots: their norm, scale, adapter and expander, and how they are put into prompts: counted before scattered."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llink import LlinkConfig, LlinkForCausalLM
from llink.building import renew_slots
from llink.configuration_llink import LlinkConfigError
from llink.evaluation.retrieval_rows import slot_features
from llink.modeling_llink.errors import BaseModelError, LlinkCheckpointError, SlotMismatchError
from llink.modeling_llink.slots import (
    SLOTS,
    GatedAdapter,
    SlotEmbedder,
    check_counts,
    injected,
    median_embedding_norm,
)

VOCAB, WIDTH = 11, 3


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
    residual=st.booleans(),
    adapter=st.sampled_from(["gated", "none"]),
    scale=st.floats(0.01, 100),
    size=st.floats(1e-3, 1e3),
)
def test_norms_equal_the_scale_whatever_the_input(width, num_slots, residual, adapter, scale, size):
    embedder = make_embedder(width, num_slots, adapter, residual)
    embedder.scale.data.fill_(scale)
    slots, mask = embedder(torch.randn(3, width) * size)
    assert slots.shape == (3, num_slots, width)
    assert mask.shape == (3, num_slots)
    assert mask.all()
    assert torch.allclose(slots.norm(dim=-1), torch.tensor(scale), rtol=1e-3)


def make_embedder(width, num_slots, adapter, residual=False) -> SlotEmbedder:
    torch.manual_seed(width)
    config = LlinkConfig(
        encoder_config={"model_type": "xlm-roberta", "hidden_size": 7, "num_attention_heads": 1},
        decoder_config={"model_type": "gpt2", "n_embd": width, "n_head": 1},
        num_slots=num_slots,
        slot_adapter=adapter,
        slot_residual=residual,
        slot_expander_hidden_size=6,
    )
    return SLOTS["mlp"](config)


def test_with_a_residual_the_mean_of_the_slots_stays_where_the_projector_put_it():
    features = torch.randn(5, 64)
    centred = torch.nn.functional.layer_norm(features, (64,))
    cosines = {}
    for residual in (False, True):
        slots, _ = make_embedder(64, 8, "none", residual)(features)
        cosines[residual] = torch.cosine_similarity(slots.mean(dim=1), centred)
        assert torch.cdist(slots, slots).flatten(1).max() > 0.1 * slots.norm(dim=-1).mean(), "slots still differ"
    assert cosines[True].min() > 0.95
    assert cosines[False].mean() < cosines[True].mean() - 0.01, "vacuous unless the expander would move it"


def test_a_single_slot_still_has_its_expander():
    embedder = make_embedder(16, 1, "gated", residual=True)
    features = torch.randn(2, 16)
    before = embedder(features)[0]
    torch.nn.init.normal_(embedder.expander.up.weight)
    assert not torch.allclose(embedder(features)[0], before, atol=1e-2)


def test_slots_are_renewed_between_the_stages(make_model, tmp_path):
    model = make_model(stage="align")
    before, projector = slot_features(model, "the cat"), model.get_foreign_features("the cat")
    renew_slots(model, slot_residual=False, slot_adapter="none")
    assert (model.config.slot_expander, model.config.slot_residual, model.config.slot_adapter) == ("mlp", False, "none")
    median = median_embedding_norm(model.get_input_embeddings(), model.config.vocab_size)
    assert model.slot_embedder.scale.item() == pytest.approx(median)
    assert not torch.allclose(slot_features(model, "the cat"), before)
    assert torch.equal(model.get_foreign_features("the cat"), projector)
    assert all(torch.isfinite(p).all() and p.requires_grad for p in model.slot_embedder.parameters())
    model.save_pretrained(tmp_path)
    again = LlinkForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(slot_features(again, "the cat"), slot_features(model, "the cat"))
    for fields, message in (
        ({"slot_expander": "huge"}, "slot_expander='huge'"),
        ({"num_slots": 3}, "num_slots: settings"),
    ):
        with pytest.raises(LlinkConfigError, match=message):
            renew_slots(model, **fields)
    assert model.config.slot_adapter == "none", "a refused change changes nothing"
    model.config.stage = "inject"
    with pytest.raises(LlinkCheckpointError, match="throw away"):
        renew_slots(model, slot_expander="mlp")


def test_slots_depend_on_the_direction_of_the_input_and_not_on_its_size():
    torch.manual_seed(0)
    embedder = make_embedder(2048, 2, "none")  # the paper's width: eps must not swallow 1/d
    features = torch.randn(2, 2048)
    slots = embedder(features)[0]
    assert torch.allclose(slots, embedder(features * 50)[0], rtol=1e-3, atol=1e-5)
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
def test_gradients_reach_every_part(residual):
    embedder = make_embedder(16, 3, "gated", residual)
    slots, _ = embedder(torch.randn(4, 16))
    (slots * torch.randn(4, 3, 16)).sum().backward()
    silent = {n for n, p in embedder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 1e-5}
    assert silent == set()


# ---------------------------------------------------------------------- into the prompt


def inject(embeds, positions, slots, mask):
    """What a decoder's embedding layer gives, which would give `embeds`."""
    check_counts(positions, slots, mask)
    table = torch.nn.Embedding.from_pretrained(embeds.flatten(0, 1))
    with injected(table, positions, slots[mask]):
        return table(torch.arange(positions.numel()).view(positions.shape))


@settings(max_examples=60)
@given(st.data())
def test_slots_land_in_order_and_nothing_else_moves(data):
    most, columns = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    passages = st.lists(st.integers(0, most), min_size=columns, max_size=columns)  # slots of each
    counts = torch.tensor(data.draw(st.lists(passages, min_size=1, max_size=4)))
    rows, length = len(counts), int(counts.sum(dim=1).max()) + 1 + data.draw(st.integers(0, 3))
    torch.manual_seed(0)
    embeds, slots = torch.randn(rows, length, WIDTH), torch.randn(rows, columns, most, WIDTH)
    positions = torch.zeros(rows, length, dtype=torch.bool)
    mask = torch.arange(most) < counts.unsqueeze(-1)
    for row, total in enumerate(counts.sum(dim=1).tolist()):
        positions[row, data.draw(st.permutations(range(length)))[:total]] = True
    before = embeds.clone()
    result = inject(embeds, positions, slots, mask)
    assert torch.equal(embeds, before)
    assert torch.equal(result[~positions], embeds[~positions])
    for row in range(rows):
        assert torch.equal(result[row, positions[row]], slots[row, mask[row]])


@pytest.mark.parametrize(
    ("found", "real"), [(0, 1), (1, 1), (2, 2), (3, 1), (4, 1), (6, 2), (2, 0)], ids=lambda n: f"{n}"
)
def test_a_wrong_count_names_the_row(found, real):
    positions = torch.zeros(2, 8, dtype=torch.bool)
    positions[0, :2] = True
    positions[1, :found] = True
    mask = torch.tensor([[True, False], [real > 0, real > 1]]).unsqueeze(-1).expand(2, 2, 2)
    with pytest.raises(SlotMismatchError, match="Row 1"):
        inject(torch.zeros(2, 8, WIDTH), positions, torch.ones(2, 2, 2, WIDTH), mask)


def test_totals_that_agree_do_not_hide_rows_that_do_not():
    positions = torch.tensor([[True, True, True, True], [False] * 4])
    mask = torch.ones(2, 1, 2, dtype=torch.bool)
    with pytest.raises(SlotMismatchError, match="Row 0"):
        inject(torch.zeros(2, 4, WIDTH), positions, torch.ones(2, 1, 2, WIDTH), mask)


def test_another_number_of_rows_is_refused():
    with pytest.raises(SlotMismatchError, match="2 prompt rows"):
        inject(
            torch.zeros(2, 4, WIDTH),
            torch.zeros(2, 4, dtype=torch.bool),
            torch.ones(3, 1, 2, WIDTH),
            torch.zeros(3, 1, dtype=torch.bool),
        )


def test_one_row_serves_all_positions():
    embedding = torch.nn.Embedding(VOCAB, WIDTH)
    ids = torch.tensor([[0, VOCAB - 1, 5, 7, 3]])
    with injected(embedding, torch.tensor([[False, False, True, True, False]]), torch.zeros(1, WIDTH)):
        embeds = embedding(ids)
    assert torch.equal(embeds[0, [0, 1, 4]], embedding.weight[[0, VOCAB - 1, 3]])
    assert torch.equal(embeds[0, [2, 3]], torch.zeros(2, WIDTH))
    assert torch.equal(embedding(ids)[0], embedding.weight[ids[0]])


def test_another_pass_inside_is_left_alone():
    embedding, positions = torch.nn.Embedding(VOCAB, WIDTH), torch.ones(1, 2, dtype=torch.bool)
    other = torch.tensor([[4, 5, 6]])
    with injected(embedding, positions, torch.zeros(2, WIDTH)):
        assert torch.equal(embedding(other)[0], embedding.weight[other[0]])
        assert not embedding(torch.tensor([[1, 2]])).any()
        assert torch.equal(embedding(other)[0], embedding.weight[other[0]])


def test_a_decoder_that_does_not_ask_its_embeddings_is_refused():
    embedding, positions = torch.nn.Embedding(VOCAB, WIDTH), torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(BaseModelError, match="another decoder"), injected(embedding, positions, torch.zeros(2, WIDTH)):
        torch.nn.functional.embedding(torch.tensor([[1, 2]]), embedding.weight)


def test_slots_take_the_dtype_of_the_embeddings():
    embeds = torch.zeros(1, 2, WIDTH, dtype=torch.bfloat16)
    positions, mask = torch.tensor([[True, False]]), torch.ones(1, 1, 1, dtype=torch.bool)
    assert inject(embeds, positions, torch.ones(1, 1, 1, WIDTH), mask).dtype == torch.bfloat16
