"""The page under many users at once: each gets the answer to what they asked, and nobody waits for who has gone."""

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
    """The address of the tiny model's page, in a thread of this process."""
    made = build(model, "Many", SENTENCES, OTHERS, NEW)
    _, address, _ = made.launch(server_port=free_port(), quiet=True, prevent_thread_lock=True, ssr_mode=False)
    yield address
    made.close()


def client(address):
    from gradio_client import Client  # it takes seconds to import

    return Client(address, verbose=False)


def shown(update):
    """The value of what may be an update of a component."""
    return update.get("value") if isinstance(update, dict) else update


def test_of_twenty_at_once_each_has_the_answer_to_their_own_question(page, model):
    asked = [(f"{OTHERS[i % 4]} {i}", f"{i} {'cats' if i % 3 else MARKUP}?") for i in range(USERS)]
    asker = Asker(model, SENTENCES, OTHERS, NEW)
    wanted = [list(asker.ask(*one))[-1] for one in asked]
    assert len({reply.answer for reply in wanted}) > USERS // 2, "vacuous unless they differ"
    clients = [client(page) for _ in range(USERS)]
    with ThreadPoolExecutor(USERS) as pool:
        found = list(pool.map(lambda one, told: one.predict(*told, False, api_name="/ask"), clients, asked))
    for (_, answer, _, usage, tokens, nearest), reply in zip(found, wanted, strict=True):
        assert shown(answer) == reply.answer
        assert f">{reply.slot_tokens}<" in shown(tokens)
        assert "<img" not in shown(usage) + shown(tokens) + shown(nearest), "what was asked is not shown as markup"


def test_markup_that_is_refused_is_shown_as_text(page):
    note = client(page).predict("ក" * 20_000, MARKUP, False, api_name="/ask")[0]
    assert "too long" in shown(note)
    note = client(page).predict("ក", f"{MARKUP}<foreign_emb><foreign_emb>", False, api_name="/ask")[0]
    assert "&lt;img" in shown(note)
    assert "<img" not in shown(note)


def test_who_goes_away_frees_their_place(page, model):
    steps = []
    slow = model.register_forward_pre_hook(lambda *_: (steps.append(1), time.sleep(0.1))[2:])
    try:
        gone = client(page).submit("the cat", "Say.", False, api_name="/ask")
        while len(steps) < 3:
            time.sleep(0.02)
        gone.cancel()
        begun = time.monotonic()
        assert client(page).predict("", "", False, api_name="/ask"), "refused at once, when its turn comes"
        assert time.monotonic() - begun < 20
    finally:
        slow.remove()
    assert len(steps) < 3 * NEW, "the answer that nobody waits for was ended"


def test_who_finds_the_queue_full_is_told(page, model):
    free = threading.Event()
    held = model.register_forward_pre_hook(lambda *_: free.wait(60) and None)
    try:
        one = client(page)
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
    assert shown(client(page).predict("a dog", "Say.", False, api_name="/ask")[1]) is not None
