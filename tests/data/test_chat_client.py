"""What a server may do that means harm: bounded, never followed elsewhere, and never the keeper of a key."""

import asyncio
import base64
import json
import time
from contextlib import suppress
from urllib.parse import quote

import pytest
from local_server import LocalServer

from llink.data.chat_client import ChatClient, json_objects
from llink.data.errors import ServerError
from llink.data.synthesis.config import SynthesisServer

KEY = "sk-sec/ret+of=the model"


class Hostile(LocalServer):
    """Answers every request with what it was made with: bytes, an object, or a function of the request."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked = answer, 0

    def handle(self, request):
        self.asked += 1
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with suppress(ConnectionError):
            self.answer(request) if callable(self.answer) else self.send(request, 200, self.answer)


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """huggingface_hub calls no server, a local one neither, while it is offline, as all tests are."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def completion(content, usage=None):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    head = {"id": "1", "model": "m", "object": "chat.completion", "created": 1, "system_fingerprint": ""}
    return head | {"usage": usage, "choices": [choice]}


def ask(url, **options):
    async def asked():
        settings = SynthesisServer(model="judge", url=url, timeout=5, retries=0, retry_wait=0, **options)
        async with ChatClient(settings) as client:
            return await client.ask([{"role": "user", "content": "what nobody else may read"}], {"title": "t"})

    return asyncio.run(asked())


def endless(request):
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    block = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
    while True:
        request.wfile.write(block)


BODIES = {
    "deep": b"[" * 200_000,
    "deep answer": json.dumps(completion("x")).encode().replace(b'"x"', b"[" * 200_000),
    "no JSON": b"\xff\xfe\x00",
    "a list": [1, 2],
    "null": None,
    "no choices": {"choices": []},
    "a choice of nothing": {"choices": [None]},
    "a number for a text": completion(3),
    "endless": endless,
}


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_answer_is_one_error_and_soon(body):
    began = time.monotonic()
    with Hostile(BODIES[body]).running() as server, pytest.raises(ServerError, match=r"127.0.0.1.* \(1 tries\): "):
        ask(server.url)
    assert time.monotonic() - began < 20


COUNTS = [None, {}, {"prompt_tokens": "many", "completion_tokens": [1]}, {"prompt_tokens": -5}]


@pytest.mark.parametrize("usage", COUNTS)
def test_counts_that_are_none_are_zero(usage):
    with Hostile(completion("fine", usage)).running() as server:
        reply = ask(server.url)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("fine", 0, 0)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(status):
    with Hostile(completion("stolen")).running() as other:

        def elsewhere(request):
            LocalServer.send(request, status, b"", {"Location": f"{other.url}/v1/chat/completions"})

        with Hostile(elsewhere).running() as server, pytest.raises(ServerError):
            ask(server.url)
        assert server.asked, "vacuous unless it was asked"
        assert not other.asked


FORMS = {
    "itself": KEY,
    "quoted": quote(KEY, safe=""),
    "in base64": base64.b64encode(KEY.encode()).decode(),
    "in hexadecimal": KEY.encode().hex(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_a_server_repeats_is_kept_nowhere(form, monkeypatch):
    monkeypatch.setenv("MODEL_KEY", KEY)
    with Hostile(completion(f"a {FORMS[form]} b")).running() as server:
        assert ask(server.url, api_key_env="MODEL_KEY").text == "a *** b"
    with Hostile(lambda request: LocalServer.send(request, 401, FORMS[form].encode())).running() as server:
        with pytest.raises(ServerError) as refused:
            ask(server.url, api_key_env="MODEL_KEY")
        assert FORMS[form] not in str(refused.value)


OPENINGS = ['{"a":' * 100_000, "{" * 500_000, '{"a":"b",' * 100_000, '{"a":[' * 100_000, "<think>{}"]


@pytest.mark.parametrize("text", OPENINGS, ids=lambda text: text[:7])
def test_looking_for_objects_takes_no_longer_than_the_text(text):
    began = time.monotonic()
    assert json_objects(text) == []
    assert time.monotonic() - began < 10
    assert json_objects('x {"a": 1} {"b": {"c": 2}}') == [[("a", 1)], [("b", [("c", 2)])]]
