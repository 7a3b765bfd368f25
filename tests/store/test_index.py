"""The index: exact in a small store, nearly so in a large one, kept on disk and brought up to date."""

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, concatenate_datasets

from llink import StoreError
from llink.store import index as index_module
from llink.store.index import VectorIndex

N, WIDTH = 3000, 32


def dataset(vectors):
    flat = pa.array(vectors.astype(np.float16).ravel())
    return Dataset(pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}))


@pytest.fixture(scope="module")
def vectors():
    """Unit vectors around forty centres, as texts of forty topics."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(40, WIDTH))
    rows = centres[draw.integers(40, size=N)] + 0.7 * draw.normal(size=(N, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def large(monkeypatch):
    """Every store is a large one."""
    monkeypatch.setattr(index_module, "EXACT_ROWS", 100)
    monkeypatch.setattr(index_module, "_LEAST", 50)


def test_a_small_store_is_searched_exactly(vectors, tmp_path):
    index = VectorIndex(dataset(vectors), tmp_path / "index.faiss")
    cosines = vectors @ vectors[7]
    assert [row for _, row in index.search(vectors[7], 5)] == np.argsort(-cosines)[:5].tolist()
    assert [score for score, _ in index.search(vectors[7], 5)] == pytest.approx(np.sort(cosines)[::-1][:5], abs=2e-3)
    assert not (tmp_path / "index.faiss").exists()


def test_a_large_one_nearly_so(vectors, large, tmp_path):
    index = VectorIndex(dataset(vectors), tmp_path / "index.faiss")
    assert not index.exact
    assert (tmp_path / "index.faiss").stat().st_size < vectors.nbytes / 4
    hits = 0
    for query in vectors[:100]:
        cosines = vectors @ query
        found = index.search(query, 5)
        assert [score for score, _ in found] == pytest.approx([cosines[row] for _, row in found], abs=2e-3)
        hits += len({row for _, row in found} & set(np.argsort(-cosines)[:5].tolist()))
    assert hits >= 450


def test_a_kept_index_is_read_and_grows(vectors, large, tmp_path, monkeypatch):
    path = tmp_path / "index.faiss"
    VectorIndex(dataset(vectors[:2000]), path)
    trained = []
    monkeypatch.setattr(VectorIndex, "_trained", lambda self: trained.append(1) or pytest.fail("learned again"))
    before = path.read_bytes()
    VectorIndex(dataset(vectors[:2000]), path)
    assert path.read_bytes() == before
    index = VectorIndex(dataset(vectors), path)
    assert index.search(vectors[-1], 1)[0][1] == N - 1
    assert not trained


def test_one_that_is_damaged_or_too_small_is_made_again(vectors, large, tmp_path, caplog):
    path = tmp_path / "index.faiss"
    path.write_bytes(b"nothing of the kind")
    assert VectorIndex(dataset(vectors[:500]), path).search(vectors[3], 1)[0][1] == 3
    assert "damaged" in caplog.text
    assert VectorIndex(dataset(vectors), path).search(vectors[-1], 1)[0][1] == N - 1


def test_without_faiss_the_remedy_is_told(vectors, monkeypatch):
    monkeypatch.setattr(index_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StoreError, match=r"pip install 'llink\[store\]'"):
        VectorIndex(dataset(vectors))


def test_vectors_are_read_from_whichever_file_holds_them(vectors):
    rows = concatenate_datasets([dataset(vectors[:1000]), dataset(vectors[1000:1001]), dataset(vectors[1001:])])
    chosen = [2999, 0, 999, 1000, 1001, 0]
    stored = vectors.astype(np.float16).astype(np.float32)
    assert np.array_equal(VectorIndex(rows).vectors(chosen), stored[chosen])
    backwards = VectorIndex(rows.select(range(N - 1, -1, -1)))
    assert np.array_equal(backwards.vectors(chosen), stored[::-1][chosen])
