"""Streams, threads that share a model, and conversations that go on from their cache."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
import torch
from transformers import AsyncTextIteratorStreamer, DynamicCache, TextIteratorStreamer

from llink.modeling_llink.errors import ForeignTextError, PromptError, SlotMismatchError

pytestmark = pytest.mark.matrix

ASK = dict(foreign_text="the cat", prompt="Summarize.", max_new_tokens=12, min_new_tokens=12)


# ------------------------------------------------------------------ streams


def streamed(model, streamer, **arguments) -> tuple[list[str], list]:
    """The pieces that came out of a stream while another thread generated, and what that thread left."""
    left = []

    def work():
        try:
            left.append(model.generate(**arguments, streamer=streamer))
        except Exception as error:
            left.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    pieces = list(streamer)
    thread.join()
    return pieces, left


@pytest.mark.parametrize("skip_prompt", [False, True])
def test_only_new_tokens_are_streamed(model, skip_prompt):
    streamer = TextIteratorStreamer(model.processor, skip_prompt=skip_prompt, skip_special_tokens=True, timeout=60)
    pieces, (tokens,) = streamed(model, streamer, **ASK)
    assert len(pieces) > 2, "vacuous unless it comes in pieces"
    assert "".join(pieces) == model.processor.decode(tokens[0], skip_special_tokens=True)
    assert torch.equal(tokens, model.generate(**ASK)), "watching changes nothing"


def test_a_stream_of_a_conversation(model):
    messages = [{"role": "user", "content": [{"type": "foreign_text", "text": "the cat"}]}]
    streamer = TextIteratorStreamer(model.processor.tokenizer, timeout=60)
    pieces, (tokens,) = streamed(model, streamer, messages=messages, max_new_tokens=6)
    assert "".join(pieces) == model.processor.tokenizer.decode(tokens[0])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(dict(foreign_text=""), ForeignTextError), (dict(foreign_text="the cat", num_beams=2), ValueError)],
    ids=["refused", "transformers refuses"],
)
def test_an_error_ends_the_stream(model, arguments, error):
    """Whoever reads it would wait for ever."""
    pieces, (left,) = streamed(model, TextIteratorStreamer(model.processor, timeout=20), **arguments)
    assert isinstance(left, error)
    assert "".join(pieces) == ""


def test_an_asynchronous_stream(model):
    import asyncio

    async def read() -> str:
        streamer = AsyncTextIteratorStreamer(model.processor, timeout=60)
        thread = threading.Thread(target=model.generate, kwargs={**ASK, "streamer": streamer})
        thread.start()
        text = "".join([piece async for piece in streamer])
        thread.join()
        return text

    assert asyncio.run(read()) == model.processor.decode(model.generate(**ASK)[0])


# ------------------------------------------------------------------ threads


def requests() -> list[dict]:
    """With LoRA on and off, and with text that needs another setting of the tokenizer."""
    rows = []
    for number in range(6):
        prompt = f"Summarize {number}. <|end|> <|user|> <tool_call>" if number % 2 else f"Translate {number}."
        rows.append(dict(foreign_text=f"the cat {number} <lang> <s>", prompt=prompt))
        rows.append(dict(prompt=prompt))
    return rows


@pytest.mark.slow
def test_threads_on_one_model_give_what_one_after_another_gives(make_model):
    """LoRA is on for some and off for others, and tokenizers keep settings of their last call."""
    model = make_model()
    model.processor  # noqa: B018 - loaded before
    options = dict(max_new_tokens=8, min_new_tokens=8, return_dict_in_generate=True, output_logits=True)

    def work(arguments):
        return torch.stack(model.generate(**arguments, **options).logits)

    alone = [work(arguments) for arguments in requests()]
    with torch.no_grad():
        inputs = model.processor("Translate 0.")
        on, off = (model(**inputs, reads_slots=torch.tensor([use])).logits for use in (True, False))
    assert (on - off).abs().max() > 0.1, "vacuous unless LoRA does something"
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(work, requests() * 4))
    for index, found in enumerate(together):
        assert torch.equal(found, alone[index % len(alone)]), index


def test_threads_share_the_tokenizers(model):
    """Text that looks like control tokens is tokenised with another setting than the template around it."""
    prompts = ["Summarize. <|end|><|user|> <tool_call>" * 3, "Translate."] * 60

    def ids(prompt):
        return model.processor(prompt, "the cat <s><lang>")["input_ids"].tolist()

    alone = list(map(ids, prompts))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ids, prompts)) == alone
    finally:
        sys.setswitchinterval(interval)


def test_the_teacher_reads_beside_generation(make_model):
    """It reads with LoRA off, many batches long."""
    model = make_model()
    english = [f"he has {n} books" for n in range(40)]
    states, answer = model.get_teacher_states(english, batch_size=2), model.generate(**ASK)
    with ThreadPoolExecutor(4) as pool:
        first = [pool.submit(model.get_teacher_states, english, batch_size=2) for _ in range(2)]
        second = [pool.submit(model.generate, **ASK) for _ in range(4)]
        assert all(torch.equal(job.result(), states) for job in first)
        assert all(torch.equal(job.result(), answer) for job in second)


# ------------------------------------------------------------------ conversations


def foreign(*texts, prompt="Go on. "):
    parts = [{"type": "foreign_text", "text": text} for text in texts]
    return {"role": "user", "content": [{"type": "text", "text": prompt}, *parts]}


def digits_only(model) -> list[int]:
    """All ids but those of digits: texts of digits are tokenised as they were generated."""
    tokenizer = model.processor.tokenizer
    digits = {tokenizer.encode(digit, add_special_tokens=False)[0] for digit in "0123456789"}
    return sorted(set(range(model.config.vocab_size)) - digits)


class Chat:
    """Asks turn by turn, with a cache or without, and counts the tokens that the decoder reads."""

    def __init__(self, model, cache=None):
        self.model, self.cache, self.messages = model, cache, []
        self.options = dict(max_new_tokens=4, min_new_tokens=4, suppress_tokens=digits_only(model))
        self.options |= dict(return_dict_in_generate=True, output_logits=True)

    def ask(self, message):
        self.messages.append(message)
        embedded = []

        def count(_module, _arguments, given):
            read = given["input_ids"] if given["inputs_embeds"] is None else given["inputs_embeds"]
            embedded.append(read.shape[1])

        handle = self.model.decoder.register_forward_pre_hook(count, with_kwargs=True)
        try:
            output = self.model.generate(messages=self.messages, past_key_values=self.cache, **self.options)
        finally:
            handle.remove()
        answer = self.model.processor.decode(output.sequences[0], skip_special_tokens=True)
        self.messages.append({"role": "assistant", "content": answer.strip()})
        return output.sequences, output.logits[0], embedded[0]


TURNS = (foreign("the cat", "home"), foreign("a dog"), foreign(prompt="And then?"), foreign("rice", "noon"))


@pytest.mark.parametrize("decoder", tiny.DECODERS)
def test_a_conversation_reads_only_what_is_new(shared_model, decoder):
    model = shared_model(decoder=decoder)
    cached, whole = Chat(model, DynamicCache(config=model.config.decoder_config)), Chat(model)
    for number, message in enumerate(TURNS):
        with tiny.count_calls(model.encoder) as encoded:
            one, first, read = cached.ask(message)
        two, wanted, length = whole.ask(message)
        assert torch.equal(one, two), number
        assert torch.allclose(first, wanted, atol=5e-3)
        if model.processor.chat_template:
            assert len(encoded) == (message is not TURNS[2]), "a turn without a passage needs no encoder"
        if number and model.processor.chat_template:  # the paper's format writes a space before an answer
            assert read < length / 2, "only the new turn is read"
    assert cached.messages == whole.messages
    other = Chat(model)
    for message in (foreign("rice", "home"), *TURNS[1:]):
        last = other.ask(message)
    assert not torch.allclose(last[1], wanted, atol=1e-2), "vacuous unless the first turn matters to the last"


def test_a_text_turn_before_the_first_passage_is_read_again(model):
    """It was read with LoRA off; without a cache the whole conversation is read with LoRA on."""
    cached, whole = Chat(model, DynamicCache()), Chat(model)
    for message in (foreign(prompt="Hello."), foreign(prompt="How are you?"), foreign("the cat"), foreign("a dog")):
        (one, first, read), (two, wanted, length) = cached.ask(message), whole.ask(message)
        assert torch.equal(one, two)
        assert torch.allclose(first, wanted, atol=5e-3)
    assert read < length / 2


def test_ids_with_a_cache_of_a_text_turn(model):
    """The same, by transformers' own conventions."""
    options = dict(tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True)
    messages = [foreign(prompt="Hello.")]
    cache = DynamicCache()
    model.generate(**model.processor.apply_chat_template(messages, **options), past_key_values=cache, max_new_tokens=1)
    assert cache.get_seq_length() > 5
    messages += [{"role": "assistant", "content": "Hi."}, foreign("the cat")]
    inputs = model.processor.apply_chat_template(messages, **options)
    wanted = model.generate(**inputs, max_new_tokens=6)
    assert torch.equal(model.generate(**inputs, max_new_tokens=6, past_key_values=cache), wanted)
    new = {"input_ids": inputs["input_ids"][:, -3:], "attention_mask": inputs["attention_mask"]}
    with pytest.raises(SlotMismatchError, match="whole conversation"):
        model.generate(**new, past_key_values=cache, max_new_tokens=1)


@pytest.mark.parametrize(
    "what", ["another conversation", "an edited passage", "an edited answer", "fewer turns", "beams"]
)
def test_a_cache_of_something_else_is_emptied(model, what):
    chat = Chat(model, DynamicCache())
    if what == "beams":
        chat.options |= dict(num_beams=2)
    for message in TURNS[:2]:
        chat.ask(message)
    chat.options.pop("num_beams", None)
    messages = list(chat.messages)
    if what == "another conversation":
        messages = [foreign("noon")]
    elif what == "an edited passage":
        messages = [foreign("a cat", "home"), *messages[1:]]
    elif what == "an edited answer":
        messages = [messages[0], {"role": "assistant", "content": "No."}, *messages[2:]]
    elif what == "fewer turns":
        messages = messages[:1]
    if messages[-1]["role"] == "assistant":
        messages.append(TURNS[2])
    wanted = model.generate(messages=messages, **chat.options)
    found = model.generate(messages=messages, past_key_values=chat.cache, **chat.options)
    assert torch.equal(found.sequences, wanted.sequences)
    assert torch.allclose(found.logits[0], wanted.logits[0], atol=5e-3)


def test_several_conversations_at_once(model):
    """Rows of different lengths are padded anew at each turn, so they are read again: slower, and the same."""
    cache, options = DynamicCache(), dict(max_new_tokens=4, suppress_tokens=digits_only(model))
    rows = [[foreign("the cat")], [foreign("a dog", "home", prompt="A longer prompt. ")]]
    for message in TURNS[1:3]:
        wanted = model.generate(messages=rows, **options)
        assert torch.equal(model.generate(messages=rows, past_key_values=cache, **options), wanted)
        answers = model.processor.batch_decode(wanted, skip_special_tokens=True)
        rows = [[*row, {"role": "assistant", "content": a}, message] for row, a in zip(rows, answers, strict=True)]


def test_messages_are_the_same_as_prompt_and_text(model):
    (messages,) = model.processor.conversations("Summarize.", ["the cat"])
    one = model.generate(foreign_text="the cat", prompt="Summarize.", max_new_tokens=6)
    assert torch.equal(model.generate(messages=messages, max_new_tokens=6), one)
    assert torch.equal(model.generate(messages=[messages] * 2, max_new_tokens=6), torch.cat([one, one]))


@pytest.mark.parametrize(
    "arguments",
    [
        dict(messages=[]),
        dict(messages="Hello."),
        dict(messages=[foreign("a")], prompt="x"),
        dict(messages=[foreign("a")], input_ids=torch.ones(1, 2, dtype=torch.long)),
        dict(messages=[{"role": "user", "content": [{"type": "image", "url": "x"}]}]),
    ],
    ids=str,
)
def test_bad_messages_are_refused_before_anything_runs(model, arguments):
    with tiny.count_calls(model.decoder) as calls, pytest.raises(PromptError):
        model.generate(**arguments, max_new_tokens=1)
    assert calls == []
