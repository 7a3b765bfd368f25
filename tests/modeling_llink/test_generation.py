"""generate: strings and tensors, every decoding method, the encoder once, reserved ids never."""

import itertools

import pytest
import tiny
import torch
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TextStreamer,
)

from llink.configuration_llink import LlinkConfigError
from llink.modeling_llink.errors import ForeignTextError, PromptError, SlotMismatchError
from llink.modeling_llink.generation import without_reserved

TEXTS = ["the cat", "a dog runs home"]
NEW = 8
METHODS = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "several beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "num_return_sequences": 3},
    "beam sampling": {"do_sample": True, "num_beams": 2},
    "top-k, top-p, temperature": {"do_sample": True, "top_k": 5, "top_p": 0.9, "temperature": 0.7},
    "min-p": {"do_sample": True, "min_p": 0.1},
    "typical": {"do_sample": True, "typical_p": 0.8},
    "repetition_penalty": {"repetition_penalty": 1.3},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 1.3},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 2},
    "bad_words": {"bad_words_ids": [[44], [65, 66]]},
    "suppress": {"suppress_tokens": [5], "begin_suppress_tokens": [6]},
    "min_new_tokens": {"min_new_tokens": 5},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "sequence_bias": {"sequence_bias": [[[44], 3.0]]},
    "exponential decay": {"exponential_decay_length_penalty": (2, 1.5)},
    "forced end": {"forced_eos_token_id": 0},
    "remove invalid": {"remove_invalid_values": True, "renormalize_logits": True},
}


def inputs_of(model, prompt="Summarize.", texts=TEXTS):
    return model.processor(prompt, texts)


# ------------------------------------------------------------------ conventions


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS.keys())
def test_strings_give_the_new_tokens_of_what_tensors_give(model, options):
    options = {"max_new_tokens": NEW, **options}
    torch.manual_seed(0)
    by_strings = model.generate(foreign_text=TEXTS, prompt="Summarize.", **options)
    inputs = inputs_of(model)
    torch.manual_seed(0)
    by_tensors = model.generate(**inputs, **options)
    length = inputs["input_ids"].shape[1]
    rows = 2 * options.get("num_return_sequences", 1)
    assert by_tensors.shape[0] == by_strings.shape[0] == rows
    repeated = inputs["input_ids"].repeat_interleave(rows // 2, dim=0)
    assert torch.equal(by_tensors[:, :length], repeated)
    assert torch.equal(by_tensors[:, length:], by_strings)
    assert 0 < by_strings.shape[1] <= NEW
    assert by_strings.max() < model.config.vocab_size


def test_positional_ids_are_input_ids(model):
    inputs = inputs_of(model)
    ids = inputs.pop("input_ids")
    wanted = model.generate(input_ids=ids, **inputs, max_new_tokens=4)
    assert torch.equal(model.generate(ids, **inputs, max_new_tokens=4), wanted)


def test_a_string_is_one_row(model):
    single = model.generate(foreign_text="the cat", prompt="Summarize.", max_new_tokens=NEW)
    assert single.shape[0] == 1
    listed = model.generate(foreign_text=["the cat"], prompt=["Summarize."], max_new_tokens=NEW)
    assert torch.equal(single, listed)


def test_the_default_prompt_translates(model):
    asked = model.generate(foreign_text="the cat", prompt="Translate to English.", max_new_tokens=NEW)
    assert torch.equal(model.generate(foreign_text="the cat", max_new_tokens=NEW), asked)
    other = model.generate(foreign_text="the cat", prompt="Summarize.", max_new_tokens=NEW)
    assert not torch.equal(other, asked), "vacuous unless the prompt matters"


def test_return_dict_holds_the_new_tokens(model):
    output = model.generate(
        foreign_text=TEXTS, max_new_tokens=5, min_new_tokens=5, return_dict_in_generate=True, output_scores=True
    )
    assert output.sequences.shape == (2, 5)
    assert len(output.scores) == 5
    assert output.scores[0].shape == (2, model.config.vocab_size)
    assert torch.equal(output.sequences, model.generate(foreign_text=TEXTS, max_new_tokens=5, min_new_tokens=5))
    inputs = inputs_of(model)
    by_ids = model.generate(**inputs, max_new_tokens=5, return_dict_in_generate=True)
    assert torch.equal(by_ids.sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])


def test_a_generation_config_is_obeyed(model):
    config = GenerationConfig(max_new_tokens=3, num_beams=2, eos_token_id=0, pad_token_id=0)
    by_config = model.generate(foreign_text=TEXTS, generation_config=config)
    by_options = model.generate(foreign_text=TEXTS, max_new_tokens=3, num_beams=2)
    assert torch.equal(by_config, by_options)
    assert config.max_new_tokens == 3


def test_a_generation_config_without_ids_is_filled_and_left_as_it_was(model, recwarn):
    config = GenerationConfig(max_new_tokens=3)
    found = model.generate(foreign_text=TEXTS, generation_config=config)
    assert torch.equal(found, model.generate(foreign_text=TEXTS, max_new_tokens=3))
    assert (config.eos_token_id, config.pad_token_id) == (None, None)
    assert not [warning for warning in recwarn if "generation_config" in str(warning.message)]


def test_max_length_counts_the_prompt_as_in_the_library(model):
    length = inputs_of(model)["input_ids"].shape[1]
    new = model.generate(foreign_text=TEXTS, prompt="Summarize.", max_length=length + 3)
    assert new.shape[1] <= 3


def test_answers_end_at_the_end_of_turn(make_model):
    model = make_model()
    model.decoder.lm_head.weight.data[:] = 0
    bias = torch.zeros(model.config.vocab_size)
    bias[model.processor.tokenizer.eos_token_id] = 9

    class Force(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores + bias

    new = model.generate(foreign_text=TEXTS, logits_processor=LogitsProcessorList([Force()]))
    assert new.tolist() == [[model.processor.tokenizer.eos_token_id]] * 2


@pytest.mark.parametrize("decoder", tiny.DECODERS)
@pytest.mark.slow(but=["llama", "gpt2"])
def test_left_padding_and_company_change_no_token(shared_model, decoder):
    model = shared_model(decoder=decoder)
    texts = [["the cat"], ["a dog runs", "home"], ["we eat rice"]]
    prompts = ["Summarize.", "A considerably longer prompt.", "x"]
    kwargs = dict(max_new_tokens=6, min_new_tokens=6, return_dict_in_generate=True, output_logits=True)
    together = model.generate(foreign_text=texts, prompt=prompts, **kwargs)
    for index in range(3):
        alone = model.generate(foreign_text=[texts[index]], prompt=prompts[index], **kwargs)
        # Scores, not tokens: a tie may break either way.
        assert torch.allclose(together.logits[0][index], alone.logits[0][0], atol=2e-3)
        if torch.equal(together.sequences[index], alone.sequences[0]):
            assert torch.allclose(together.logits[-1][index], alone.logits[-1][0], atol=1e-2)


@pytest.mark.parametrize("decoder", tiny.DECODERS)
@pytest.mark.parametrize("options", [{"use_cache": False}, {"cache_implementation": "static"}], ids=str)
def test_caches_agree(shared_model, decoder, options):
    model = shared_model(decoder=decoder)
    kwargs = dict(
        foreign_text=TEXTS,
        prompt=["Summarize.", "A longer prompt."],
        max_new_tokens=6,
        min_new_tokens=6,
        return_dict_in_generate=True,
        output_logits=True,
    )
    cached, other = model.generate(**kwargs), model.generate(**kwargs, **options)
    for step, (one, two) in enumerate(zip(cached.logits, other.logits, strict=True)):
        if step and not torch.equal(cached.sequences[:, :step], other.sequences[:, :step]):
            break
        assert torch.allclose(one, two, atol=5e-3), (step, (one - two).abs().max())


@pytest.mark.parametrize("decoder", tiny.DECODERS)
@pytest.mark.slow(but=["llama", "gpt2"])
def test_without_foreign_text_it_generates_what_the_base_generates(shared_model, base_folder, decoder):
    model = shared_model(decoder=decoder)
    base = AutoModelForCausalLM.from_pretrained(base_folder("decoder", decoder)).eval()
    inputs = model.processor(["Summarize.", "What is this thing?"])
    for options in ({}, {"num_beams": 2}, {"use_cache": False}):
        options = {"max_new_tokens": NEW, "pad_token_id": 0, **options}
        wanted = base.generate(**inputs, **options)
        assert torch.equal(model.generate(**inputs, **options), wanted)
        by_strings = model.generate(prompt=["Summarize.", "What is this thing?"], **options)
        assert torch.equal(by_strings, wanted[:, inputs["input_ids"].shape[1] :])


# ------------------------------------------------------------------ slots


def test_kept_slots_give_what_text_gives(model):
    wanted = model.generate(foreign_text=TEXTS, prompt="Summarize.", max_new_tokens=NEW)
    slots = model.encode_foreign(TEXTS)
    arrays = [slots.numpy(), [s.numpy() for s in slots]]
    for form in (slots, slots.unsqueeze(1), list(slots), [s.unsqueeze(0) for s in slots], *arrays):
        with tiny.count_calls(model.encoder) as calls:
            assert torch.equal(model.generate(foreign_slots=form, prompt="Summarize.", max_new_tokens=NEW), wanted)
        assert calls == []
    inputs = inputs_of(model)
    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    by_ids = model.generate(**prompt, foreign_slots=slots, max_new_tokens=NEW)
    assert torch.equal(by_ids[:, prompt["input_ids"].shape[1] :], wanted)


def test_kept_slots_of_rows_with_different_numbers_of_passages(model):
    texts = [["the cat", "home"], ["a dog"]]
    wanted = model.generate(foreign_text=texts, prompt="Compare.", max_new_tokens=NEW)
    slots = [model.encode_foreign(row) for row in texts]
    assert torch.equal(model.generate(foreign_slots=slots, prompt="Compare.", max_new_tokens=NEW), wanted)


def test_slots_from_an_output_go_back_with_their_mask(model):
    inputs = model.processor("Compare.", [["the cat", "home"], ["a dog"]])
    with torch.no_grad():
        slots = model(**inputs)["foreign_slots"]
    mask = inputs["foreign_attention_mask"].any(dim=-1)
    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    wanted = model.generate(**inputs, max_new_tokens=NEW)
    again = model.generate(**prompt, foreign_slots=slots, foreign_mask=mask, max_new_tokens=NEW)
    assert torch.equal(again, wanted)


def test_one_passage_can_answer_several_prompts(model):
    prompts = ["Summarize.", "Translate."]
    by_text = model.generate(foreign_text="the cat", prompt=prompts, max_new_tokens=4)
    by_slots = model.generate(foreign_slots=model.encode_foreign("the cat"), prompt=prompts, max_new_tokens=4)
    assert torch.equal(by_text, by_slots)


def test_features_instead_of_text(model):
    wanted = model.generate(foreign_text=TEXTS, prompt="Summarize.", max_new_tokens=NEW)
    inputs = inputs_of(model)
    features = model.get_foreign_features(TEXTS).unsqueeze(1)
    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    found = model.generate(**prompt, foreign_features=features, max_new_tokens=NEW)
    assert torch.equal(found[:, prompt["input_ids"].shape[1] :], wanted)


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3}, {"use_cache": False}, {"do_sample": True, "num_return_sequences": 2}], ids=str
)
def test_the_encoder_runs_once_a_call(model, options):
    with tiny.count_calls(model.encoder) as calls:
        model.generate(foreign_text=TEXTS, max_new_tokens=5, **options)
    assert len(calls) == 1


def test_slots_of_another_model_are_refused(model, make_model):
    other = make_model(num_slots=2).encode_foreign("cat")
    with pytest.raises(SlotMismatchError, match="encode_foreign"):
        model.generate(foreign_slots=other)
    with pytest.raises(SlotMismatchError):
        model.generate(foreign_slots=torch.zeros(model.config.hidden_size))


# ------------------------------------------------------------------ reserved ids


class ForceHigh(LogitsProcessor):
    """Pushes sampling towards the last columns, next to where reserved ids would be."""

    def __call__(self, input_ids, scores):
        return scores + torch.linspace(0, 50, scores.shape[-1])


@pytest.mark.parametrize("decoder", ["llama", "qwen2", "gpt2"])
@pytest.mark.slow(but=["llama"])
def test_reserved_ids_are_never_emitted(make_model, decoder):
    model = make_model(decoder=decoder)
    model.get_output_embeddings().weight.data.mul_(1e3)
    forced = LogitsProcessorList([ForceHigh()])
    sampled = 0
    for processors in (None, forced):
        new = model.generate(
            foreign_text=TEXTS,
            do_sample=True,
            temperature=5.0,
            num_return_sequences=10,
            max_new_tokens=30,
            min_new_tokens=30,
            logits_processor=processors,
        )
        sampled += new.numel()
        assert new.max() < model.config.reserved_token_start
    assert sampled >= 1000
    assert model(**inputs_of(model)).logits.shape[-1] == model.config.vocab_size


def test_a_bias_towards_reserved_ids_cannot_emit_them(model):
    for option in ({"sequence_bias": [[[model.processor.slot_token_ids[0]], 99.0]]}, {"forced_bos_token_id": 999}):
        try:
            new = model.generate(foreign_text=TEXTS, max_new_tokens=5, **option)
        except (ValueError, IndexError):
            continue
        assert new.max() < model.config.vocab_size


def test_reserved_ids_leave_the_row_and_its_first_ordinary_id_fills_the_left():
    ids = torch.tensor([[3, 11, 12, 4, 11], [10, 11, 5, 6, 7]])
    assert without_reserved(ids, 10).tolist() == [[3, 3, 3, 3, 4], [5, 5, 5, 6, 7]]


class Spy(LogitsProcessor):
    """Keeps the scores that transformers' own processors left; the caller's come last."""

    def __init__(self):
        self.seen = []

    def __call__(self, input_ids, scores):
        self.seen.append(scores.clone())
        return scores


def first_scores(model, **options):
    spy = Spy()
    model.generate(**inputs_of(model), max_new_tokens=1, logits_processor=LogitsProcessorList([spy]), **options)
    return spy.seen[0]


def test_repeats_are_penalised_as_without_slots(model):
    plain, penalised = first_scores(model), first_scores(model, repetition_penalty=1.5)
    changed = {int(i) for i in (plain[0, :] != penalised[0, :]).nonzero().flatten()}
    zero = {int(i) for i in (plain[0, :] == 0).nonzero().flatten()}  # the padding row of tied embeddings
    assert changed == set(inputs_of(model)["input_ids"][0].tolist()) - set(model.processor.slot_token_ids) - zero


def test_a_run_of_slots_bans_no_ngram(model):
    """The prompt ends in a line break and holds no two in a row: a second one repeats no bigram."""
    line_break = model.processor.tokenizer.encode("\n")[0]
    ids = inputs_of(model)["input_ids"][0].tolist()
    assert ids[-1] == line_break
    assert (line_break, line_break) not in itertools.pairwise(ids), "vacuous unless it is new"
    scores = first_scores(model, no_repeat_ngram_size=2)
    assert torch.isinf(scores[0]).any(), "vacuous unless something is banned"
    assert not torch.isinf(scores[0, line_break])


# ------------------------------------------------------------------ transformers' other features


@pytest.mark.parametrize("skip_prompt", [False, True])
def test_streaming(model, capsys, skip_prompt):
    streamer = TextStreamer(model.processor.tokenizer, skip_prompt=skip_prompt)
    new = model.generate(foreign_text="the cat", prompt="Summarize.", max_new_tokens=5, streamer=streamer)
    assert new.shape[1] == 5
    assert capsys.readouterr().out == model.processor.tokenizer.decode(new[0]) + "\n", "the new tokens and no others"
    ids = model.processor("Summarize.", "the cat")
    model.generate(**ids, max_new_tokens=5, streamer=streamer)
    assert ("Summarize." in capsys.readouterr().out) == (not skip_prompt), "ids keep transformers' conventions"


def test_stop_strings(model):
    new = model.generate(foreign_text="the cat", max_new_tokens=NEW, min_new_tokens=NEW)
    text = model.processor.tokenizer.decode(new[0, 3:4])
    stopped = model.generate(
        foreign_text="the cat", max_new_tokens=NEW, stop_strings=[text], tokenizer=model.processor.tokenizer
    )
    assert stopped.shape[1] <= 4
    assert torch.equal(stopped, new[:, : stopped.shape[1]])


def test_an_assistant_changes_nothing_but_the_speed(model, make_model):
    assistant = make_model(seed=5)
    wanted = model.generate(foreign_text="the cat", prompt="Summarize.", max_new_tokens=NEW)
    found = model.generate(foreign_text="the cat", prompt="Summarize.", max_new_tokens=NEW, assistant_model=assistant)
    assert torch.equal(found, wanted)


def test_a_conversation_goes_on_from_its_cache(model):
    processor = model.processor

    def turn(*texts):
        return {"role": "user", "content": [{"type": "foreign_text", "text": t} for t in texts]}

    first = [turn("the cat", "home")]
    options = dict(tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True)
    inputs = processor.apply_chat_template(first, **options)
    cache = DynamicCache(config=model.decoder.config)
    output = model.generate(**inputs, max_new_tokens=3, past_key_values=cache, return_dict_in_generate=True)
    addition = processor.apply_chat_template([turn("a dog")], **options)
    ids = torch.cat([output.sequences, addition["input_ids"]], dim=1)
    slots = torch.cat([model.encode_foreign(["the cat", "home"]), model.encode_foreign(["a dog"])]).unsqueeze(0)
    kwargs = dict(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        foreign_slots=slots,
        max_new_tokens=5,
        min_new_tokens=5,
        return_dict_in_generate=True,
        output_logits=True,
    )
    seen = cache.get_seq_length()
    assert 0 < seen < ids.shape[1]
    resumed = model.generate(**kwargs, past_key_values=cache)
    fresh = model.generate(**kwargs)
    assert torch.allclose(resumed.logits[0], fresh.logits[0], atol=2e-3)
    assert torch.equal(resumed.sequences, fresh.sequences)
    # Guard: the new turn's own slots matter.
    swapped = {**kwargs, "foreign_slots": slots.flip(1)}
    assert not torch.allclose(model.generate(**swapped).logits[0], fresh.logits[0], atol=1e-2)


def test_options_that_cannot_work_are_refused(model):
    for option in ({"prefill_chunk_size": 4}, {"prompt_lookup_num_tokens": 2}, {"num_beams": 0}, {"streamer": 5}):
        with pytest.raises(LlinkConfigError, match=next(iter(option))):
            model.generate(foreign_text="the cat", max_new_tokens=3, **option)
    config = GenerationConfig(prefill_chunk_size=4, max_new_tokens=3)
    with pytest.raises(LlinkConfigError, match="prefill_chunk_size"):
        model.generate(foreign_text="the cat", generation_config=config)
    plain = model.generate(prompt="the cat", max_new_tokens=3, guidance_scale=1.5)  # the bare decoder may be guided
    assert plain.shape[1] <= 3


SLOTS = torch.zeros(2, 4, 32)
BAD = {
    "empty": (dict(foreign_text=""), ForeignTextError),
    "white": (dict(foreign_text=["a", " "]), ForeignTextError),
    "none": (dict(foreign_text=["a", None]), ForeignTextError),
    "nul": (dict(foreign_text="a\0"), ForeignTextError),
    "no rows": (dict(foreign_text=[]), ForeignTextError),
    "empty prompt": (dict(foreign_text="a", prompt=""), PromptError),
    "3 prompts, 2 texts": (dict(foreign_text=["a", "b"], prompt=["x", "y", "z"]), PromptError),
    "text and slots": (dict(foreign_text="a", foreign_slots=SLOTS), PromptError),
    "text and ids": (dict(foreign_text="a", input_ids=torch.ones(1, 2, dtype=torch.long)), PromptError),
    "3 prompts, 2 slots": (dict(foreign_slots=SLOTS, prompt=["x", "y", "z"]), PromptError),
    "no slots": (dict(foreign_slots=[]), SlotMismatchError),
    "slots, prompt None in a list": (dict(foreign_slots=SLOTS, prompt=[None]), PromptError),
    "slots that are text": (dict(foreign_slots=["a"]), SlotMismatchError),
    "slots that are a number": (dict(foreign_slots=3), SlotMismatchError),
    "no message": (dict(messages=[None]), PromptError),
    "half a character in a text": (dict(foreign_text="a\ud800b"), ForeignTextError),
    "half a character in a prompt": (dict(foreign_text="a", prompt="a\udfffb"), PromptError),
    "half a character in a message": (dict(messages=[{"role": "user", "content": "a\ud800"}]), PromptError),
    "nothing but what has no shape": (dict(foreign_text="\ufeff\u200e"), ForeignTextError),
    "slots, white prompt": (dict(foreign_slots=SLOTS, prompt=" "), PromptError),
    "slots, prompt a number": (dict(foreign_slots=SLOTS, prompt=3), PromptError),
}


@pytest.mark.parametrize(("arguments", "error"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_before_anything_runs(model, arguments, error):
    with tiny.count_calls(model.decoder) as calls, pytest.raises(error):
        model.generate(**arguments, max_new_tokens=1)
    assert calls == []


def test_generate_does_not_change_its_arguments(model):
    inputs = inputs_of(model)
    before = {name: value.clone() for name, value in inputs.items()}
    config = GenerationConfig(max_new_tokens=2)
    shown = config.to_dict()
    model.generate(**inputs, generation_config=config)
    model.generate(foreign_text=TEXTS, generation_config=config)
    assert config.to_dict() == shown
    assert all(torch.equal(inputs[name], before[name]) for name in before)
