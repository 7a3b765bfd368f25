"""Beginnings that prompts share are read once, and answers stay what `generate` answers."""

import asyncio

import pytest

from llink.serving.beginnings import LEAST, Beginnings
from llink.serving.engine import ChatRequest, Limits
from llink.serving.transformers_engine import TransformersEngine

TEXTS = ["ក្មេងទៅសាលា", "a dog runs 12 km", "we eat rice at noon", "12", "ក", "he has 2 books and 34 cats at noon"]
SYSTEM = "the cat sat on the mat. Summarize the cat in English. the mat sat on 1"


def about(text, prompt="Translate to English."):
    parts = [{"type": "text", "text": prompt}, {"type": "foreign_text", "text": text}]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": parts}]


def plain(text):
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def alone(model, messages):
    tokens = model.generate(messages=messages, max_new_tokens=12, do_sample=False)
    return model.processor.batch_decode(tokens, skip_special_tokens=True)[0]


async def answered(engine, conversations):
    """The answers to conversations that are asked at once."""

    async def one(messages):
        answer = await engine.generate(ChatRequest(messages, 12, temperature=0))
        return "".join([delta.text async for delta in answer])

    return await asyncio.gather(*map(one, conversations))


def asked(model, batches, **limits):
    """The answers to batches, one after the other, and the engine's beginnings."""
    engine = TransformersEngine(model, Limits(**limits))
    try:
        return [asyncio.run(answered(engine, batch)) for batch in batches], engine.beginnings
    finally:
        engine.close()


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request, make_model):
    """Positions that turn, and positions that are learned."""
    return make_model(decoder=request.param, slot_expander="tokens", literals=["number"]).eval()


def test_answers_behind_a_kept_beginning_are_those_of_generate(model):
    foreign, texts = [about(text) for text in TEXTS], [plain(text) for text in TEXTS]
    batches = [foreign, texts, foreign[::-1], texts[:1], foreign[1:2], [about(TEXTS[1], "Summarize in English.")]]
    answers, beginnings = asked(model, batches)
    assert beginnings.hits >= len(TEXTS) + 2, "vacuous unless the later batches were behind what was kept"
    wanted = [[alone(model, messages) for messages in batch] for batch in batches]
    assert len({answer for batch in wanted for answer in batch}) > 6, "vacuous unless answers differ"
    assert answers == wanted


def test_a_beginning_ends_before_the_first_slot_and_is_lora_s_own(model):
    beginnings = Beginnings(model, 2**20)
    prompts = [model.processor.render(about(text))[0] for text in TEXTS[:2]]
    assert beginnings.of(prompts, lora=True) is None, "nobody knows yet that it comes again"
    cache = beginnings.of(prompts, lora=True)
    length, start = cache.get_seq_length(), model.config.reserved_token_start
    assert length >= LEAST
    assert prompts[0][:length] == prompts[1][:length]
    assert max(prompts[0][:length]) < start <= max(prompts[0])
    assert [layer.keys.shape[0] for layer in cache.layers] == [2] * len(cache.layers)
    assert beginnings.of(prompts, lora=False) is None


def test_what_is_kept_is_bounded(model):
    prompts = [model.processor.render(about(TEXTS[0], f"{number} {'cat ' * number}"))[0] for number in range(4, 9)]
    large = Beginnings(model, 2**30)
    for prompt in prompts:
        large.of([prompt] * 3, lora=True)
    assert len(large._kept) > 2, "vacuous unless several are kept"
    small = Beginnings(model, large.bytes // 2)
    for prompt in prompts:
        small.of([prompt] * 3, lora=True)
        assert small.bytes <= small.max_bytes
    assert small.of([prompts[-1]] * 3, lora=True) is not None
    none = Beginnings(model, 0)
    assert [none.of([prompt] * 3, lora=True) for prompt in prompts] == [None] * len(prompts)
    tiny = Beginnings(model, 10)
    assert [tiny.of([prompt] * 3, lora=True) for prompt in prompts] == [None] * len(prompts)
    assert tiny.bytes == 0


def test_a_decoder_with_a_window_is_answered_without(make_model):
    model = make_model(decoder="gemma2", slot_expander="tokens").eval()
    batch = [about(text) for text in TEXTS[:4]]
    answers, beginnings = asked(model, [batch, batch])
    assert (beginnings.hits, beginnings.bytes) == (0, 0)
    assert answers == [[alone(model, messages) for messages in batch]] * 2
