"""The disk cache of frozen features."""

import multiprocessing
import sqlite3
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from llink.data import features
from llink.data.errors import DataError
from llink.data.feature_cache import FeatureCache
from llink.data.features import PairTensors, compute_features, encoder_spec, teacher_spec

SPEC = {"kind": "test", "layer": -1}


class Counter:
    """Computes a vector that no float32 rounding would keep by accident, and counts what it was asked."""

    def __init__(self, width: int = 5):
        self.width, self.asked = width, []

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.asked.extend(texts)
        rows = [torch.full((self.width,), 1 / (3 + len(t) + sum(map(ord, t)))) for t in texts]
        return torch.stack(rows)


def test_cached_equals_uncached_and_repeats_are_computed_once(tmp_path):
    texts = ["a", "bb", "a", "ccc", "bb", "a"]
    compute = Counter()
    plain = FeatureCache(None).get(SPEC, texts, compute)
    assert sorted(compute.asked) == ["a", "bb", "ccc"]
    cache, compute = FeatureCache(tmp_path), Counter()
    first = cache.get(SPEC, texts, compute, chunk_size=2)
    assert sorted(compute.asked) == ["a", "bb", "ccc"]
    again = FeatureCache(tmp_path).get(SPEC, texts[::-1], compute).flip(0)
    assert len(compute.asked) == 3  # nothing new
    assert first.dtype == torch.float32
    assert torch.equal(plain, first)
    assert torch.equal(plain, again)


def test_another_spec_is_another_file(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.get(SPEC, ["a"], Counter())
    compute = Counter(7)
    assert cache.get({**SPEC, "layer": -2}, ["a"], compute).shape == (1, 7)
    assert compute.asked == ["a"]
    assert len(list(tmp_path.iterdir())) == 2
    assert cache.path({"layer": -1, "kind": "test"}) == cache.path(SPEC)  # the order of keys is nothing


def test_a_killed_run_resumes_after_its_last_chunk(tmp_path):
    texts = [f"text {i:03d}" for i in range(10)]

    class Killed(Counter):
        def __call__(self, chunk):
            if len(self.asked) >= 6:
                raise KeyboardInterrupt
            return super().__call__(chunk)

    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path).get(SPEC, texts, Killed(), chunk_size=3)
    compute = Counter()
    vectors = FeatureCache(tmp_path).get(SPEC, texts, compute, chunk_size=3)
    assert len(compute.asked) == 4
    assert torch.equal(vectors, Counter()(texts))


def test_longest_first(tmp_path):
    compute = Counter()
    FeatureCache(tmp_path).get(SPEC, ["a", "cccc", "bb"], compute, chunk_size=1)
    assert compute.asked == ["cccc", "bb", "a"]


@pytest.mark.parametrize("folder", [True, False])
def test_bad_features_name_the_text(tmp_path, folder):
    cache = FeatureCache(tmp_path if folder else None)

    def poisoned(texts):
        return torch.tensor([[float("inf") if text == "bad" else 1.0] for text in texts])

    with pytest.raises(DataError, match="text 2: 'bad'"):
        cache.get(SPEC, ["a", "b", "bad"], poisoned)
    assert torch.equal(cache.get(SPEC, ["a"], Counter(1)), Counter(1)(["a"]))  # the poisoned chunk was not kept
    with pytest.raises(DataError, match="shape"):
        cache.get(SPEC, ["x", "y"], lambda texts: torch.ones(1, 1))
    with pytest.raises(DataError, match="no texts"):
        cache.get(SPEC, [], Counter())
    with pytest.raises(DataError, match="NoneType"):
        cache.get(SPEC, [None], Counter())
    with pytest.raises(TypeError):
        cache.get({"model": object()}, ["a"], Counter())


def test_a_changed_width_is_refused(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.get(SPEC, ["a"], Counter(3))
    with pytest.raises(DataError, match="width 4"):
        cache.get(SPEC, ["b"], Counter(4))


def test_a_damaged_file_says_so_and_how_to_go_on(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.get(SPEC, ["a", "b"], Counter())
    path = cache.path(SPEC)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE features SET vector = zeroblob(20)")
    with pytest.raises(DataError, match=r"checksum.*Delete"):
        cache.get(SPEC, ["a"], Counter())
    path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(DataError, match=r"damaged.*Delete"):
        cache.get(SPEC, ["a"], Counter())
    path.unlink()
    assert cache.get(SPEC, ["a"], Counter()).shape == (1, 5)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="feature_cache_dir"):
        FeatureCache(tmp_path / "file" / "inner").get(SPEC, ["a"], Counter())


def _write(folder, texts):
    torch.set_num_threads(1)
    FeatureCache(folder).get(SPEC, texts, Counter(), chunk_size=1)


def test_processes_may_write_at_once(tmp_path):
    texts = [f"t{i}" for i in range(40)]
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path, texts[k:] + texts[:k])) for k in (0, 13, 27)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(300)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    compute = Counter()
    assert torch.equal(FeatureCache(tmp_path).get(SPEC, texts, compute), Counter()(texts))
    assert not compute.asked


class Model:
    config = SimpleNamespace(
        pooling="mean",
        encoder_layer=-1,
        long_passages="cut",
        max_foreign_chars=256,
        max_foreign_tokens=64,
        teacher_template="{text}",
        teacher_state="mean",
        teacher_layer=-1,
        teacher_max_tokens=128,
    )

    def __init__(self):
        self.encoder, self.decoder = Counter(3), Counter(4)

    def get_pooled_features(self, texts, batch_size=32):
        return self.encoder(texts)

    def get_teacher_states(self, texts, batch_size=32):
        return self.decoder(texts)


@pytest.fixture
def hashed(monkeypatch):
    """A base's content is its name."""
    monkeypatch.setattr(features, "base_fingerprint", lambda model, kind: f"hash of the {kind}")


def test_pair_features_run_each_base_once_a_text(tmp_path, hashed):
    pairs = Dataset.from_dict({"id": ["1", "2", "3"], "english": ["a", "b", "a"], "foreign": ["x", "x", "y"]})
    model = Model()
    first = compute_features(model, pairs, tmp_path, show_progress=False)
    assert first.pooled.shape == (3, 3)
    assert first.teacher_states.shape == (3, 4)
    assert len(first) == 3
    assert (len(model.encoder.asked), len(model.decoder.asked)) == (2, 2)
    fresh = Model()
    cached = compute_features(fresh, pairs, tmp_path, show_progress=False)
    assert not fresh.encoder.asked
    assert not fresh.decoder.asked
    assert torch.equal(cached.pooled, first.pooled)
    assert torch.equal(cached.teacher_states, first.teacher_states)


@pytest.mark.parametrize("field", list(vars(Model.config)))
def test_every_option_that_changes_features_changes_a_spec(field, hashed):
    before, changed = Model(), Model()
    changed.config = SimpleNamespace(**{**vars(Model.config), field: "something else"})
    assert (encoder_spec(before), teacher_spec(before)) != (encoder_spec(changed), teacher_spec(changed))


def test_pair_tensors_collate():
    tensors = PairTensors(torch.arange(6.0).view(3, 2), torch.zeros(3, 4), torch.tensor([7, 8, 7]))
    batch = tensors.collate([tensors[2], tensors[0]])
    assert len(tensors) == 3
    assert batch["features"].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert batch["groups"].tolist() == [7, 7]
    assert batch["rows"].tolist() == [2, 0]
