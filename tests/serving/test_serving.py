"""A served model: OpenAI's own client, many requests at once, those that hang up, and those that are unusable."""

import base64
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from huggingface_hub import InferenceClient
from served import served, wait_for

from llink import SlotStore

KEY = "a key"
TEXTS = ["ក្មេងទៅសាលា", "a dog runs", "we eat rice at noon", "he has two books"]


@pytest.fixture(scope="module")
def model(make_model):
    """Slots of tokens, numbers written out, long texts in pieces."""
    return make_model(slot_expander="tokens", literals=["number"], long_passages="split")


@pytest.fixture(scope="module")
def server(model):
    with served(model, KEY, max_tokens=64, max_batch=8) as (url, engine):
        yield url, engine


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server[0]}/v1", api_key=KEY, max_retries=0)


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server[0], headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client


def about(*texts, prompt="Translate to English."):
    parts = [{"type": "foreign_text", "text": text} for text in texts]
    return [{"role": "user", "content": [{"type": "text", "text": prompt}, *parts]}]


def alone(model, messages, max_tokens):
    """What `generate` answers."""
    tokens = model.generate(messages=messages, max_new_tokens=max_tokens, do_sample=False)
    return model.processor.batch_decode(tokens, skip_special_tokens=True)[0]


def ask(client, messages, **options):
    return client.chat.completions.create(model="tiny", messages=messages, **options)


# ---------------------------------------------------------------------- what is answered


def test_openais_client_is_answered_as_generate_answers(client, model):
    turns = [*about(TEXTS[0]), {"role": "assistant", "content": "the cat"}, *about(TEXTS[1], TEXTS[2], prompt="And?")]
    plain = [{"role": "system", "content": "a cat"}, {"role": "user", "content": "the cat sat"}]
    for messages in (about(TEXTS[0]), turns, plain):
        answer = ask(client, messages, max_tokens=12)
        wanted = alone(model, messages, 12)
        assert wanted.strip(), "vacuous unless something is answered"
        assert answer.choices[0].message.content == wanted
        ids, _ = model.processor.render(messages)
        assert answer.usage.prompt_tokens == len(ids)
        assert answer.usage.total_tokens == len(ids) + answer.usage.completion_tokens


def test_a_stream_is_the_same_answer_in_pieces(client, model):
    messages = about(TEXTS[0])
    options = {"max_tokens": 24, "stream": True, "stream_options": {"include_usage": True}}
    chunks = list(ask(client, messages, **options))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(texts) > 2, "vacuous unless it comes in pieces"
    assert "".join(texts) == alone(model, messages, 24)
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 24


def test_answers_end_where_they_are_told_to(client, model):
    messages = about(TEXTS[1])
    whole = alone(model, messages, 30)
    stop = whole[9:11]
    assert "\ufffd" not in stop
    wanted = whole[: whole.index(stop)]
    answer = ask(client, messages, max_tokens=30, stop=[stop, "never said"])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (wanted, "stop")
    streamed = ask(client, messages, max_tokens=30, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == wanted


def test_a_seed_gives_the_same_answers_and_choices_differ(client):
    options = {"max_tokens": 12, "temperature": 1.5, "n": 3}
    first, again, other = (
        [choice.message.content for choice in ask(client, about(TEXTS[0]), seed=seed, **options).choices]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert len(set(first)) > 1


def test_vectors_are_those_of_encode(client, model):
    for side in ("foreign", "english"):
        made = client.embeddings.create(model="tiny", input=TEXTS, extra_body={"side": side})
        assert np.allclose([one.embedding for one in made.data], model.encode(TEXTS, side), atol=1e-6)
        assert made.usage.total_tokens > 0
    numbers = client.embeddings.create(model="tiny", input=TEXTS[0], encoding_format="float").data[0].embedding
    assert np.allclose(numbers, model.encode(TEXTS[0]), atol=1e-6)


def test_vectors_come_as_base64_when_asked(http, model):
    made = http.post("/v1/embeddings", json={"input": TEXTS[0], "model": "tiny", "encoding_format": "base64"}).json()
    numbers = np.frombuffer(base64.b64decode(made["data"][0]["embedding"]), "<f4")
    assert np.allclose(numbers, model.encode(TEXTS[0]), atol=1e-6)


def test_the_hubs_client_is_answered(server, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the server is on this machine
    client = InferenceClient(base_url=f"{server[0]}/v1", api_key=KEY)
    answer = client.chat_completion(about(TEXTS[0]), model="tiny", max_tokens=8)
    assert answer.choices[0].message.content == alone(model, about(TEXTS[0]), 8)


def test_models_health_and_metrics(client, http):
    assert [one.id for one in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "llink"
    assert httpx.get(f"{http.base_url}/health").json() == {"status": "ok"}
    before = http.get("/metrics").text
    ask(client, about(TEXTS[0]), max_tokens=2)
    http.get("/nowhere/at/all")
    after = http.get("/metrics").text
    assert count(after, 'requests_total{path="/v1/chat/completions",status="200"}') == 1 + count(
        before, 'requests_total{path="/v1/chat/completions",status="200"}'
    )
    assert count(after, 'tokens_total{kind="completion"}') == 2 + count(before, 'tokens_total{kind="completion"}')
    assert count(after, 'requests_total{path="other",status="404"}')
    assert count(after, "waiting_requests") == 0


def count(page, name):
    return next((float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"llink_{name}")), 0)


# ---------------------------------------------------------------------- many at once


def test_of_many_at_once_none_is_lost_or_mixed_up(client, model, monkeypatch):
    asked = [
        (about(TEXTS[i % 4], prompt=f"{i} cats?") if i % 3 else [{"role": "user", "content": f"{i} dogs"}], 4 + i % 9)
        for i in range(32)
    ]
    sizes, generate = [], model._generate

    def counting(*options):
        sizes.append(len(options[-1]["input_ids"]))
        return generate(*options)

    with monkeypatch.context() as patch, ThreadPoolExecutor(32) as pool:
        patch.setattr(model, "_generate", counting)
        answers = list(pool.map(lambda one: ask(client, one[0], max_tokens=one[1], temperature=0), asked))
    assert sum(sizes) == 32
    assert max(sizes) > 2, "vacuous unless they share batches"
    wanted = [alone(model, messages, tokens) for messages, tokens in asked]
    assert len(set(wanted)) > 16, "vacuous unless they differ"
    assert [answer.choices[0].message.content for answer in answers] == wanted


def test_a_request_that_is_being_checked_is_waited_for(model, monkeypatch):
    sizes, generate, late = [], model._generate, threading.Event()

    def counting(*options):
        sizes.append(len(options[-1]["input_ids"]))
        return generate(*options)

    with served(model, max_tokens=8) as (url, engine), ThreadPoolExecutor(2) as pool:
        check = engine.reader.chat

        def slow(request):
            if request.max_tokens == 2:
                late.set()
                time.sleep(0.2)  # long beside what a request waits for one that nobody sent
            return check(request)

        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        monkeypatch.setattr("llink.serving.transformers_engine.LONGEST_GATHER", 20)
        monkeypatch.setattr(engine.reader, "chat", slow)
        monkeypatch.setattr(model, "_generate", counting)
        second = pool.submit(ask, client, about(TEXTS[1]), max_tokens=2)
        assert late.wait(20)
        assert ask(client, about(TEXTS[0]), max_tokens=3).choices
        assert second.result().choices
    assert sizes == [2]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_its_place(http, model, monkeypatch, stream):
    steps = []
    slow = model.register_forward_pre_hook(lambda *_: (steps.append(1), time.sleep(0.05))[2:])
    monkeypatch.setattr("llink.serving.transformers_engine.end_ids", lambda _: set())  # an answer of full length
    body = {"messages": about(TEXTS[0]), "max_tokens": 64, "stream": stream}
    try:
        if stream:
            with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                lines = answer.iter_lines()  # held: a forgotten one hangs up
                next(lines)
                wait_for(lambda: len(steps) > 2)
        else:
            with pytest.raises(httpx.ReadTimeout):
                http.post("/v1/chat/completions", json=body, timeout=0.8)
        done = len(steps)
        assert 2 < done < 40, "vacuous unless it was cut off in the middle"
        answer = http.post("/v1/chat/completions", json={**body, "max_tokens": 1, "stream": False})
        assert answer.status_code == 200
        assert len(steps) < done + 10
    finally:
        slow.remove()


def test_who_finds_the_queue_full_comes_again(model, monkeypatch):
    begun, free, generate = threading.Event(), threading.Event(), model._generate

    def held(*options):
        begun.set()
        assert free.wait(20)
        return generate(*options)

    with served(model, max_waiting=1, max_tokens=8) as (url, engine), ThreadPoolExecutor(2) as pool:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        with monkeypatch.context() as patch:
            patch.setattr(model, "_generate", held)
            first = pool.submit(ask, client, about(TEXTS[0]), max_tokens=3)
            assert begun.wait(20)
            second = pool.submit(ask, client, about(TEXTS[1]), max_tokens=3)
            wait_for(lambda: engine.waiting == 1)
            with pytest.raises(openai.RateLimitError) as told:
                ask(client, about(TEXTS[2]))
            assert told.value.response.headers["Retry-After"] == "1"
            free.set()
            assert first.result().choices[0].message.content == alone(model, about(TEXTS[0]), 3)
            assert second.result().choices[0].message.content == alone(model, about(TEXTS[1]), 3)
        assert ask(client, about(TEXTS[2]), max_tokens=1).choices


def test_an_engine_that_fails_says_so_and_goes_on(client, model, monkeypatch):
    def failing(*options):
        raise RuntimeError("device-side assert")

    with monkeypatch.context() as patch:
        patch.setattr(model, "_generate", failing)
        with pytest.raises(openai.InternalServerError, match="device-side assert") as told:
            ask(client, about(TEXTS[0]))
        assert told.value.status_code == 503
        streamed = ask(client, about(TEXTS[0]), stream=True)
        with pytest.raises(openai.APIError, match="device-side assert"):
            list(streamed)
    assert ask(client, about(TEXTS[0]), max_tokens=1).choices


def test_a_server_that_stops_lets_nobody_in(model):
    with served(model) as (url, engine):
        engine.close()
        assert httpx.get(f"{url}/health").status_code == 503
        answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": about(TEXTS[0])})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_down")


# ---------------------------------------------------------------------- a store


def test_a_store_is_asked(model, tmp_path):
    store = SlotStore.build(model, TEXTS, tmp_path / "store")
    body = {"question": TEXTS[1], "side": "foreign", "k": 2, "max_tokens": 4}
    with served(model, store=store) as (url, _):
        answer = httpx.post(f"{url}/v1/ask", json=body).json()
        wanted = store.ask(TEXTS[1], k=2, side="foreign", max_new_tokens=4)
        assert answer["text"] == wanted.text
        assert [one["text"] for one in answer["passages"]] == [one.text for one in wanted.passages]
        refused = httpx.post(f"{url}/v1/ask", json={**body, "k": 20})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "StoreError")


def test_without_a_store_there_is_nothing_to_ask(http):
    assert http.post("/v1/ask", json={"question": "a"}).status_code == 404


# ---------------------------------------------------------------------- what is refused

LONG = "ក" * 1_000_000
BAD = {
    "no messages": ({"messages": []}, 400, "messages=\\[\\] is not a list of one"),
    "no list": ({"messages": "hello"}, 400, "messages='hello' is not a list"),
    "no message": ({"messages": ["hello"]}, 400, "message 'hello' is not a dict"),
    "unknown part": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "content part .* not"),
    "control token": ({"messages": [{"role": "user<|end|>", "content": "a"}]}, 400, "is not a word such as user"),
    "empty passage": ({"messages": about(" ")}, 400, "empty or only white space"),
    "NUL": ({"messages": about("a\0b")}, 400, "NUL character at position 1"),
    "half a character": ({"messages": about("a\ud800")}, 400, "half a character"),
    "long passage": ({"messages": about("a" * 900_000)}, 400, "is too long: it has 900000 characters"),
    "long body": ({"messages": about(LONG)}, 413, "longer than 1048576 bytes"),
    "many passages": ({"messages": about(*["a"] * 65)}, 400, "65 passages are more than 64"),
    "long prompt": ({"messages": about("a", prompt="x " * 600)}, 400, "decoder reads 512 together"),
    "n of none": ({"n": 0}, 400, "n=0 is not a whole number from 1 to 8"),
    "n of many": ({"n": 9}, 400, "n=9 is not"),
    "n true": ({"n": True}, 400, "n=True is not"),
    "many tokens": ({"max_tokens": 65}, 400, "max_tokens=65 is not a whole number from 1 to 64"),
    "temperature": ({"temperature": 1e-9}, 400, "temperature=1e-09 is not 0 or a number from 0.01 to 2"),
    "top_p": ({"top_p": 0}, 400, "top_p=0 is not a number"),
    "stop": ({"stop": [""]}, 400, "none of them empty"),
    "seed": ({"seed": 2**70}, 400, "seed="),
    "stream": ({"stream": "yes"}, 400, "stream='yes' is not true or false"),
    "tools": ({"tools": [{"type": "function"}]}, 400, "tools=.* is not supported"),
    "penalty": ({"frequency_penalty": 1}, 400, "frequency_penalty=1 is not supported other than 0"),
    "unknown field": ({"best_of": 2}, 400, "best_of=2 is not supported: leave it out"),
    "unknown model": ({"model": "gpt"}, 404, "no model 'gpt' here: 'tiny' is served"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_chats_are_refused_with_the_reason(http, name):
    changes, status, told = BAD[name]
    assert refused(http, "/v1/chat/completions", {"messages": about("a"), **changes}, status, told)


BAD_TEXTS = {
    "nothing": ({"input": []}, "input=\\[\\] is not a text or a list"),
    "numbers": ({"input": [1, 2]}, "is not a text or a list of up to 64"),
    "many": ({"input": ["a"] * 65}, "is not a text or a list of up to 64"),
    "blank": ({"input": "  "}, "empty or only white space"),
    "side": ({"side": "khmer"}, "side='khmer' is not foreign or english"),
    "long": ({"input": "a" * 900_000}, "is too long: it has 900000 characters"),
    "long English": ({"input": "x " * 300, "side": "english"}, "tokens, and 128 are read: shorten it"),
    "dimensions": ({"dimensions": 8}, "dimensions=8 is not supported"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_texts_are_refused_with_the_reason(http, name):
    changes, told = BAD_TEXTS[name]
    assert refused(http, "/v1/embeddings", {"input": "a", **changes}, 400, told)


def refused(http, path, body, status, told):
    answer = http.post(path, content=json.dumps(body))
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert set(error) == {"message", "type", "code", "param"}
    return re.search(told, error["message"])


@pytest.mark.parametrize("body", ["", "{", "hello", '{"n": NaN}', "[" * 100_000, "[1]", b"\xff\xfe"])
def test_a_body_that_is_no_json_object_is_refused(http, body):
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        answer = http.post(path, content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] in ("invalid_json", "invalid_body")


def test_without_the_key_nothing_is_told(server):
    url = server[0]
    for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": KEY}):
        answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": about("a")}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert httpx.get(f"{url}/v1/models", headers=headers).status_code == 401
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{url}/v1", api_key="another").models.list()


def test_a_model_that_did_not_learn_to_read_says_so(make_model):
    with served(make_model(stage="align")) as (url, _), httpx.Client(base_url=url) as http:
        assert refused(http, "/v1/chat/completions", {"messages": about("a")}, 400, "stage is 'align'.*embeddings")
        assert http.post("/v1/embeddings", json={"input": "a"}).status_code == 200


def test_a_merged_model_does_not_pass_for_the_base_decoder(make_model):
    plain = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 2}
    with served(make_model().merge_and_unload()) as (url, _), httpx.Client(base_url=url, timeout=60) as http:
        assert refused(http, "/v1/chat/completions", plain, 400, "LoRA is merged")
        assert refused(http, "/v1/embeddings", {"input": "a", "side": "english"}, 400, "LoRA is merged")
        assert http.post("/v1/embeddings", json={"input": "a"}).status_code == 200
        body = {"messages": about("a"), "max_tokens": 2}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
