"""Every option of transformers' generation, beside a foreign passage: it works, or is refused by name."""

import json

import pytest
import torch
from transformers import CompileConfig, GenerationConfig, WatermarkingConfig

from llink.configuration_llink import LlinkConfigError
from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.errors import LlinkCheckpointError, PromptError
from llink.modeling_llink.generation_options import NOT_WITH_SLOTS
from llink.modeling_llink.templates import check_template

#: A value of each field that says something else than its default, with what it needs beside it.
VALUES = {
    "max_length": dict(max_length=60),
    "max_new_tokens": dict(max_new_tokens=2),
    "min_length": dict(min_length=3),
    "min_new_tokens": dict(min_new_tokens=2),
    "early_stopping": dict(early_stopping=True, num_beams=2),
    "max_time": dict(max_time=20.0),
    "stop_strings": dict(stop_strings=["zz"], tokenizer="its own"),
    "do_sample": dict(do_sample=True),
    "num_beams": dict(num_beams=2),
    "use_cache": dict(use_cache=False),
    "cache_implementation": dict(cache_implementation="static"),
    "max_cache_len": dict(cache_implementation="static", max_cache_len=64),
    "cache_config": dict(cache_config={}),
    "temperature": dict(do_sample=True, temperature=0.7),
    "top_k": dict(do_sample=True, top_k=5),
    "top_p": dict(do_sample=True, top_p=0.5),
    "min_p": dict(do_sample=True, min_p=0.1),
    "top_h": dict(do_sample=True, top_h=0.5),
    "typical_p": dict(do_sample=True, typical_p=0.5),
    "epsilon_cutoff": dict(do_sample=True, epsilon_cutoff=1e-4),
    "eta_cutoff": dict(do_sample=True, eta_cutoff=1e-4),
    "repetition_penalty": dict(repetition_penalty=1.2),
    "encoder_repetition_penalty": dict(encoder_repetition_penalty=1.2),
    "length_penalty": dict(length_penalty=0.5, num_beams=2),
    "no_repeat_ngram_size": dict(no_repeat_ngram_size=2),
    "encoder_no_repeat_ngram_size": dict(encoder_no_repeat_ngram_size=2),
    "bad_words_ids": dict(bad_words_ids=[[5]]),
    "renormalize_logits": dict(renormalize_logits=True),
    "forced_bos_token_id": dict(forced_bos_token_id=5),
    "forced_eos_token_id": dict(forced_eos_token_id=5),
    "remove_invalid_values": dict(remove_invalid_values=True),
    "exponential_decay_length_penalty": dict(exponential_decay_length_penalty=(2, 1.1)),
    "suppress_tokens": dict(suppress_tokens=[5]),
    "begin_suppress_tokens": dict(begin_suppress_tokens=[5]),
    "sequence_bias": dict(sequence_bias=[[[5], -1.0]]),
    "watermarking_config": dict(watermarking_config=WatermarkingConfig()),
    "num_return_sequences": dict(do_sample=True, num_return_sequences=2),
    "output_attentions": dict(output_attentions=True, return_dict_in_generate=True),
    "output_hidden_states": dict(output_hidden_states=True, return_dict_in_generate=True),
    "output_scores": dict(output_scores=True, return_dict_in_generate=True),
    "output_logits": dict(output_logits=True, return_dict_in_generate=True),
    "return_dict_in_generate": dict(return_dict_in_generate=True),
    "pad_token_id": dict(pad_token_id=1),
    "bos_token_id": dict(bos_token_id=1),
    "eos_token_id": dict(eos_token_id=5),
    "decoder_start_token_id": dict(decoder_start_token_id=1),
    "compile_config": dict(compile_config=CompileConfig()),
    "disable_compile": dict(disable_compile=True),
    "low_memory": dict(low_memory=True),
    # Refused beside a passage.
    "prefill_chunk_size": dict(prefill_chunk_size=4),
    "prompt_lookup_num_tokens": dict(prompt_lookup_num_tokens=3),
    "token_healing": dict(token_healing=True),
    "assistant_early_exit": dict(assistant_early_exit=1),
    "guidance_scale": dict(guidance_scale=1.5),
    "use_mtp": dict(use_mtp=True),
    "speculation_type": dict(speculation_type="dflash"),
    "constraints": dict(constraints=[1]),
    "force_words_ids": dict(force_words_ids=[[1]]),
    "penalty_alpha": dict(penalty_alpha=0.5, top_k=4),
    "dola_layers": dict(dola_layers="low"),
    "custom_generate": dict(custom_generate="someone/decoding"),
    "num_beam_groups": dict(num_beam_groups=2, num_beams=2),
    "diversity_penalty": dict(diversity_penalty=0.5, num_beams=2, num_beam_groups=2),
}
#: Of an assistant model's own configuration, which a plain decoder cannot be to slots; and what is merely kept.
OF_ASSISTANTS = (
    *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
    *("assistant_lookbehind", "target_lookbehind", "max_matching_ngram_size", "assistant_ensemble_weight"),
    "is_assistant",
)
KEPT = ("transformers_version", "continuous_batching_config", "trust_remote_code", "generation_kwargs")


def test_every_field_of_this_transformers_is_tried():
    fields = {name for name in GenerationConfig().to_dict() if not name.startswith("_")}
    assert len(fields) > 40, "vacuous unless there are fields"
    assert not sorted(fields - set(VALUES) - set(OF_ASSISTANTS) - set(KEPT)), "give new fields a value here"


@pytest.mark.parametrize("field", VALUES)
@pytest.mark.parametrize("form", ["argument", "configuration"])
def test_an_option_works_or_is_refused_by_name(field, form, model):
    options = {"max_new_tokens": 3, **VALUES[field]}
    beside = {name: options.pop(name) for name in ("tokenizer", "custom_generate") if name in options}
    if "tokenizer" in beside:
        beside["tokenizer"] = model.processor.tokenizer
    if form == "configuration":
        if field in ("custom_generate", "top_h", "constraints"):
            pytest.skip(f"{field} is an argument of generate alone")
        beside["generation_config"] = GenerationConfig(**options)
        options = {}
    call = dict(foreign_text=["the cat", "a dog"], prompt="x", **options, **beside)
    if field in NOT_WITH_SLOTS:
        with pytest.raises(LlinkConfigError, match=rf"{field}|num_beam_groups.* cannot be used with foreign text: "):
            model.generate(**call)
        return
    output = model.generate(**call)
    sequences = output if isinstance(output, torch.Tensor) else output.sequences
    assert sequences.shape[0] in (2, 4)
    assert sequences.shape[1] >= 1


def told(folder, **fields):
    (folder / "generation_config.json").write_text(json.dumps(fields))
    return LlinkForCausalLM.from_pretrained(folder)


def test_what_a_checkpoint_asks_of_generation_is_bounded(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "m", self_contained=True)
    assert told(tmp_path / "m", num_beams=3, temperature=0.5, do_sample=True).generation_config.num_beams == 3
    wrong = [dict(num_beams=10**6), dict(num_return_sequences=10**6, do_sample=True), dict(max_length=10**9)]
    wrong += [
        dict(max_new_tokens="x"),
        dict(num_beams=0),
        dict(num_beams=True),
        dict(temperature="hot"),
        dict(top_k=[]),
    ]
    for fields in wrong:
        with pytest.raises(LlinkCheckpointError, match=rf"generation_config.json says {next(iter(fields))}="):
            told(tmp_path / "m", **fields)
    for text in ("[", "[]", "3", "[" * 100_000):
        (tmp_path / "m" / "generation_config.json").write_text(text)
        with pytest.raises(LlinkCheckpointError, match=r"generation_config.json is n"):
            LlinkForCausalLM.from_pretrained(tmp_path / "m")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ 'a' * (10 ** 10) }}", "takes more than"),
        ("{{ 'a' * 9999999 }}", "takes more than"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "takes more than"),
        ("{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}", "takes more"),
        ("{{ ''.__class__.__mro__ }}", "does not take this conversation"),
        ("{% for %}", "does not take this conversation"),
        ("{{ 1 / 0 }}", "does not take this conversation"),
        ("{{ raise_exception('no system') }}", "does not take this conversation: no system"),
    ],
)
def test_a_chat_template_that_takes_too_much_or_fails_is_refused(template, why, model):
    processor = model.processor
    before = processor.chat_template
    processor.chat_template = template
    try:
        with pytest.raises(PromptError, match=why):
            model.generate(foreign_text="the cat", max_new_tokens=2)
    finally:
        processor.chat_template = before


def test_a_template_is_tried_once(model):
    model.generate(foreign_text="the cat", max_new_tokens=2)
    found = check_template.cache_info()
    model.generate(foreign_text="the cat", max_new_tokens=2)
    assert check_template.cache_info().misses == found.misses
