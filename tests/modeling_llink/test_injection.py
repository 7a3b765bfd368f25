"""Injection: counted before it is scattered."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llink.modeling_llink.errors import BaseModelError, SlotMismatchError
from llink.modeling_llink.injection import check_counts, injected

VOCAB, WIDTH = 11, 3


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
