"""Slots of passages that come again are kept, are the same, and take no more than they may."""

import httpx
import pytest
import torch
from served import served

from llink.modeling_llink.passages import check_passage
from llink.serving.slot_cache import SlotCache

TEXTS = ["ក្មេងទៅសាលា", "a dog runs", "we eat rice at noon", "12"]


@pytest.fixture(scope="module", params=["tokens", "mlp"])
def model(request, make_model):
    return make_model(slot_expander=request.param, literals=["number"] if request.param == "tokens" else []).eval()


def test_kept_slots_are_those_of_the_passage(model):
    cache = SlotCache(model, 2**20)
    first, again = cache.slots(TEXTS), cache.slots(TEXTS[::-1])[::-1]
    assert (cache.misses, cache.hits) == (len(TEXTS), len(TEXTS))
    for text, one, kept in zip(TEXTS, first, again, strict=True):
        assert kept is one
        alone = SlotCache(model, 0).slots([text])[0]
        assert one.shape == alone.shape
        assert torch.allclose(one, alone, atol=1e-5)
    assert len({len(one) for one in first}) > 1 or model.config.num_slots, "vacuous unless they differ in length"


def test_a_text_that_comes_twice_at_once_is_read_once(model):
    cache = SlotCache(model, 2**20)
    one, two = cache.slots([check_passage(TEXTS[0]), TEXTS[0]])
    assert one is two
    assert (cache.misses, cache.hits) == (1, 1)


def test_what_was_asked_for_longest_ago_goes(model):
    size = SlotCache(model, 2**20)
    size.slots(TEXTS[:2])
    cache = SlotCache(model, size.bytes)
    cache.slots(TEXTS[:2])
    assert cache.bytes == size.bytes
    cache.slots(TEXTS[:1])
    cache.slots(["a dog"])  # shorter than the second, which goes for it
    assert cache.bytes <= size.bytes
    before = cache.misses
    cache.slots(TEXTS[:1])
    assert cache.misses == before
    cache.slots(TEXTS[1:2])
    assert cache.misses == before + 1


def test_without_room_nothing_is_kept(model):
    cache = SlotCache(model, 0)
    cache.slots(TEXTS)
    cache.slots(TEXTS)
    assert (cache.misses, cache.hits, cache.bytes) == (2 * len(TEXTS), 0, 0)


def test_the_server_encodes_a_passage_once(model, monkeypatch):
    runs, states = [], model.passage_states
    monkeypatch.setattr(model, "passage_states", lambda *given: runs.append(1) or states(*given))
    content = [{"type": "text", "text": "?"}, {"type": "foreign_text", "text": TEXTS[0]}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 4}
    with served(model) as (url, _):
        answers = [httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json() for _ in range(3)]
        page = httpx.get(f"{url}/metrics").text
    assert len(runs) == 1
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert 'llink_passages_total{slots="kept"} 2' in page
    assert 'llink_passages_total{slots="encoded"} 1' in page
