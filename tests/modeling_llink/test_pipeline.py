"""`pipeline("llink", …)` with llink and without it, from a folder and from a Hub, and transformers' own pipelines."""

import json
import os
import subprocess
import sys

import pytest
import tiny
import torch
from datasets import Dataset
from hub_server import build, reload_here, tiny_hub
from transformers import GenerationConfig, TextIteratorStreamer, pipeline

from llink.hub_cards import publishing
from llink.hub_cards.publishing import push_to_hub
from llink.modeling_llink import LlinkPipeline
from llink.modeling_llink.errors import ForeignTextError, PromptError

TEXTS = ["the cat", "a dog runs", "home"]
SHORT = dict(max_new_tokens=5)


@pytest.fixture(scope="module")
def answer(make_model):
    return pipeline("llink", model=make_model())


def expected(model, texts, prompt=None, **options) -> list[str]:
    tokens = model.generate(foreign_text=texts, prompt=prompt, **{**SHORT, **options})
    return model.processor.batch_decode(tokens, skip_special_tokens=True)


def texts_of(answers) -> list:
    """Answers without their wrapping."""
    return [one["generated_text"] if isinstance(one, dict) else texts_of(one) for one in answers]


def chat(*texts):
    return [{"role": "user", "content": [{"type": "foreign_text", "text": text} for text in texts]}]


def test_one_text(answer):
    assert isinstance(answer, LlinkPipeline)
    assert answer("the cat", prompt="Summarize.", **SHORT) == [
        {"generated_text": expected(answer.model, "the cat", "Summarize.")[0]}
    ]
    assert texts_of(answer("the cat", **SHORT)) == expected(answer.model, "the cat"), "translates when not told"


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
@pytest.mark.matrix
def test_lists_and_batches(answer, batch_size):
    with tiny.count_calls(answer.model.encoder) as calls:
        found = answer(TEXTS, prompt="Summarize.", batch_size=batch_size, **SHORT)
    assert len(calls) == -(-len(TEXTS) // batch_size), "vacuous unless batches reach the model"
    alone = [texts_of(answer(text, prompt="Summarize.", **SHORT)) for text in TEXTS]
    assert texts_of(found) == alone
    assert answer([], **SHORT) == []


def test_every_form_of_input(answer):
    model = answer.model
    found = answer([{"foreign_text": ["the cat", "home"], "prompt": "Compare."}, "a dog"], prompt="Summarize.", **SHORT)
    wanted = [expected(model, [["the cat", "home"]], "Compare."), expected(model, "a dog", "Summarize.")]
    assert texts_of(found) == wanted
    assert texts_of(answer(TEXTS[:2], prompt=["Translate.", "Summarize."], **SHORT)) == [
        expected(model, text, prompt) for text, prompt in zip(TEXTS[:2], ["Translate.", "Summarize."], strict=True)
    ]
    conversation = model.generate(messages=chat("the cat", "home"), **SHORT)
    wanted = model.processor.batch_decode(conversation, skip_special_tokens=True)
    assert texts_of(answer(chat("the cat", "home"), **SHORT)) == wanted
    assert texts_of(answer([chat("the cat", "home")] * 3, batch_size=2, **SHORT)) == [wanted] * 3
    lazily = answer((text for text in TEXTS), prompt="Summarize.", **SHORT)
    assert texts_of(lazily) == texts_of(answer(TEXTS, prompt="Summarize.", **SHORT))
    rows = Dataset.from_dict({"foreign_text": TEXTS})
    for dataset in (rows, rows.to_iterable_dataset()):
        assert texts_of(answer(dataset, prompt="Summarize.", **SHORT)) == texts_of(
            answer(TEXTS, prompt="Summarize.", **SHORT)
        )
    assert texts_of(answer({"prompt": "Hello."}, **SHORT)) == model.processor.batch_decode(
        model.generate(prompt="Hello.", **SHORT), skip_special_tokens=True
    )


def test_options_of_generate(answer):
    beams = dict(num_beams=3, num_return_sequences=2)
    wanted = expected(answer.model, "the cat", **beams)
    assert texts_of(answer("the cat", **SHORT, **beams)) == wanted
    assert texts_of(answer(["the cat"] * 3, batch_size=3, **SHORT, **beams)) == [wanted] * 3
    assert len(set(wanted)) == 2, "vacuous unless they differ"
    config = GenerationConfig(max_new_tokens=2)
    assert texts_of(answer("the cat", generation_config=config)) == expected(answer.model, "the cat", max_new_tokens=2)
    shorter = pipeline("llink", model=answer.model, prompt="Summarize.", batch_size=2, max_new_tokens=2)
    assert texts_of(shorter(TEXTS[0])) == expected(answer.model, "the cat", "Summarize.", max_new_tokens=2)
    assert texts_of(shorter(TEXTS))[0] == texts_of(shorter(TEXTS[0]))
    assert texts_of(shorter(TEXTS[0], prompt="Translate.", max_new_tokens=3)) == expected(
        answer.model, "the cat", "Translate.", max_new_tokens=3
    )


def test_streaming(answer):
    streamer = TextIteratorStreamer(answer.processor, timeout=30, skip_special_tokens=True)
    (found,) = texts_of(answer("the cat", streamer=streamer, **SHORT))
    assert "".join(streamer) == found


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["the cat", ""], ForeignTextError),
        (["the cat", None, 3], ForeignTextError),
        ([{"foreign_text": "the cat"}, {"text": "the cat"}], PromptError),
        (["the cat", [{"role": "user", "content": [{"type": "picture"}]}]], PromptError),
        (["the cat", [{"role": "user", "content": 3}]], PromptError),
    ],
    ids=str,
)
def test_a_bad_input_is_refused_before_the_first_is_answered(answer, arguments, error):
    with tiny.count_calls(answer.model.decoder) as calls, pytest.raises(error):
        answer(arguments, **SHORT)
    assert calls == []


def test_a_chat_takes_no_prompt(answer):
    for inputs, prompt in ((chat("the cat"), "Why?"), ([chat("the cat")] * 2, "Why?"), (["a", chat("a")], ["b", "c"])):
        with (
            tiny.count_calls(answer.model.decoder) as calls,
            pytest.raises(PromptError, match="either a chat or a prompt"),
        ):
            answer(inputs, prompt=prompt, **SHORT)
        assert calls == []


def test_prompts_that_do_not_fit(answer):
    for inputs, prompt in ((TEXTS, ["a", "b"]), ("the cat", ["a", "b"]), ("the cat", 3)):
        with pytest.raises(PromptError, match="prompt"):
            answer(inputs, prompt=prompt)


def test_a_decoder_without_a_padding_token(make_model):
    answers = pipeline("llink", model=make_model(decoder="gpt2"))(TEXTS, batch_size=2, **SHORT)
    assert len(answers) == 3


def test_what_it_saves_is_whole(answer, tmp_path):
    answer.save_pretrained(tmp_path / "out")
    again = pipeline("llink", model=str(tmp_path / "out"))
    assert type(again) is LlinkPipeline, "the installed one, and no question of trust"
    assert again(TEXTS, **SHORT) == answer(TEXTS, **SHORT)


# ------------------------------------------------------------------ transformers' own


@pytest.mark.matrix
def test_any_to_any_reads_chats_with_foreign_parts(answer, tmp_path):
    answer.save_pretrained(tmp_path)
    own = pipeline("any-to-any", model=str(tmp_path))
    (found,) = own(text=chat("the cat", "home"), return_full_text=False, **SHORT)
    assert found["generated_text"] == texts_of(answer(chat("the cat", "home"), **SHORT))[0]
    for (full,) in own(text=[chat("the cat", "home")] * 2, **SHORT):
        assert full["generated_text"][-1] == {"role": "assistant", "content": found["generated_text"]}
    longer = [*chat("the cat", "home"), {"role": "assistant", "content": "x"}, *chat("a dog")]
    (second,) = own(text=longer, return_full_text=False, **SHORT)
    assert second["generated_text"] == texts_of(answer(longer, **SHORT))[0]


def test_text_generation_answers_prompts_without_foreign_text(answer, tmp_path):
    answer.save_pretrained(tmp_path)
    own = pipeline("text-generation", model=str(tmp_path))
    messages = [{"role": "user", "content": "Hello."}]
    (found,) = own(messages, return_full_text=False, do_sample=False, **SHORT)  # its own default is to sample
    assert found["generated_text"] == texts_of(answer({"prompt": "Hello."}, **SHORT))[0]


def test_text_generation_refuses_foreign_parts_and_names_the_way(answer, tmp_path):
    answer.save_pretrained(tmp_path)
    own = pipeline("text-generation", model=str(tmp_path))
    with tiny.count_calls(own.model.decoder) as calls, pytest.raises(Exception, match=r"Use pipeline\('llink'"):
        own(chat("the cat"), **SHORT)
    assert calls == []
    again = LlinkPipeline(own.model).processor
    assert again.render(chat("the cat"))[0] == answer.processor.render(chat("the cat"))[0]


def test_feature_extraction_gives_retrieval_vectors(answer, tmp_path):
    model = answer.model
    answer.save_pretrained(tmp_path)
    own = pipeline("feature-extraction", model=str(tmp_path))
    wanted = model.get_foreign_features(TEXTS)
    for batch_size in (1, 2):
        found = own(TEXTS, batch_size=batch_size, return_tensors=True)
        assert torch.allclose(torch.cat(found), wanted, atol=1e-5)
    assert own("the cat") == own(["the cat"])[0]
    english = own("A cat.", english=True, return_tensors=True)
    assert torch.allclose(english, model.get_teacher_features(["A cat."]), atol=1e-5)
    with pytest.raises(ForeignTextError):
        own(" ")


def test_feature_extraction_of_other_models_is_as_it_was(base_folder):
    folder = base_folder("encoder", "xlm-roberta")
    found = pipeline("feature-extraction", model=str(folder))("the cat", return_tensors=True)
    assert found.shape[0] == 1
    assert found.dim() == 3


# ------------------------------------------------------------------ without llink


WITHOUT_LLINK = """
import json, sys, threading
sys.modules["llink"] = None
import torch
torch.set_num_threads(1)
from transformers import TextIteratorStreamer, pipeline
texts, chat, found = json.loads(sys.argv[1]), json.loads(sys.argv[2]), []
def ask(name):
    answer = pipeline("llink", model=name, trust_remote_code=True)
    assert type(answer).__module__.startswith("transformers_modules."), type(answer)
    one = answer(texts[0], prompt="Summarize.", max_new_tokens=5)
    many = answer(texts, prompt="Summarize.", max_new_tokens=5, batch_size=2)
    streamer = TextIteratorStreamer(answer.processor, skip_special_tokens=True, timeout=60)
    options = dict(prompt="Summarize.", max_new_tokens=5, streamer=streamer)
    thread = threading.Thread(target=answer, args=(texts[0],), kwargs=options)
    thread.start()
    streamed = "".join(streamer)
    thread.join()
    return answer, [one, many, streamed, answer(chat, max_new_tokens=5)]
for name in sys.argv[3:]:
    answer, said = ask(name)
    found.append(said)
answer.save_pretrained("again")
found.append(ask("again")[1])
own = pipeline("any-to-any", model="again", trust_remote_code=True)
(last,) = own(text=chat, max_new_tokens=5, return_full_text=False)
try:
    pipeline("llink", model="again", trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise SystemExit("its code ran without trust")
vectors = pipeline("feature-extraction", model="again", trust_remote_code=True)(texts)
assert [len(one) for one in vectors] == [1] * len(texts), "a vector a text"
print("FOUND" + json.dumps([found, last["generated_text"]]))
"""


@pytest.mark.slow
def test_from_a_folder_and_from_the_hub_where_llink_is_not(tmp_path, monkeypatch, base_folder):
    monkeypatch.setattr(publishing, "reload", reload_here)
    with tiny_hub(monkeypatch, tmp_path / "hf", base_folder):
        model = build()
        model.save_pretrained(tmp_path / "folder", self_contained=True)
        push_to_hub(model, "someone/Llama-piped")
        script = [sys.executable, "-c", WITHOUT_LLINK, json.dumps(TEXTS), json.dumps(chat("the cat", "home"))]
        done = subprocess.run(
            [*script, str(tmp_path / "folder"), "someone/Llama-piped"],
            env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "[y/N]" not in done.stdout + done.stderr
    found, last = json.loads(done.stdout.rpartition("FOUND")[2])
    answer = pipeline("llink", model=model, prompt="Summarize.", **SHORT)
    one, many = answer(TEXTS[0]), answer(TEXTS)
    conversation = pipeline("llink", model=model)(chat("the cat", "home"), **SHORT)
    assert found == [[one, many, one[0]["generated_text"], conversation]] * 3
    assert last == conversation[0]["generated_text"]
    assert len({str(entry) for entry in [*many, conversation]}) > 2, "vacuous unless answers differ"
