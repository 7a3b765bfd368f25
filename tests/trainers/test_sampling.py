"""The order of training rows."""

from hypothesis import given
from hypothesis import strategies as st

from llink.trainers.sampling import GroupedByLength


@given(st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(1, 16), st.integers(0, 3), st.integers(0, 3))
def test_every_row_is_drawn_once_and_the_longest_first(lengths, size, seed, epoch):
    sampler = GroupedByLength(lengths, size, seed)
    sampler.set_epoch(epoch)
    rows = list(sampler)
    assert sorted(rows) == list(range(len(lengths)))
    assert rows == list(sampler), "the same at every visit"
    assert lengths[rows[0]] == max(lengths)


def test_rows_of_a_step_are_of_like_length_and_steps_of_any_length_follow():
    lengths = list(range(1, 201))
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (5, 0)):
        sampler = GroupedByLength(lengths, 10, seed)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] != orders[1] != orders[2] != orders[0]
    means = [sum(orders[0][i : i + 10]) / 10 for i in range(0, 200, 10)]
    assert means[1:] != sorted(means[1:], reverse=True), "not from long to short"
    widths = [max(orders[0][i : i + 10]) - min(orders[0][i : i + 10]) for i in range(10, 200, 10)]
    assert sum(widths) / len(widths) < 60, "of random rows about 170"
