"""A page whose model is on a server, and what programs get from any page: plain JSON."""

import json
from contextlib import contextmanager

import gradio_client
import pytest
from served import served

from llink.app.asking import Asker
from llink.app.page import page_of
from llink.app.remote import RemoteAsker, find_server
from llink.app.space import free_port
from llink.cli import main
from llink.data.errors import DataError, ServerError

KEY = "a key"
TEXT = "ក្មេងទៅសាលា"


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("LLINK_TEST_KEY", KEY)


@contextmanager
def asked(asker):
    """A client of an asker's page."""
    page = page_of(asker, "A page", [TEXT, "the cat"])
    _, address, _ = page.launch(
        server_name="127.0.0.1", server_port=free_port(), quiet=True, prevent_thread_lock=True, ssr_mode=False
    )
    try:
        yield gradio_client.Client(address, token=False, verbose=False, download_files=False, analytics_enabled=False)
    finally:
        page.close()


def own(model, **prompt):
    tokens = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    return model.processor.batch_decode(tokens, skip_special_tokens=True)[0]


def test_a_server_answers_as_its_model(model):
    with served(model, KEY, max_tokens=64) as (url, _):
        server = find_server(url, "LLINK_TEST_KEY", 12)
        assert (server.model, server.url) == ("tiny", f"{url}/v1")
        *_, reply = RemoteAsker(server).ask(TEXT, "Summarize <foreign_emb>.", with_base=True)
    assert reply.answer == own(model, foreign_text=TEXT, prompt="Summarize <foreign_emb>.")
    assert reply.base == own(model, prompt=f"Summarize {TEXT}.")
    assert reply.answer != reply.base, "vacuous unless they differ"
    assert (reply.slot_tokens, reply.raw_tokens) == (
        len(model.processor("Summarize <foreign_emb>.", TEXT)["input_ids"][0]),
        len(model.processor(f"Summarize {TEXT}.")["input_ids"][0]),
    )


def test_programs_get_plain_json(model):
    asker = Asker(model, ["the cat sat on the mat", "a dog runs"], ["the cat", "a dog"], 12)
    *_, reply = asker.ask(TEXT, with_base=True)
    with asked(asker) as client:
        found = client.predict(TEXT, with_base=True, api_name="/ask")
        assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/ask"]
        with pytest.raises(Exception, match="no text yet"):
            client.predict(" ", api_name="/ask")
    assert json.loads(json.dumps(found)) == found
    assert found["answer"] == reply.answer == own(model, foreign_text=TEXT)
    assert (found["base"], found["slot_tokens"], found["raw_tokens"]) == (
        reply.base,
        reply.slot_tokens,
        reply.raw_tokens,
    )
    assert set(found["usage"]) == set(reply.usage)
    assert [text for _, text in found["nearest"]] == [text for _, text in reply.nearest]


def test_a_page_in_front_of_a_server_that_ends_says_so(model):
    with served(model, max_tokens=64) as (url, _):
        asker = RemoteAsker(find_server(url, None, 12))
        with asked(asker) as client:
            assert client.predict(TEXT, api_name="/ask")["answer"] == own(model, foreign_text=TEXT)
    with pytest.raises(DataError, match=rf"^{url}/v1 did not answer \(2 tries\): [^\n]*\.$"):
        next(asker.ask(TEXT))
    with pytest.raises(DataError, match="no text yet"):
        next(asker.ask(" "))


def test_what_the_server_refuses_is_said(model):
    with served(model, max_tokens=64) as (url, _):
        asker = RemoteAsker(find_server(url, None, 65))
        with pytest.raises(DataError, match=r"refuses the calls.*max_tokens"):
            next(asker.ask(TEXT))


def test_without_a_server_no_page_starts(model, capsys):
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServerError, match=f"No model is served at {nobody}/v1 "):
        find_server(nobody)
    assert main(["app", nobody, "--port", str(free_port())]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with served(model, KEY) as (url, _), pytest.raises(ServerError, match="401"):
        find_server(url)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["some/model", "--api-key-env", "LLINK_TEST_KEY"], "--api-key-env is of a server"),
        (["http://127.0.0.1:1", "--sentences", "test.en"], "--sentences are compared"),
        (["http://127.0.0.1:1", "--api-key-env", "LLINK_NO_SUCH_KEY"], "LLINK_NO_SUCH_KEY"),
        (["http://", "--port", "1"], "is no address"),
    ],
)
def test_bad_options_are_refused(options, words, capsys):
    assert main(["app", *options]) == 2
    assert words in capsys.readouterr().err
