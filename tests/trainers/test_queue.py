"""The FIFO queue of negatives, against a deque."""

from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from llink.trainers.errors import TrainingError
from llink.trainers.queue import TeacherQueue

DIM = 3


def batch(start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors whose direction tells their id."""
    ids = torch.arange(start, start + count)
    angles = ids.double() * 0.37
    return torch.stack([angles.cos(), angles.sin(), torch.ones_like(angles)], dim=1).float() * 5, ids


def stored(ids: list[int]) -> torch.Tensor:
    vectors = torch.cat([batch(i, 1)[0] for i in ids]) if ids else torch.zeros(0, DIM)
    return torch.nn.functional.normalize(vectors, dim=1).half()


@given(st.integers(1, 7), st.lists(st.integers(0, 17), max_size=8))
def test_pushing_equals_a_deque(capacity, counts):
    queue, model, start = TeacherQueue(capacity, DIM), deque(maxlen=capacity), 0
    for count in counts:
        vectors, ids = batch(start, count)
        queue.push(vectors, ids)
        model.extend(ids.tolist())
        start += count
        assert len(queue) == len(model)
        assert sorted(queue.ids.tolist()) == sorted(model)
        assert torch.equal(queue.vectors, stored(queue.ids.tolist()))  # each vector stays with its id
    queue.push(*batch(start, 1))  # and the oldest goes first
    model.append(start)
    assert sorted(queue.ids.tolist()) == sorted(model)


@given(st.integers(1, 6), st.lists(st.integers(0, 9), max_size=5), st.lists(st.integers(0, 9), max_size=5))
def test_a_restored_queue_goes_on_byte_for_byte(capacity, before, after):
    queue = TeacherQueue(capacity, DIM)
    for start, count in enumerate(before):
        queue.push(*batch(start * 20, count))
    restored = TeacherQueue(capacity, DIM)
    restored.load_state_dict({name: tensor.clone() for name, tensor in queue.state_dict().items()})
    for start, count in enumerate(after):
        for each in (queue, restored):
            each.push(*batch(1000 + start * 20, count))
    assert torch.equal(queue.vectors, restored.vectors)
    assert torch.equal(queue.ids, restored.ids)


def test_vectors_are_unit_norm_half_precision():
    queue = TeacherQueue(4, DIM)
    queue.push(torch.randn(3, DIM) * 1000, torch.arange(3))
    assert queue.vectors.dtype == torch.float16
    assert queue.ids.dtype == torch.int64
    torch.testing.assert_close(queue.vectors.float().norm(dim=1), torch.ones(3), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("vectors", "ids"),
    [(torch.ones(2, 4), torch.arange(2)), (torch.ones(2, DIM), torch.arange(3)), (torch.ones(DIM), torch.arange(1))],
)
def test_bad_pushes(vectors, ids):
    with pytest.raises(ValueError, match="do not fit a queue of width 3"):
        TeacherQueue(4, DIM).push(vectors, ids)


def test_bad_sizes():
    with pytest.raises(ValueError, match="capacity=0"):
        TeacherQueue(0, DIM)


def test_save_and_load(tmp_path):
    queue, path = TeacherQueue(5, DIM), tmp_path / "queue.safetensors"
    queue.push(*batch(0, 7))
    queue.save(path, {"train_pairs": "abc"})
    assert [file.name for file in tmp_path.iterdir()] == ["queue.safetensors"]
    restored = TeacherQueue(5, DIM)
    restored.load(path, {"train_pairs": "abc"})
    assert torch.equal(restored.vectors, queue.vectors)
    with pytest.raises(TrainingError, match=r"train_pairs='abc'.*'other'"):
        restored.load(path, {"train_pairs": "other"})
    with pytest.raises(TrainingError, match=r"capacity 5 and width 3.*6"):
        TeacherQueue(6, DIM).load(path)
    with pytest.raises(TrainingError, match=r"gone.safetensors.*new run"):
        restored.load(tmp_path / "gone.safetensors")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(TrainingError, match="Cannot read"):
        restored.load(path)
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(TrainingError, match="kind=None"):
        restored.load(path)
