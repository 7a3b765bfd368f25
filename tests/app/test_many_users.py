"""The page under many users at once: each gets the answer to what they asked, and nobody waits for who has gone."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from llink.app.asking import Asker
from llink.app.page import build
from llink.app.space import free_port

SENTENCES = ["the cat sat on the mat", "a dog runs", "we eat rice at noon", "he has two books"]
OTHERS = ["ក្មេងទៅសាលា", "the cat", "a dog", "rice at noon"]
NEW, USERS = 12, 20
MARKUP = "<img src=x onerror=alert(1)><script>x</script>"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(model):
    """The address of the tiny model's page, in a thread of this process, and what the page itself calls."""
    made = build(model, "Many", SENTENCES, OTHERS, NEW)
    (respond,) = (event.fn for event in made.fns.values() if getattr(event.fn, "__name__", "") == "respond")
    _, address, _ = made.launch(server_port=free_port(), quiet=True, prevent_thread_lock=True, ssr_mode=False)
    yield address, respond
    made.close()


def client(address):
    from gradio_client import Client  # it takes seconds to import

    return Client(address, verbose=False)


def refused(address, text, question):
    """What a program is told in place of an answer."""
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        client(address).predict(text, question, False, api_name="/ask")
    return str(error.value)


def test_of_twenty_at_once_each_has_the_answer_to_their_own_question(page, model):
    address, respond = page
    asked = [(f"{OTHERS[i % 4]} {i}", f"{i} {'cats' if i % 3 else MARKUP}?") for i in range(USERS)]
    asker = Asker(model, SENTENCES, OTHERS, NEW)
    wanted = [list(asker.ask(*one))[-1] for one in asked]
    assert len({reply.answer for reply in wanted}) > USERS // 2, "vacuous unless they differ"
    clients = [client(address) for _ in range(USERS)]
    with ThreadPoolExecutor(USERS) as pool:
        found = list(pool.map(lambda one, told: one.predict(*told, False, api_name="/ask"), clients, asked))
    for got, reply in zip(found, wanted, strict=True):
        assert (got["answer"], got["slot_tokens"]) == (reply.answer, reply.slot_tokens)
    for one, reply in zip(asked[:2], wanted, strict=False):
        *_, (note, answer, _, *fragments) = respond(*one, False)
        assert answer == reply.answer
        assert "<img" not in "".join(fragments) + str(note), "what was asked is not shown as markup"


def test_markup_that_is_refused_is_shown_as_text(page):
    address, respond = page
    for text, question, said in (
        ("ក" * 20_000, MARKUP, "too long"),
        ("ក", f"{MARKUP}<foreign_emb><foreign_emb>", "&lt;img"),
    ):
        ((note, *_),) = respond(text, question, False)
        assert said in note["value"]
        assert "<img" not in note["value"]
        assert re.search("too long|placeholder", refused(address, text, question))


def test_who_goes_away_frees_their_place(page, model):
    steps = []
    slow = model.register_forward_pre_hook(lambda *_: (steps.append(1), time.sleep(0.1))[2:])
    try:
        gone = client(page[0]).submit("the cat", "Say.", False, api_name="/ask")
        while len(steps) < 3:
            time.sleep(0.02)
        gone.cancel()
        begun = time.monotonic()
        assert "no text yet" in refused(page[0], "", ""), "at once, when its turn comes"
        assert time.monotonic() - begun < 20
    finally:
        slow.remove()
    assert len(steps) < 3 * NEW, "one answer, of bounded length"


def test_who_finds_the_queue_full_is_told(page, model):
    free = threading.Event()
    held = model.register_forward_pre_hook(lambda *_: free.wait(60) and None)
    try:
        one = client(page[0])
        jobs = [one.submit("the cat", "Say.", False, api_name="/ask") for _ in range(40)]
        end = time.monotonic() + 60
        while not (full := [job for job in jobs if job.done()]) and time.monotonic() < end:
            time.sleep(0.05)
        assert 0 < len(full) < 10, "those for whom there is no place, and no others"
        assert all("full" in str(job.exception()).lower() for job in full)
    finally:
        for job in jobs:
            job.cancel()
        free.set()
        held.remove()
    assert client(page[0]).predict("a dog", "Say.", False, api_name="/ask")["answer"] is not None
