"""The exported decoder: a plain folder that reads slots as the model does."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llink.cli import main
from llink.configuration_llink import LlinkConfigError
from llink.modeling_llink.errors import LlinkCheckpointError
from llink.modeling_llink.prompts import PLAIN_CHAT_TEMPLATE
from llink.serving.engine import ChatRequest, Limits
from llink.serving.export import export_decoder
from llink.serving.reading import Reader

CONTENT = [
    {"type": "text", "text": "Translate to English."},
    {"type": "foreign_text", "text": "ក្មេងទៅសាលា 12"},
    {"type": "text", "text": "and"},
    {"type": "foreign_text", "text": "a dog runs"},
]
MESSAGES = [{"role": "user", "content": CONTENT}]


@pytest.mark.parametrize("decoder", ["llama", "llama-untied", "gpt2", "qwen2", "gemma2", "gemma3"])
def test_embeddings_of_a_prompt_give_the_models_logits(make_model, tmp_path, decoder):
    model = make_model(decoder=decoder, slot_expander="tokens", literals=["number"]).eval()
    prompt = Reader(model, Limits()).chat(ChatRequest(MESSAGES))
    embeddings = Reader(model, Limits()).embeddings(prompt)
    options = dict(add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
    with torch.no_grad():
        wanted = model(**model.processor.apply_chat_template(MESSAGES, **options)).logits
        base = model.decoder(inputs_embeds=embeddings[None]).logits
    export_decoder(model, tmp_path / "decoder")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "decoder")
    assert type(plain) is type(model.decoder)
    with torch.no_grad():
        found = plain(inputs_embeds=embeddings[None]).logits
    spread = wanted.std()
    assert (base - wanted).abs().max() < 1e-4 * spread, "LoRA acts where embeddings are given"
    assert (found - wanted).abs().max() < 1e-4 * spread


def test_lora_is_in_the_exported_weights(make_model, tmp_path):
    model = make_model().eval()
    with torch.no_grad():
        ids = torch.arange(40, 50)[None]
        base = model(input_ids=ids).logits  # no slots: LoRA is off
    export_decoder(model, tmp_path / "decoder")
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "decoder")(input_ids=ids).logits
    assert (merged - base).abs().max() > 0.1 * base.std(), "vacuous unless LoRA does something"


@pytest.mark.parametrize("decoder", ["llama", "gpt2"])
def test_tokenizer_and_template_come_along(make_model, tmp_path, decoder):
    model = make_model(decoder=decoder)
    model.save_pretrained(tmp_path / "model", self_contained=True)
    model = type(model).from_pretrained(tmp_path / "model")  # whose template refuses foreign parts
    export_decoder(model, tmp_path / "decoder")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "decoder")
    assert "foreign_text" not in tokenizer.chat_template
    assert (tokenizer.chat_template == PLAIN_CHAT_TEMPLATE) == (decoder == "gpt2")
    plain = [{"role": "user", "content": "the cat"}]
    ids = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
    assert ids == model.processor.render(plain)[0]
    settings = AutoModelForCausalLM.from_pretrained(tmp_path / "decoder").generation_config
    assert settings.eos_token_id == tokenizer.eos_token_id


def test_it_is_whole_or_absent(make_model, tmp_path, monkeypatch):
    model, folder = make_model(), tmp_path / "decoder"

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("llink.serving.export.save_base", full)
        with pytest.raises(OSError, match="No space"):
            export_decoder(model, folder)
    assert not list(tmp_path.iterdir())
    folder.mkdir()
    export_decoder(model, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["decoder"]
    with pytest.raises(LlinkConfigError, match="is there already"):
        export_decoder(model, folder)


def test_what_is_not_trained_is_refused(make_model, tmp_path):
    with pytest.raises(LlinkCheckpointError, match="stage is 'align'"):
        export_decoder(make_model(stage="align"), tmp_path / "decoder")
    assert not (tmp_path / "decoder").exists()


def test_a_decoder_that_reads_embeddings_otherwise_is_refused(make_model, tmp_path, monkeypatch):
    model = make_model()
    forward = model.decoder.forward

    def scaling(input_ids=None, inputs_embeds=None, **options):
        embeds = 3 * model.decoder.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        return forward(inputs_embeds=embeds, **options)

    def knowing(input_ids=None, inputs_embeds=None, **options):
        if inputs_embeds is not None:
            raise RuntimeError("whose are these?")
        return forward(input_ids=input_ids, **options)

    for own, told in ((scaling, "reads embeddings otherwise"), (knowing, r"not take embeddings .*whose are these\?")):
        monkeypatch.setattr(model.decoder, "forward", own)
        with pytest.raises(LlinkCheckpointError, match=told):
            export_decoder(model, tmp_path / "decoder")
    assert not model.config.lora_merged
    assert not list(tmp_path.iterdir())


def test_the_command_says_how_to_go_on(make_model, tmp_path, capsys):
    make_model().save_pretrained(tmp_path / "model", self_contained=True)
    words = ["export", str(tmp_path / "model"), "--for", "vllm", "--output-dir"]
    assert main([*words, str(tmp_path / "decoder")]) == 0
    assert "--enable-prompt-embeds" in capsys.readouterr().out
    assert main([*words, str(tmp_path / "decoder")]) == 2
    assert "--output_dir" in (told := capsys.readouterr().err) or "--output-dir" in told
    assert main(["export", str(tmp_path / "model"), "--for", "ollama", "--output-dir", str(tmp_path / "other")]) == 2
    assert "--for ollama is not one of vllm" in capsys.readouterr().err
