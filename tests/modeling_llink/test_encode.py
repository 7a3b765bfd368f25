"""`encode` and `similarity`, by the names that sentence-transformers has."""

import numpy as np
import pytest
import torch
from transformers import pipeline

from llink import ForeignTextError

TEXTS = ["ក្មេងទៅសាលា", "the cat sat on the mat", "a dog runs"]


@pytest.mark.parametrize("side", ["foreign", "english"])
def test_vectors_are_the_features_at_length_one(model, side):
    features = model.get_teacher_features(TEXTS) if side == "english" else model.get_foreign_features(TEXTS)
    vectors = model.encode(TEXTS, side=side, batch_size=2)
    assert isinstance(vectors, np.ndarray)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, torch.nn.functional.normalize(features, dim=-1), atol=1e-5)
    assert np.allclose(model.encode(TEXTS[1], side=side), vectors[1], atol=1e-5)
    assert torch.is_tensor(model.encode(TEXTS, side=side, convert_to_tensor=True))
    with pytest.raises(ForeignTextError):
        model.encode(["", "a"], side=side)


def test_similarity_is_the_cosine_of_all_with_all(model):
    foreign, english = model.encode(TEXTS), model.encode(TEXTS[:2], side="english")
    found = model.similarity(english, 3 * foreign)
    assert found.shape == (2, 3)
    assert np.allclose(found, english @ foreign.T, atol=1e-5)
    assert model.similarity(foreign[0], foreign).argmax() == 0


def test_the_pipeline_gives_the_same_directions(model):
    features = pipeline("feature-extraction", model=model, tokenizer=model.processor.tokenizer)
    for side, options in (("foreign", {}), ("english", {"english": True})):
        found = torch.tensor(features(TEXTS[1], **options))
        assert model.similarity(found, model.encode(TEXTS[1], side=side)).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["mlp", "tokens"])
def test_one_pass_gives_vectors_and_slots(kind, make_model):
    """As the two passes of `get_foreign_features` and `encode_foreign` do."""
    model = make_model(slot_expander=kind)
    pieces = [piece for of_one in model.processor.read_passages(TEXTS) for piece in of_one]
    found = model.encode_pieces(pieces, batch_size=2)
    vectors = model.get_foreign_features(TEXTS)
    for number, (vector, slots) in enumerate(found):
        assert torch.allclose(vector, vectors[number], atol=1e-4)
        assert torch.allclose(slots, model.encode_foreign(TEXTS)[number], atol=1e-4)
