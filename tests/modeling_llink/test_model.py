"""The model: exactly the base decoder without foreign text, the same slots however rows are batched, frozen bases."""

import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForCausalLM

from llink.building import build_processor
from llink.data.features import base_fingerprint
from llink.modeling_llink.errors import LlinkCheckpointError, PromptError, SlotMismatchError
from llink.modeling_llink.lora import lora_parameters

PAIRS = [("xlm-roberta", name) for name in tiny.DECODERS] + [(name, "llama") for name in tiny.ENCODERS[1:]]
#: LoRA in all rows, and in none.
ON, OFF = torch.tensor([True]), torch.tensor([False])
PROMPTS = ["Summarize in English.", "What is this?", "<f0> and <f1> <|end|>"]


def base_of(base_folder, family, **kwargs):
    return AutoModelForCausalLM.from_pretrained(base_folder("decoder", family), **kwargs).eval()


def rows_of(batch, index):
    """One row of a batch without its padding."""
    keep = batch["attention_mask"][index].bool()
    row = {"input_ids": batch["input_ids"][index : index + 1, keep]}
    if "foreign_input_ids" in batch:
        real = batch["foreign_attention_mask"][index].any(dim=-1)
        if real.any():
            length = int(batch["foreign_attention_mask"][index].sum(dim=-1).max())
            row["foreign_input_ids"] = batch["foreign_input_ids"][index : index + 1, real, :length]
            row["foreign_attention_mask"] = batch["foreign_attention_mask"][index : index + 1, real, :length]
    return row


# ------------------------------------------------------------------ without foreign text


@pytest.mark.parametrize("decoder", tiny.DECODERS)
@pytest.mark.parametrize("awake", [False, True])
@pytest.mark.slow(but=["False-llama", "True-gpt2"])
def test_a_prompt_without_foreign_text_gives_exactly_the_base_logits(make_model, base_folder, decoder, awake):
    model, base = make_model(decoder=decoder, awake=awake), base_of(base_folder, decoder)
    for prompts in (PROMPTS[:1], PROMPTS):
        inputs = model.processor(prompts)
        assert torch.equal(tiny.logits_of(model, inputs), tiny.logits_of(base, inputs))
    if awake:  # guard: LoRA would change them
        with_lora = tiny.logits_of(model, {**inputs, "reads_slots": ON})
        assert not torch.allclose(with_lora, tiny.logits_of(base, inputs), atol=1e-2)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_implementation_reaches_both_bases(base_folder, make_model, attention):
    from llink.modeling_llink import LlinkForCausalLM

    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama"), attn_implementation=attention
    )
    assert model.encoder.config._attn_implementation == attention
    assert model.decoder.config._attn_implementation == attention
    inputs = model.processor(PROMPTS)
    base = base_of(base_folder, "llama", attn_implementation=attention)
    assert torch.equal(tiny.logits_of(model, inputs), tiny.logits_of(base, inputs))


def test_passages_that_are_all_masked_count_as_none(model, base_folder):
    inputs = model.processor(PROMPTS)
    slots = torch.ones(3, 1, model.config.num_slots, model.config.hidden_size)
    nothing = torch.zeros(3, 1, dtype=torch.bool)
    wanted = tiny.logits_of(base_of(base_folder, "llama"), inputs)
    given_slots = tiny.logits_of(model, {**inputs, "foreign_slots": slots, "foreign_mask": nothing})
    assert torch.equal(given_slots, wanted)
    ids = torch.zeros(3, 1, 4, dtype=torch.long)
    given_ids = tiny.logits_of(model, {**inputs, "foreign_input_ids": ids, "foreign_attention_mask": ids})
    assert torch.equal(given_ids, wanted)


@pytest.mark.parametrize("decoder", tiny.DECODERS)
def test_a_row_without_foreign_text_is_the_base_decoders_in_any_company(make_model, base_folder, decoder):
    model, base = make_model(decoder=decoder), base_of(base_folder, decoder)
    mixed = model.processor(["a", "What is this?"], [["cat"], []], padding_side="right")
    alone, keep = model.processor("What is this?"), mixed["attention_mask"][1].bool()
    in_batch, wanted = tiny.logits_of(model, mixed)[1, keep], tiny.logits_of(base, alone)[0]
    assert torch.allclose(in_batch, wanted, atol=1e-4)
    forced = tiny.logits_of(model, {**mixed, "reads_slots": ON})[1, keep]
    assert not torch.allclose(forced, wanted, atol=1e-1), "vacuous unless LoRA would change it"
    off = tiny.logits_of(model, {**mixed, "reads_slots": OFF})[0, mixed["attention_mask"][0].bool()]
    on = tiny.logits_of(model, mixed)[0, mixed["attention_mask"][0].bool()]
    assert not torch.allclose(on, off, atol=1e-1), "vacuous unless the other row has LoRA"


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_generation_of_a_row_does_not_depend_on_its_company(make_model, base_folder, options):
    model, base = make_model(), base_of(base_folder, "llama")
    options = {
        "max_new_tokens": 6,
        "do_sample": False,
        "output_scores": True,
        "return_dict_in_generate": True,
        **options,
    }
    mixed = model.processor(["a", "What is this?"], [["cat"], []])
    both = model.generate(**mixed, **options)
    text = model.processor("What is this?")
    alone = base.generate(**text, pad_token_id=model.processor.pad_token_id, **options)
    slots = model.generate(**model.processor("a", "cat"), **options)
    start = mixed["input_ids"].shape[1]
    for row, single, length in ((1, alone, text["input_ids"].shape[1]), (0, slots, slots.sequences.shape[1] - 6)):
        new = single.sequences[0, length:]
        assert torch.equal(both.sequences[row, start:][: len(new)], new)
    width = options.get("num_beams", 1)
    scores = [torch.log_softmax(step, dim=-1) for step in (both.scores[0][width], alone.scores[0][0])]
    assert torch.allclose(*scores, atol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_with_mixed_rows_teaches_only_those_with_slots(make_model, checkpointing):
    model = make_model(lora_dropout=0.0).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.decoder.enable_input_require_grads()
    mixed = model.processor(["a", "What is this?"], [["cat"], []], padding_side="right")

    def gradients(row):
        model.zero_grad()
        labels = torch.full_like(mixed["input_ids"], -100)
        labels[row] = mixed["input_ids"][row].masked_fill(mixed["attention_mask"][row] == 0, -100)
        model(**mixed, labels=labels, use_cache=False).loss.backward()
        return [p.grad.abs().max().item() for p in lora_parameters(model.decoder) if p.grad is not None]

    assert max(gradients(0)) > 0, "vacuous unless the row with slots teaches LoRA"
    assert max(gradients(1), default=0.0) == 0


# ------------------------------------------------------------------ with foreign text


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_slots_reach_the_logits(shared_model, encoder, decoder):
    model = shared_model(encoder, decoder)
    logits = tiny.logits_of(model, model.processor("Translate.", ["the cat", "a dog runs"]))[:, -1]
    assert torch.isfinite(logits).all()
    assert (logits[0] - logits[1]).abs().max() > 0.05


@pytest.mark.parametrize("decoder", ["llama", "gpt2", "qwen2", "gemma3"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_company_change_nothing(shared_model, decoder, side):
    model = shared_model(decoder=decoder)
    passages = [["the cat", "a dog runs"], ["goodbye"], [], ["we eat rice", "hello", "ក្មេងទៅសាលា"]]
    prompts = ["a", "a much longer prompt than that", "b", "c"]
    batch = model.processor(prompts, passages, padding_side=side)
    if decoder == "gpt2":  # learned positions: as in transformers, a left-padded forward needs position_ids
        batch["position_ids"] = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    logits = tiny.logits_of(model, batch)
    for index in range(4):
        single = tiny.logits_of(model, rows_of(batch, index))[0]
        together = logits[index, batch["attention_mask"][index].bool()]
        assert torch.allclose(together, single, atol=2e-3), (index, (together - single).abs().max())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.text("abc xyz.", min_size=1, max_size=12).filter(str.strip),
            st.lists(st.text("abcdefghកខគ ", min_size=1, max_size=25).filter(str.strip), max_size=3),
        ),
        min_size=1,
        max_size=4,
    ),
    side=st.sampled_from(["left", "right"]),
)
def test_any_company_gives_the_same_scores(model, rows, side):
    batch = model.processor([p for p, _ in rows], [t for _, t in rows], padding_side=side)
    logits = tiny.logits_of(model, batch)
    for index, (prompt, texts) in enumerate(rows):
        alone = model.processor(prompt, [texts])
        single = tiny.logits_of(model, alone)[0]
        assert torch.allclose(logits[index, batch["attention_mask"][index].bool()], single, atol=2e-3)


@pytest.mark.parametrize("encoder", tiny.ENCODERS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.slow(but=["mean-xlm-roberta", "cls-bert", "max-t5"])
def test_pooled_features_do_not_depend_on_the_batch(make_model, base_folder, encoder, pooling):
    model = make_model(encoder=encoder, pooling=pooling)
    batched = model.get_pooled_features(tiny.SENTENCES, batch_size=4)
    single = torch.cat([model.get_pooled_features([text]) for text in tiny.SENTENCES])
    assert batched.shape == (len(tiny.SENTENCES), model.config.encoder_hidden_size)
    assert torch.allclose(batched, single, atol=1e-4)
    base = AutoModel.from_pretrained(base_folder("encoder", encoder)).eval()
    base = base.get_encoder() if base.config.is_encoder_decoder else base
    ids = tiny.encoder_tokenizer(encoder).encode(tiny.SENTENCES[0], return_tensors="pt")
    with torch.no_grad():
        states = base(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    wanted = {"mean": states.mean(dim=0), "cls": states[0], "max": states.amax(dim=0)}[pooling]
    assert torch.allclose(batched[0], wanted, atol=1e-4)


def test_an_inner_layer_of_the_encoder_can_be_pooled(make_model):
    last, inner = make_model(), make_model(encoder_layer=1)
    named = make_model(encoder_layer=2)
    assert torch.allclose(named.get_pooled_features(["cat"]), last.get_pooled_features(["cat"]), atol=1e-5)
    assert not torch.allclose(inner.get_pooled_features(["cat"]), last.get_pooled_features(["cat"]), atol=1e-2)


def test_ids_features_and_slots_are_one_path(model):
    texts = ["the cat", "a dog runs"]
    inputs = model.processor("Translate.", texts)
    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    by_ids = tiny.logits_of(model, inputs)
    features = model.get_foreign_features(texts).unsqueeze(1)
    slots = model.encode_foreign(texts).unsqueeze(1)
    assert torch.allclose(tiny.logits_of(model, {**prompt, "foreign_features": features}), by_ids, atol=1e-4)
    assert torch.allclose(tiny.logits_of(model, {**prompt, "foreign_slots": slots}), by_ids, atol=1e-4)
    with torch.no_grad():
        assert torch.allclose(model(**inputs)["foreign_slots"], slots, atol=1e-5)


def test_the_order_of_passages_matters(model):
    one, other = (tiny.logits_of(model, model.processor("x", [texts])) for texts in (["cat", "dogs"], ["dogs", "cat"]))
    assert (one - other).abs().max() > 0.05


def test_labels_give_the_decoders_own_loss(model):
    inputs = model.processor("Translate.", ["cat", "dog"])
    labels = _without_slots(model, inputs)
    labels[:, :5] = -100
    with torch.no_grad():
        output = model(**inputs, labels=labels)
    wanted = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert torch.allclose(output.loss, wanted)
    with torch.no_grad():
        whole = [model(**inputs, labels=ids).loss for ids in (inputs["input_ids"], _without_slots(model, inputs))]
    assert torch.equal(*whole), "no loss is taken on slot tokens"


def _without_slots(model, inputs):
    return inputs["input_ids"].masked_fill(inputs["input_ids"] >= model.config.reserved_token_start, -100)


def test_logits_to_keep(model):
    inputs = model.processor("Translate.", ["cat", "dog"])
    with torch.no_grad():
        last = model(**inputs, logits_to_keep=2).logits
    assert torch.allclose(last, tiny.logits_of(model, inputs)[:, -2:], atol=1e-5)


# ------------------------------------------------------------------ mismatches


def test_more_passages_than_placeholders_and_the_reverse(model):
    one = model.processor("x", ["cat"])
    two = model.processor("x", [["cat", "dog"]])
    foreign = ("foreign_input_ids", "foreign_attention_mask")
    with pytest.raises(SlotMismatchError, match="Row 0 holds 4 slot tokens"):
        model(**{**one, **{name: two[name] for name in foreign}})
    with pytest.raises(SlotMismatchError, match="Row 0 holds 8 slot tokens"):
        model(**{**two, **{name: one[name] for name in foreign}})
    with pytest.raises(SlotMismatchError, match="4 slot tokens, but no foreign"):
        model(input_ids=one["input_ids"])
    with pytest.raises(SlotMismatchError):
        model(**model.processor("x"), foreign_slots=model.encode_foreign("cat").unsqueeze(1))


def test_a_missing_mask_is_an_error_or_means_that_all_is_real(model):
    inputs = model.processor("x", ["cat"])
    wanted = tiny.logits_of(model, inputs)
    del inputs["foreign_attention_mask"]
    try:
        found = tiny.logits_of(model, inputs)
    except (ValueError, TypeError) as error:
        message = str(error)
    else:
        message = "foreign_attention_mask" if torch.allclose(found, wanted) else "wrong scores"
    assert "foreign_attention_mask" in message


def test_flat_foreign_ids_are_refused(model):
    inputs = model.processor("x", ["cat", "dog"])
    flat = {name: inputs[name].squeeze(1) for name in ("foreign_input_ids", "foreign_attention_mask")}
    with pytest.raises((SlotMismatchError, ValueError)):
        model(**{**inputs, **flat})


def test_the_teachers_placeholder_is_no_slot(model):
    ids = torch.tensor([[5, model.processor.foreign_token_id, 6]])
    with pytest.raises(SlotMismatchError):
        model(input_ids=ids)


def test_a_string_where_a_list_is_asked_is_not_taken_apart(model):
    for method in (model.get_pooled_features, model.get_foreign_features, model.get_teacher_states):
        try:
            found = method("cat")
        except (ValueError, TypeError):
            continue
        assert len(found) == 1, method.__name__


def test_several_passages_a_row_are_not_dropped_silently(model):
    with pytest.raises(ValueError, match="passage"):
        model.get_foreign_features([["cat", "dog"]])


def test_nothing_to_encode_is_a_clear_error(model):
    for method in (model.get_pooled_features, model.get_teacher_states, model.encode_foreign):
        with pytest.raises(ValueError, match=r"[Gg]ive"):
            method([])


def test_english_that_is_no_text_is_a_clear_error(model):
    for bad in (None, 3):
        with pytest.raises((ValueError, PromptError), match=r"[Gg]ive"):
            model.get_teacher_states(["fine", bad])


# ------------------------------------------------------------------ what is frozen


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_only_bridge_and_lora_train(shared_model, encoder, decoder):
    for name, parameter in shared_model(encoder, decoder).named_parameters():
        trained = name.startswith(("projector.", "slot_embedder.")) or "lora_" in name
        assert parameter.requires_grad == trained, name
        if trained:
            assert parameter.dtype == torch.float32, name


@pytest.mark.parametrize("decoder", tiny.DECODERS)
def test_building_changes_no_base_weight(make_model, base_folder, decoder):
    model = make_model(decoder=decoder)
    base = base_of(base_folder, decoder).state_dict()
    own = {k.replace(".base_layer.", "."): v for k, v in model.decoder.state_dict().items() if "lora_" not in k}
    assert own.keys() == base.keys()
    assert all(torch.equal(own[key], base[key]) for key in base)
    assert model.get_input_embeddings().weight.shape[0] == model.config.vocab_size
    assert model.config.reserved_token_start >= model.get_output_embeddings().weight.shape[0]


def test_modes(make_model):
    model = make_model()
    assert not model.training
    model.train()
    assert not any(module.training for module in model.encoder.modules())
    assert model.projector.training
    assert model.decoder.training
    model.projector.requires_grad_(False)
    model.train()
    assert not any(module.training for module in model.projector.modules())
    model.eval()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("decoder", tiny.DECODERS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_bridge_and_lora_and_no_base(make_model, decoder, checkpointing):
    model = make_model(decoder=decoder, lora_dropout=0.0, projector_dropout=0.0)
    if checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    inputs = model.processor("Translate.", ["the cat", "a dog runs"], padding_side="right")
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] >= model.config.reserved_token_start, -100)
    model(**inputs, labels=labels, use_cache=False).loss.backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            if "k_proj" not in name:  # the keys of a tiny softmax may be flat
                assert parameter.grad.abs().sum() > 0, name


def test_the_vocabulary_is_never_resized(model):
    with pytest.raises(LlinkCheckpointError, match="never resizes"):
        model.resize_token_embeddings(1000)


def test_the_fingerprint_follows_the_content(make_model, base_folder):
    model, again = make_model(), make_model(awake=False)
    for kind in ("encoder", "decoder"):
        before = base_fingerprint(model, kind)
        assert before == base_fingerprint(again, kind)
        parameter = next(p for n, p in getattr(again, kind).named_parameters() if "lora_" not in n and p.dim() == 1)
        parameter.data.view(-1)[1] += 0.5
        assert base_fingerprint(again, kind) != before
    assert base_fingerprint(model, "encoder") != base_fingerprint(model, "decoder")


def test_a_processor_that_does_not_fit_is_refused(model, make_model):
    other = make_model(num_slots=2)
    with pytest.raises(LlinkCheckpointError, match="K=2"):
        model.processor = other.processor


def test_a_model_from_modules_needs_a_processor(base_folder):
    from llink import LlinkConfig, LlinkForCausalLM

    encoder = AutoModel.from_pretrained(base_folder("encoder", "xlm-roberta"), add_pooling_layer=False)
    decoder = base_of(base_folder, "llama")
    config = LlinkConfig(encoder_config=encoder.config, decoder_config=decoder.config)
    model = LlinkForCausalLM(config, encoder, decoder)
    with pytest.raises(LlinkCheckpointError, match="without names"):
        model.generate(foreign_text="cat")
    model.processor = build_processor(
        model.config, tiny.decoder_tokenizer("llama"), tiny.encoder_tokenizer("xlm-roberta")
    )
    assert model.eval().generate(foreign_text="cat", max_new_tokens=2).shape[0] == 1
