"""The page: what it answers, what it refuses, and that a real browser can ask on it."""

import itertools
import os
import shutil
import socket
import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from page_server import serving

from llink import LlinkForCausalLM
from llink.app.asking import Asker, Reply
from llink.app.page import NEEDED, fragments, verdict
from llink.app.settings import page_settings
from llink.app.space import free_port
from llink.cli import main
from llink.data.demo_corpus import demo_splits
from llink.data.errors import DataError
from llink.demo import ASSETS

SENTENCES = ["the cat sat on the mat", "a dog runs", "we eat rice at noon", "he has two books"]
OTHERS = ["ក្មេងទៅសាលា", "the cat", "a dog", "rice at noon", "he has two books"]
NEW = 24


@pytest.fixture(scope="module")
def asker(model):
    return Asker(model, SENTENCES, OTHERS, NEW)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The demo's pair with untrained slots, self-contained, its decoder said to have learned to read them."""
    torch.manual_seed(0)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        ASSETS / "encoder", ASSETS / "decoder", dtype="float32", stage="inject", teacher_conditioning="none"
    )
    folder = tmp_path_factory.mktemp("app") / "demo"
    model.save_pretrained(folder, self_contained=True)
    return folder


# ------------------------------------------------------------------ one question


def test_the_answer_grows_to_the_models_own(checkpoint):
    model = LlinkForCausalLM.from_pretrained(checkpoint)
    asker = Asker(model, SENTENCES, OTHERS, NEW)
    answers = [reply.answer for reply in asker.ask("ក្មេងទៅសាលា", "Summarize in English.")]
    assert len(set(answers)) > 2, "vacuous unless it is streamed"
    assert all(later.startswith(sooner) for sooner, later in itertools.pairwise(answers))
    tokens = model.generate(
        foreign_text="ក្មេងទៅសាលា", prompt="Summarize in English.", max_new_tokens=NEW, do_sample=False
    )
    assert answers[-1] == model.processor.batch_decode(tokens, skip_special_tokens=True)[0]


def test_an_empty_question_asks_for_a_translation(asker):
    *_, default = asker.ask("the cat")
    *_, asked = asker.ask(" the cat\n", "Translate to English.")
    assert default == asked
    assert asker.default_question == "Translate to English."


def test_the_meter_compares_the_same_answer_with_and_without_the_text(asker, model):
    *_, reply = asker.ask("the cat", "Say it.")
    inputs = model.processor("Say it.", "the cat")
    tokens = model.generate(foreign_text="the cat", prompt="Say it.", max_new_tokens=NEW, do_sample=False)
    ids = torch.cat([inputs["input_ids"], tokens], dim=1)

    def loss(slots):
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), foreign_slots=slots).logits
        start = inputs["input_ids"].shape[1]
        return F.cross_entropy(logits[0, start - 1 : -1], ids[0, start:]).item()

    own = model.encode_foreign(["the cat"]).unsqueeze(1)  # (1, 1, K, d)
    others = [loss(model.encode_foreign([text]).unsqueeze(1)) for text in ("ក្មេងទៅសាលា", "a dog", "rice at noon")]
    assert reply.usage["loss"] == pytest.approx(loss(own), abs=1e-4)
    assert reply.usage["zeroed_gap"] == pytest.approx(loss(torch.zeros_like(own)) - loss(own), abs=1e-4)
    assert reply.usage["shuffled_gap"] == pytest.approx(sum(others) / 3 - loss(own), abs=1e-4)
    assert reply.usage["shuffled_gap"] != 0, "vacuous unless another text makes a difference"


def test_prompts_are_counted_and_sentences_ranked(asker, model):
    first = next(asker.ask("ក្មេងទៅសាលា", "Say it."))
    assert first.slot_tokens == len(model.processor("Say it.", "ក្មេងទៅសាលា")["input_ids"][0])
    assert first.raw_tokens == len(model.processor("Say it.\nក្មេងទៅសាលា")["input_ids"][0])
    assert first.raw_tokens > first.slot_tokens
    features, teachers = model.get_foreign_features(["ក្មេងទៅសាលា"]), model.get_teacher_features(SENTENCES)
    cosines = F.cosine_similarity(features, teachers).tolist()
    wanted = sorted(zip(cosines, SENTENCES, strict=True), reverse=True)
    assert [text for _, text in first.nearest] == [text for _, text in wanted]
    assert [value for value, _ in first.nearest] == pytest.approx([value for value, _ in wanted], abs=1e-5)


def test_the_base_decoder_reads_the_text_itself(asker, model):
    *_, reply = asker.ask("the cat", "Say it.", with_base=True)
    written = model.generate(prompt="Say it.\nthe cat", max_new_tokens=NEW, do_sample=False)
    assert reply.base == model.processor.batch_decode(written, skip_special_tokens=True)[0]
    assert reply.base != reply.answer
    *_, alone = asker.ask("the cat", "Say it.")
    assert alone.base is None


def test_without_sentences_or_statistics_none_are_near(make_model, model):
    assert next(Asker(model, [], OTHERS, NEW).ask("the cat")).nearest == ()
    unfitted = make_model(teacher_conditioning="center")
    assert next(Asker(unfitted, SENTENCES, OTHERS, NEW).ask("the cat")).nearest == ()


def test_closing_a_question_ends_its_answer(model):
    asker = Asker(model, [], OTHERS, max_new_tokens=400)
    steps, before = [], threading.active_count()
    handle = model.decoder.register_forward_hook(lambda *_: steps.append(1))
    try:
        asking = asker.ask("the cat", "Say it.")
        while not next(asking).answer:
            pass
        asking.close()
    finally:
        handle.remove()
    assert threading.active_count() <= before
    assert 0 < len(steps) < 200


def test_a_failing_model_fails_the_question_and_does_not_hang(asker, model, monkeypatch):
    monkeypatch.setattr(model, "generate", lambda **_: 1 / 0, raising=False)
    with pytest.raises(ZeroDivisionError):
        list(asker.ask("the cat"))


@pytest.mark.parametrize(
    ("text", "question", "words"),
    [
        ("", "", "no text yet"),
        (" \n", "", "no text yet"),
        ("ក" * 16_385, "", "up to 16384 characters, and it has 16385"),
        ("a\0b", "", "NUL"),
        ("the cat", "why " * 600, "question is too long"),
        ("the cat", "why? " * 390, "question is too long"),
    ],
)
def test_what_cannot_be_answered_is_said_before_anything_runs(asker, model, monkeypatch, text, question, words):
    monkeypatch.setattr(model, "resolve_slots", lambda *_: pytest.fail("it ran"))
    with pytest.raises(DataError, match=words):
        next(asker.ask(text, question))


def test_a_text_of_too_many_encoder_tokens_is_refused(make_model):
    narrow = make_model(max_foreign_tokens=12, long_passages="cut")
    with pytest.raises(DataError, match="more than 12 of the encoder's tokens"):
        next(Asker(narrow, [], OTHERS, NEW).ask("the cat sat on the mat"))


def test_the_control_needs_another_text(model):
    with pytest.raises(DataError, match="two other texts"):
        Asker(model, [], ["the cat", " the cat "])


# ------------------------------------------------------------------ what is shown


@given(st.text(max_size=20), st.floats(-3, 3), st.floats(-3, 3), st.integers(1, 999), st.integers(1, 999))
def test_any_reply_can_be_shown_and_texts_stay_texts(text, zeroed, shuffled, raw, slots):
    usage = {"loss": 1.0, "zeroed_loss": 1 + zeroed, "shuffled_loss": 1 + shuffled}
    usage |= {"zeroed_gap": zeroed, "shuffled_gap": shuffled}
    nearest = ((0.5, f"<script>{text}</script>"),)
    shown = fragments(Reply("", raw, slots, usage, nearest))
    assert all(part.startswith('<div class="llink">') for part in shown)
    assert "<script>" not in "".join(shown)
    assert f">{raw}<" in shown[1]
    assert f">{slots}<" in shown[1]


@pytest.mark.parametrize(
    ("zeroed", "shuffled", "word"),
    [(1.0, 0.5, "Yes"), (NEEDED, NEEDED, "Yes"), (1.0, 0.01, "Hardly"), (0.01, 1.0, "No"), (-0.5, -0.5, "No")],
)
def test_the_verdict_needs_both_gaps(zeroed, shuffled, word):
    assert f"<b>{word}.</b>" in verdict({"zeroed_gap": zeroed, "shuffled_gap": shuffled})


def test_nothing_is_shown_before_it_is_known():
    assert fragments(Reply()) == ("", "", "")


def test_settings_come_from_files_or_from_the_demo(tmp_path):
    (tmp_path / "en.txt").write_text("One.\n\n Two.\nOne.\n", "utf-8")
    (tmp_path / "km.txt").write_text("ក\nខ\n", "utf-8")
    given = page_settings("T", str(tmp_path / "en.txt"), str(tmp_path / "km.txt"), 9)
    assert given == {"title": "T", "sentences": ["One.", "Two."], "examples": ["ក", "ខ"], "max_new_tokens": 9}
    own = page_settings("T")
    held_out = demo_splits()["test"]
    assert own["examples"][:2] == [pair.foreign for pair in held_out[:2]]
    assert {pair.english for pair in held_out[:2]} <= set(own["sentences"])
    assert len({ord(text[0]) >> 7 for text in own["examples"]}) >= 6, "several scripts"


# ------------------------------------------------------------------ the command


def test_bad_settings_are_refused_before_a_model_loads(checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / "one.txt").write_text("ក\nក\n", "utf-8")
    monkeypatch.setattr(LlinkForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("it loaded"))
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        for options, words in (
            (["--sentences", str(tmp_path / "none.txt")], "none.txt"),
            (["--examples", str(tmp_path / "one.txt")], "give at least 2"),
            (["--port", str(port)], f"--port {port}"),
            (["--port", "99999"], "--port 99999"),
            (["--max-new-tokens", "0"], "--max-new-tokens 0"),
        ):
            assert main(["app", str(checkpoint), *options]) == 2
            assert words in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["app", str(checkpoint)]) == 2
    assert "pip install 'llink[app]'" in capsys.readouterr().err


def test_a_folder_without_a_model_is_refused(tmp_path, capsys):
    assert main(["app", str(tmp_path), "--port", str(free_port())]) == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("name", ["/nonexist", "./nonexist", "~/nonexist"])
@pytest.mark.parametrize(
    "command", [["app"], ["space", "--repo", "me/page"], ["verify"]], ids=lambda command: command[0]
)
def test_a_folder_that_does_not_exist_is_said_to_be_missing(capsys, command, name):
    assert main([*command, "--model", name]) == 2
    assert f"The folder {name} does not exist." in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser():
    """A real headless Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None and not os.environ.get("LLINK_BROWSER_REQUIRED"):
        pytest.skip("needs the program `chromium`; CI installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


RECORD = """() => {
  window.seen = [];
  const look = () => {
    const now = document.querySelector("#answer textarea").value;
    if (now && now !== window.seen.at(-1)) window.seen.push(now);
    requestAnimationFrame(look);
  };
  look();
}"""


@pytest.mark.slow
def test_a_reader_asks_in_a_browser(checkpoint, browser, tmp_path):
    pair = demo_splits()["test"][0]
    model = LlinkForCausalLM.from_pretrained(checkpoint)
    tokens = model.generate(foreign_text=pair.foreign, max_new_tokens=60, do_sample=False)
    wanted = model.processor.batch_decode(tokens, skip_special_tokens=True)[0]
    with serving(str(checkpoint), "--title", "A <b>bold</b> title", "--max-new-tokens", "60") as address:
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.set_default_timeout(60_000)
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        assert page.locator("h1").inner_text() == "A <b>bold</b> title"

        page.locator("#ask").click()
        page.get_by_role("alert").wait_for()
        assert "no text yet" in page.get_by_role("alert").inner_text()

        page.locator("#text textarea").fill(pair.foreign)
        page.evaluate(RECORD)
        page.locator("#ask").click()
        page.locator("#usage .bar").first.wait_for()
        assert page.locator("#answer textarea").input_value() == wanted
        seen = page.evaluate("window.seen")
        assert len(seen) > 2, "it is streamed"
        assert all(later.startswith(sooner) for sooner, later in itertools.pairwise(seen))
        assert not page.get_by_role("alert").count()

        counts = page.locator("#tokens .number").all_inner_texts()
        inputs = [model.processor(None, pair.foreign), model.processor(f"Translate to English.\n{pair.foreign}")]
        assert counts == [str(len(found["input_ids"][0])) for found in inputs]
        assert len(page.locator("#usage .number").all_inner_texts()) == 3
        assert page.locator("#nearest li").count() == 5
        assert not page.locator("#base").is_visible()

        page.locator("#both input").check()
        page.locator("#question input, #question textarea").fill("Summarize in English.")
        page.locator("#question input, #question textarea").press("Enter")
        page.wait_for_function("document.querySelector('#base textarea')?.value")
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "a phone's width is enough"
        order = [page.locator(name).bounding_box()["y"] for name in ("#in", "#out", "#examples")]
        assert order == sorted(order)
        page.screenshot(path=tmp_path / "phone.png", full_page=True)
        assert (tmp_path / "phone.png").read_bytes().startswith(b"\x89PNG")
        assert wrong == []
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == [], "nothing else is asked"


def test_a_question_says_where_the_text_stands(asker, model):
    *_, reply = asker.ask("the cat", "What is <foreign_emb>?", with_base=True)
    written = model.generate(prompt="What is the cat?", max_new_tokens=NEW, do_sample=False)
    assert reply.base == model.processor.batch_decode(written, skip_special_tokens=True)[0]
    with pytest.raises(DataError, match="2 <foreign_emb>"):
        next(asker.ask("the cat", "<foreign_emb><foreign_emb>?"))
