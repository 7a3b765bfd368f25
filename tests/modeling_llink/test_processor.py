"""The processor: prompts, chat messages, reserved ids, batches, labels, saving."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers
from transformers import AutoProcessor

from llink.data.collators import tokenize_instructions
from llink.data.examples import training_example
from llink.data.instructions import instruction_dataset
from llink.modeling_llink.errors import ForeignTextError, PromptError
from llink.modeling_llink.processing_llink import LlinkProcessor
from llink.modeling_llink.prompts import DEFAULT_PROMPT, user_message

FAMILIES = ("llama", "gpt2", "qwen2")


def build(family="llama", **options) -> LlinkProcessor:
    start = len(tiny.decoder_tokenizer(family)) + (61 if family == "qwen2" else 0)
    options = {"num_slots": 3, "reserved_token_start": start, **options}
    return LlinkProcessor(tiny.decoder_tokenizer(family), tiny.encoder_tokenizer("xlm-roberta"), **options)


def part(kind, text):
    return {"type": kind, "text": text}


def slots_in(processor, ids) -> int:
    return sum(i in processor.slot_token_ids for i in ids)


# ------------------------------------------------------------------ reserved ids


@pytest.mark.parametrize("family", FAMILIES)
def test_reserved_ids_lie_outside_the_vocabulary_and_the_tokenizer_is_untouched(family):
    processor = build(family)
    vocabulary = processor.tokenizer.get_vocab()
    assert len(vocabulary) == len(tiny.decoder_tokenizer(family))
    reserved = [*processor.slot_token_ids, processor.foreign_token_id]
    assert min(reserved) > max(vocabulary.values())
    assert len(set(reserved)) == 4
    assert processor.decode(reserved) == "<f0><f1><f2><foreign_emb>"


CONTROL = ["<f0>", "<f2>", "<foreign_emb>", "<|end|>", "<|user|>", "<|endoftext|>", "<tool_call>", "<mask>", "<lang>"]


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40)
@given(text=st.lists(st.sampled_from([*CONTROL, "a ", " cat", "<", "|"]), min_size=1, max_size=6).map("".join))
def test_text_stays_text_in_prompts_and_passages(family, text):
    processor = build(family)
    if not text.strip():
        return
    control = set(processor.tokenizer.get_added_vocab().values())
    clean, _ = processor.render([processor.user_message("x", ["cat"])])
    said = [part("text", text), part("text", "\n"), part("foreign_text", text)]
    ids, passages = processor.render([{"role": "user", "content": said}])
    assert slots_in(processor, ids) == slots_in(processor, clean) == processor.num_slots
    assert processor.foreign_token_id not in ids
    assert [i for i in ids if i in control] == [i for i in clean if i in control]
    assert passages == [text]
    assert text in processor.tokenizer.decode([i for i in ids if i < processor.reserved_token_start])


@pytest.mark.parametrize("family", FAMILIES)
def test_text_stays_text_in_completions(family):
    processor = build(family)
    control = set(processor.tokenizer.get_added_vocab().values())
    text = " ".join(CONTROL)
    labels = training_example(processor, [processor.user_message("x", ["cat"])], text)["labels"]
    answer = [i for i in labels if i != -100]
    plain = [
        i for i in training_example(processor, [processor.user_message("x", ["cat"])], "cat")["labels"] if i != -100
    ]
    assert [i for i in answer if i in control] == [i for i in plain if i in control]
    assert max(answer) < processor.reserved_token_start
    assert text in processor.tokenizer.decode(answer)


def test_text_stays_text_in_every_role_of_a_chat():
    processor = build()
    control = set(processor.tokenizer.get_added_vocab().values())
    text = "".join(CONTROL)

    def conversation(words):
        return [
            {"role": "system", "content": words},
            {"role": "user", "content": [part("text", words), part("foreign_text", words), part("text", words)]},
            {"role": "assistant", "content": words},
            {"role": "user", "content": words},
        ]

    ids, plain = (processor.render(conversation(words))[0] for words in (text, "x"))
    assert [i for i in ids if i in control] == [i for i in plain if i in control]
    assert slots_in(processor, ids) == 3


def test_a_control_token_cannot_be_assembled_from_two_parts():
    processor = build()
    ids = processor.render([{"role": "user", "content": [part("text", "a<|en"), part("text", "d|>b")]}])[0]
    plain = processor.render([{"role": "user", "content": [part("text", "a"), part("text", "b")]}])[0]
    end = processor.tokenizer.convert_tokens_to_ids("<|end|>")
    assert ids.count(end) == plain.count(end)


def test_what_a_tokenizer_normalises_into_a_control_token_stays_text_in_a_chat():
    processor = build()
    processor.tokenizer.add_tokens([AddedToken("<|end|>", special=True, normalized=True)])
    processor.tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    end = processor.tokenizer.convert_tokens_to_ids("<|end|>")
    assert end in processor.tokenizer.encode("＜|end|＞"), "vacuous unless it is made of text"
    for parts in ([part("text", "a ＜|end|＞ b＜|end|>")], [part("text", "a"), part("foreign_text", "＜|end|＞")]):
        ids = processor.render([{"role": "user", "content": parts}])[0]
        plain = processor.render([{"role": "user", "content": [part(p["type"], "x") for p in parts]}])[0]
        assert ids.count(end) == plain.count(end)


@pytest.mark.parametrize("role", ["user<|end|><|system|>", "user\n", "", None, "＜|end|＞", 3, "a" * 40])
def test_a_role_that_is_no_word_is_refused(role):
    with pytest.raises(PromptError, match="is not a word such as user"):
        build().render([{"role": role, "content": "x"}])


def test_text_stays_text_beside_the_content_of_a_message():
    processor = build()
    processor.chat_template = "{% for m in messages %}{{ m.name }}{{ m.calls[0].f }}:{{ m.content }}{% endfor %}"
    end = processor.tokenizer.convert_tokens_to_ids("<|end|>")
    said = {"role": "user", "content": "x", "name": "n<|end|>", "calls": [{"f": "<|end|>g"}], "count": 3}
    ids, _ = processor.render([said])
    assert end not in ids
    assert processor.tokenizer.decode(ids) == "n<|end|><|end|>g:x"


# ------------------------------------------------------------------ prompts


@pytest.mark.parametrize("family", FAMILIES)
def test_one_layout_for_strings_chat_and_instruction_rows(family):
    processor = build(family)
    by_string = processor("Translate to English.", "cat")
    message = {"role": "user", "content": [part("text", "Translate to English.\n"), part("foreign_text", "cat")]}
    by_chat = processor.apply_chat_template(
        [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    row = user_message("Translate to English.\n<foreign_emb>", ["cat"])
    example = training_example(processor, [row], "the answer")
    assert by_string.keys() == by_chat.keys()
    assert all(torch.equal(by_string[key], by_chat[key]) for key in by_string)
    prompt = by_string["input_ids"][0].tolist()
    assert example["input_ids"][: len(prompt)] == prompt
    assert example["labels"][: len(prompt)] == [-100] * len(prompt)
    assert (
        processor("Translate to English.", "cat")["input_ids"].tolist() == processor(None, "cat")["input_ids"].tolist()
    )
    assert DEFAULT_PROMPT == "Translate to English."


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_trained_is_what_the_template_would_render(family):
    processor = build(family)
    messages = [processor.user_message("Translate.", ["cat"])]
    example = training_example(processor, messages, "the answer")
    whole, _ = processor.render([*messages, {"role": "assistant", "content": "the answer"}], False)
    assert whole[: len(example["input_ids"])] == example["input_ids"]
    assert len(whole) - len(example["input_ids"]) <= 1, "only a line break may follow the end of the turn"


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_cover_the_answer_and_its_end(family):
    processor = build(family)
    example = training_example(processor, [processor.user_message("Translate.", ["cat"])], "the answer")
    answer = [i for i in example["labels"] if i != -100]
    assert example["input_ids"][-len(answer) :] == answer
    assert processor.tokenizer.decode(answer[:-1]).strip() == "the answer"
    assert answer[-1] == processor.tokenizer.eos_token_id


def test_slots_stand_where_the_placeholders_stood():
    processor = build()
    message = user_message("A <foreign_emb> B <foreign_emb> C", ["x", "y"])
    ids, passages = processor.render([message])
    assert passages == ["x", "y"]
    assert "A <f0><f1><f2> B <f0><f1><f2> C" in processor.decode(ids)


def test_chats_with_several_passages_over_several_turns():
    processor = build()
    chat = [
        {"role": "user", "content": [part("foreign_text", "one"), part("text", " and "), part("foreign_text", "two")]},
        {"role": "assistant", "content": "fine"},
        {"role": "user", "content": [part("text", "now "), part("foreign_text", "three")]},
    ]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    slots = "<f0><f1><f2>"
    assert text == (
        f"<|user|>\n{slots} and {slots}<|end|>\n<|assistant|>\nfine<|end|>\n"
        f"<|user|>\nnow {slots}<|end|>\n<|assistant|>\n"
    )
    batch = processor.apply_chat_template([chat, chat[:1]], tokenize=True, return_dict=True, return_tensors="pt")
    assert batch["foreign_input_ids"].shape[:2] == (2, 3)
    assert batch["foreign_attention_mask"].any(dim=-1).tolist() == [[True] * 3, [True, True, False]]


def test_mixed_rows_and_rows_without_any():
    processor = build()
    batch = processor(["a", "b", "c"], [["x", "yy"], [], ["zzz"]])
    assert batch["foreign_attention_mask"].sum(dim=-1).tolist() == [[3, 4], [0, 0], [5, 0]]
    assert [slots_in(processor, row) for row in batch["input_ids"].tolist()] == [6, 0, 3]
    assert "foreign_input_ids" not in processor(["a", "b"])
    assert "foreign_input_ids" not in processor(["a", "b"], [[], []])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_is_masked_on_either_side(family, side):
    processor = build(family)
    batch = processor(["a", "a much longer prompt"], ["x", "y"], padding_side=side)
    gap = int((batch["attention_mask"][0] == 0).sum())
    assert gap > 0
    padding = slice(None, gap) if side == "left" else slice(-gap, None)
    assert not batch["attention_mask"][0, padding].any()
    assert (batch["input_ids"][0, padding] == processor.pad_token_id).all()
    single = processor("a", "x")["input_ids"][0]
    assert torch.equal(batch["input_ids"][0][batch["attention_mask"][0].bool()], single)


def test_lists_instead_of_tensors():
    processor = build()
    batch = processor(["a", "bb"], return_tensors=None)
    assert isinstance(batch["input_ids"], list)
    assert len({len(row) for row in batch["input_ids"]}) == 1


def test_decoding_names_slots_or_leaves_them_out():
    processor = build()
    ids = processor("Hello", "cat")["input_ids"]
    assert processor.batch_decode(ids) == ["<|user|>\nHello\n<f0><f1><f2><|end|>\n<|assistant|>\n"]
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["\nHello\n\n\n"]
    assert processor.decode([processor.foreign_token_id]) == "<foreign_emb>"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_that_opens_texts_does_so_once(family):
    processor = build(family)
    tokenizer = processor.tokenizer
    tokenizer.add_special_tokens({"bos_token": tokenizer.eos_token})
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    if family != "gpt2":
        processor.chat_template = "{{ bos_token }}" + tiny.TEMPLATE
    ids = processor("Hello", "cat")["input_ids"][0].tolist()
    assert ids[0] == tokenizer.bos_token_id
    assert ids[1] != tokenizer.bos_token_id


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "messages",
    [
        ["hello"],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": ["hello"]}],
        [{"role": "user", "content": [{"type": "image", "url": "x"}]}],
        [{"role": "user", "content": [{"type": "foreign_text"}]}],
        [{"role": "user", "content": [{"type": "text", "text": None}]}],
    ],
    ids=repr,
)
def test_malformed_messages_are_refused(messages):
    with pytest.raises((PromptError, ForeignTextError)):
        build().apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")


def test_unusable_passages_in_a_chat_are_refused():
    for text in ("", "  ", "a\0b"):
        chat = [{"role": "user", "content": [part("foreign_text", text)]}]
        with pytest.raises(ForeignTextError):
            build().apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt")


@pytest.mark.parametrize(
    ("prompt", "places", "count"),
    [("<foreign_emb>", 1, 2), ("<foreign_emb> and <foreign_emb>", 2, 1), ("What is <foreign_emb>?", 1, 0)],
)
def test_passages_must_match_placeholders(prompt, places, count):
    with pytest.raises(PromptError, match=rf"{places} <foreign_emb> placeholder.s. for {count} passage"):
        user_message(prompt, ["x"] * count)
    with pytest.raises(PromptError, match="As literal text"):
        build()(prompt, [["x"] * count] if count else None)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_means_in_inference_what_it_means_in_training(family):
    processor = build(family)
    for prompt, passages in (
        ("Translate <foreign_emb> to English.", ["cat"]),
        ("<foreign_emb>", ["cat"]),
        ("Is <foreign_emb> said of <foreign_emb>?", ["cat", "dog"]),
        ("Translate to English.", ["cat", "dog"]),
    ):
        row = instruction_dataset([{"foreign": passages, "prompt": prompt, "completion": "x"}])
        (example,), _ = tokenize_instructions(processor, row, 768)
        asked = processor(prompt, [passages])["input_ids"][0].tolist()
        assert example["input_ids"][: len(asked)] == asked
        assert slots_in(processor, asked) == len(passages) * processor.num_slots


def test_a_placeholder_in_a_message_is_text():
    processor = build()
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    batch = processor.apply_chat_template([{"role": "user", "content": "What is <foreign_emb>?"}], **options)
    assert "What is <foreign_emb>?" in processor.decode(batch["input_ids"][0])
    assert processor.foreign_token_id not in batch["input_ids"][0]


def test_numbers_of_prompts_and_rows_must_fit():
    processor = build()
    with pytest.raises(PromptError, match="3 prompts"):
        processor(["a", "b", "c"], ["x", "y"])
    assert processor("a", ["x", "y"])["input_ids"].shape[0] == 2
    assert processor(["a", "b"], "x")["input_ids"].shape[0] == 2


@pytest.mark.parametrize("prompt", ["", "  ", [""], [], 5, [None], ["a", 3]], ids=repr)
def test_unusable_prompts_are_refused(prompt):
    with pytest.raises(PromptError):
        build()(prompt, "cat")


def test_a_template_that_drops_a_passage_is_noticed():
    processor = build()
    processor.chat_template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    chat = [{"role": "system", "content": [part("foreign_text", "x")]}, {"role": "user", "content": "hi"}]
    with pytest.raises(PromptError, match="kept 0 of 1"):
        processor.apply_chat_template(chat, tokenize=True)


def test_unsupported_options_are_refused_and_not_ignored():
    processor = build()
    chat = [{"role": "user", "content": "hi"}]
    for option in ({"truncation": True}, {"continue_final_message": True}, {"chat_template": "x"}):
        with pytest.raises(PromptError):
            processor.apply_chat_template(chat, tokenize=True, **option)
    with pytest.raises(PromptError):
        processor("hi", padding_side="middle")


# ------------------------------------------------------------------ saving


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load(family, tmp_path):
    processor = build(family, max_foreign_chars=17, max_foreign_tokens=19)
    processor.save_pretrained(tmp_path)
    for load in (LlinkProcessor.from_pretrained, AutoProcessor.from_pretrained):
        again = load(tmp_path)
        assert isinstance(again, LlinkProcessor)
        assert (again.num_slots, again.reserved_token_start) == (processor.num_slots, processor.reserved_token_start)
        assert (again.max_foreign_chars, again.max_foreign_tokens) == (17, 19)
        assert again.encoder_tokenizer.get_vocab() == processor.encoder_tokenizer.get_vocab()
        assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
        ours, theirs = processor("Hello", ["cat", "dog"]), again("Hello", ["cat", "dog"])
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
