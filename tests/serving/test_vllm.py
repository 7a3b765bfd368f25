"""vLLM behind the server: the same answers as `generate`, and what becomes of requests when it is not well."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
import torch
from fake_vllm import fake_vllm
from page_server import model_running
from served import served, wait_for

from llink import LlinkForCausalLM, SlotStore
from llink.cli import main
from llink.serving.export import export_decoder

TEXTS = ["ក្មេងទៅសាលា", "a dog runs", "we eat rice at noon", "he has 2 books"]
OPTIONS = dict(slot_expander="tokens", literals=["number"], long_passages="split")
#: An interpreter that has vLLM.
REAL = os.environ.get("LLINK_VLLM_PYTHON")


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(**OPTIONS)


@pytest.fixture(scope="module")
def decoder(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "decoder"
    export_decoder(make_model(**OPTIONS), folder)
    return folder


@pytest.fixture
def fake(decoder):
    with fake_vllm(decoder) as found:
        yield found


@pytest.fixture
def client(model, fake):
    with served(model, vllm=fake[0], max_tokens=64) as (url, engine):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        client.engine, client.server = engine, url
        yield client


def about(*texts, prompt="Say it in English."):
    parts = [{"type": "foreign_text", "text": text} for text in texts]
    return [{"role": "user", "content": [{"type": "text", "text": prompt}, *parts]}]


def ask(client, messages, **options):
    return client.chat.completions.create(model="tiny", messages=messages, **options)


def alone(model, messages, max_tokens):
    tokens = model.generate(messages=messages, max_new_tokens=max_tokens, do_sample=False, copy_numbers=False)
    return model.processor.batch_decode(tokens, skip_special_tokens=True)[0]


# ---------------------------------------------------------------------- the same answers


def test_answers_are_those_of_generate(client, model, fake):
    turns = [*about(TEXTS[0]), {"role": "assistant", "content": "the cat"}, *about(TEXTS[1], TEXTS[2], prompt="And?")]
    for messages in (turns, *map(about, TEXTS)):
        wanted = alone(model, messages, 12)
        assert wanted.strip(), "vacuous unless something is answered"
        answer = ask(client, messages, max_tokens=12)
        assert answer.choices[0].message.content == wanted
        assert answer.usage.prompt_tokens == len(model.processor.render(messages)[0])
        chunks = list(ask(client, messages, max_tokens=12, stream=True, stream_options={"include_usage": True}))
        assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == wanted
        assert chunks[-1].usage == answer.usage
    assert fake[1].bodies[0]["ignore_eos"], "the engine is recognised first"
    assert len(fake[1].bodies) == 1 + 2 * 5


def test_of_many_at_once_none_is_lost_or_mixed_up(client, model):
    asked = [(about(TEXTS[i % 4], prompt=f"{i} cats?"), 4 + i % 9) for i in range(32)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda one: ask(client, one[0], max_tokens=one[1], temperature=0), asked))
    wanted = [alone(model, messages, tokens) for messages, tokens in asked]
    assert len(set(wanted)) > 16, "vacuous unless they differ"
    assert [answer.choices[0].message.content for answer in answers] == wanted
    assert client.engine.waiting == 0


def test_what_was_asked_is_passed_on(client, fake, model):
    options = dict(max_tokens=12, temperature=1.5, top_p=0.5, n=3, seed=7, stop=["never said"])
    first, again = (ask(client, about(TEXTS[0]), **options) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert len(set(texts)) > 1
    body = fake[1].bodies[-1]
    assert {name: body[name] for name in options} == options
    ask(client, about(TEXTS[0]), max_tokens=2)
    assert fake[1].bodies[-1]["temperature"] == 0, "greedy unless asked, as the model's own settings say"
    whole = alone(model, about(TEXTS[1]), 30)
    stopped = ask(client, about(TEXTS[1]), max_tokens=30, stop=[whole[9:11]]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (whole[: whole.index(whole[9:11])], "stop")


def test_a_store_is_asked(model, fake, tmp_path):
    store = SlotStore.build(model, TEXTS, tmp_path / "store")
    body = {"question": TEXTS[1], "side": "foreign", "k": 2, "max_tokens": 6}
    with served(model, vllm=fake[0], store=store) as (url, _):
        answer = httpx.post(f"{url}/v1/ask", json=body, timeout=60).json()
    wanted = store.ask(TEXTS[1], k=2, side="foreign", max_new_tokens=6)
    assert wanted.text, "vacuous unless something is answered"
    assert answer["text"] == wanted.text
    assert [one["text"] for one in answer["passages"]] == [one.text for one in wanted.passages]


def test_vectors_are_the_models_own(client, model):
    made = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    assert torch.allclose(torch.tensor([one.embedding for one in made.data]), torch.tensor(model.encode(TEXTS)))


# ---------------------------------------------------------------------- what goes wrong


def test_prompts_without_foreign_text_are_refused(client, fake):
    with pytest.raises(openai.BadRequestError, match="LoRA is merged"):
        ask(client, [{"role": "user", "content": "the cat"}])
    assert not fake[1].bodies


def test_an_engine_that_is_down_says_so_and_recovers(model, decoder):
    with fake_vllm(decoder) as (address, _):
        port = int(address.rpartition(":")[2])
    with served(model, vllm=address) as (url, engine):
        body = {"messages": about(TEXTS[0]), "max_tokens": 4}

        def post():
            return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)

        down = post()
        assert (down.status_code, down.json()["error"]["code"]) == (503, "engine_down")
        assert down.headers["Retry-After"]
        assert httpx.get(f"{url}/health").status_code == 503
        assert "llink_up 0" in httpx.get(f"{url}/metrics").text
        with fake_vllm(decoder, port):
            assert httpx.get(f"{url}/health").status_code == 200
            assert post().json()["choices"][0]["message"]["content"] == alone(model, about(TEXTS[0]), 4)
        assert post().status_code == 503
        with fake_vllm(decoder, port):
            assert post().status_code == 200
        assert engine.waiting == 0


def test_another_decoder_is_recognised(model, make_model, tmp_path):
    export_decoder(make_model(**OPTIONS, seed=1), tmp_path / "other")
    with fake_vllm(tmp_path / "other") as (address, _), served(model, vllm=address) as (url, _):
        told = httpx.post(f"{url}/v1/chat/completions", json={"messages": about(TEXTS[0])}, timeout=60)
    assert (told.status_code, told.json()["error"]["code"]) == (503, "engine_mismatch")


def test_an_answer_that_breaks_off_is_an_error(client, fake, monkeypatch):
    def ends(*_):
        yield 40, 0.0

    ask(client, about(TEXTS[0]), max_tokens=2)
    monkeypatch.setattr(fake[1], "tokens", ends)
    with pytest.raises(openai.InternalServerError, match="broke its answer off"):
        ask(client, about(TEXTS[0]), max_tokens=8)
    assert client.engine.waiting == 0


def test_what_the_engine_refuses_is_told(client, fake):
    fake[1].model.config.max_position_embeddings = 40
    with pytest.raises(openai.BadRequestError, match="maximum context length is 40"):
        ask(client, about(TEXTS[0]), max_tokens=60)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_its_place(client, fake, stream):
    ask(client, about(TEXTS[0]), max_tokens=1)
    fake[1].seconds, fake[1].ends = 0.05, set()
    before, body = fake[1].steps, {"messages": about(TEXTS[0]), "max_tokens": 64, "stream": stream}
    with httpx.Client(base_url=client.server, timeout=60) as http:
        if stream:
            with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                lines = answer.iter_lines()
                next(lines)
                wait_for(lambda: fake[1].steps > before + 2)
        else:
            with pytest.raises(httpx.ReadTimeout):
                http.post("/v1/chat/completions", json=body, timeout=0.8)
    assert 2 < fake[1].steps - before < 40, "vacuous unless it was cut off in the middle"
    wait_for(lambda: fake[1].open == 0, 5)
    assert fake[1].steps - before < 60
    assert client.engine.waiting == 0


def test_who_finds_the_queue_full_comes_again(model, fake):
    with served(model, vllm=fake[0], max_waiting=1, max_tokens=8) as (url, engine), ThreadPoolExecutor(1) as pool:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        ask(client, about(TEXTS[0]), max_tokens=1)
        fake[1].seconds = 1.0
        first = pool.submit(ask, client, about(TEXTS[0]), max_tokens=1)
        wait_for(lambda: engine.waiting == 1)
        with pytest.raises(openai.RateLimitError):
            ask(client, about(TEXTS[1]), max_tokens=1)
        assert first.result().choices


# ---------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("served") / "tiny"
    model.save_pretrained(place, self_contained=True)
    return str(place)


@pytest.fixture
def python(tmp_path):
    """An interpreter whose vLLM is the fake one."""
    package = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for place in (package, *list(package.parents)[:2]):
        (place / "__init__.py").touch()
    tests = Path(__file__).parent.parent
    (package / "api_server.py").write_text((tests / "fake_vllm.py").read_text("utf-8"), "utf-8")
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path / "site"}:{tests}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.slow
def test_the_command_starts_a_vllm_and_ends_it(folder, python, model):
    options = ["--engine", "vllm", "--engine-python", python, "--max-tokens", "4"]
    with model_running(folder, *options) as (address, process):
        answer = httpx.post(f"{address}/chat/completions", json={"messages": about(TEXTS[0])}, timeout=60).json()
        children = _children(process.pid)
        process.terminate()
        process.wait(30)
    assert answer["choices"][0]["message"]["content"] == alone(model, about(TEXTS[0]), 4)
    assert len(children) == 1, "vacuous unless one is there"
    assert not Path(f"/proc/{children[0]}").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a process that is killed")
def test_a_vllm_ends_with_a_server_that_is_killed(folder, python):
    with model_running(folder, "--engine", "vllm", "--engine-python", python) as (_, process):
        children = _children(process.pid)
        process.kill()
        process.wait(30)
    assert children, "vacuous unless one is there"
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def _children(pid):
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True).stdout.split()
    own = [one for one in found if Path(f"/proc/{one}/cmdline").exists()]
    return [one for one in own if b"vllm" in Path(f"/proc/{one}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--engine", "llama.cpp"], "--engine llama.cpp is not one of transformers, vllm"),
        (["--engine-url", "localhost:8000"], "--engine-url localhost:8000 is no address"),
        (["--engine-python", "python3"], "are of a vLLM that is started here"),
        (["--engine", "vllm", "--engine-python", "/nowhere/python"], "/nowhere/python does not run"),
        (["--engine", "vllm", "--engine-python", sys.executable], "has no vLLM. Install it there"),
        (["--cache-mb", "-1"], "--cache-mb -1 must be 0 or more"),
    ],
)
def test_what_cannot_work_is_said_first(folder, options, told, capsys):
    assert main(["serve", folder, *options]) == 2
    assert told in capsys.readouterr().err


def test_a_vllm_that_ends_at_once_is_told(folder, tmp_path, capfd):
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "no such device" >&2; exit 3\n')
    script.chmod(0o755)
    assert main(["serve", folder, "--engine", "vllm", "--engine-python", str(script)]) == 2
    told = capfd.readouterr().err
    assert "vLLM ended with 3 before it could be asked" in told
    assert "no such device" in told


# ---------------------------------------------------------------------- the real one


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="LLINK_VLLM_PYTHON names no interpreter that has vLLM")
def test_a_real_vllm_answers_as_generate(tmp_path):
    assets = Path(__file__).parent.parent.parent / "assets"
    torch.manual_seed(0)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        assets / "encoder", assets / "decoder", stage="inject", teacher_conditioning="none", **OPTIONS
    )
    model.save_pretrained(tmp_path / "model", self_contained=True)
    started = time.monotonic()
    small = "--enforce-eager --max-model-len 512 --gpu-memory-utilization 0.5"  # else it wants 0.92 of the memory
    options = ["--engine", "vllm", "--engine-python", REAL, "--engine-options", small]
    with model_running(str(tmp_path / "model"), *options) as (address, _):
        print(f"started in {time.monotonic() - started:.0f} s")
        client = openai.OpenAI(base_url=address, api_key="none", max_retries=0)
        asked = [about(text, prompt=prompt) for text in TEXTS for prompt in ("Say it.", "What is it?", "Why?")]
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(lambda m: client.chat.completions.create(model="model", messages=m, max_tokens=24), asked)
            )
    texts = [answer.choices[0].message.content for answer in found]
    wanted = [alone(model, messages, 24) for messages in asked]
    assert len(set(wanted)) > 4, "vacuous unless they differ"
    same = sum(one == other for one, other in zip(texts, wanted, strict=True))
    assert same == len(wanted), json.dumps([texts, wanted], ensure_ascii=False)
