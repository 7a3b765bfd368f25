"""The language of the foreign text: the tag that some encoders' tokenizers want, and the script it is written in."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from transformers import AutoTokenizer, MBart50Tokenizer, MBartTokenizer, NllbTokenizer

from llink.configuration_llink import LlinkConfigError
from llink.encoder_settings import language_code, script_of
from llink.hub_cards.card import build_card
from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.errors import BaseModelError

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz", *"ကခဂငစသမ"]
#: What each calls Burmese, and, of those that know it, Khmer.
CODES = {
    "nllb": {"my": "mya_Mymr", "km": "khm_Khmr"},
    "mbart": {"my": "my_MM"},
    "mbart50": {"my": "my_MM", "km": "km_KH"},
    "m2m_100": {"my": "my", "km": "km"},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A function that loads a tiny tokenizer of one of these classes, as it lies in a folder."""
    root = tmp_path_factory.mktemp("tokenizers")

    def load(name):
        folder = root / name
        if not folder.is_dir():
            folder.mkdir()
            if name == "m2m_100":
                save_m2m_100(folder)
            elif name == "nllb":
                NllbTokenizer(vocab={piece: i for i, piece in enumerate(PIECES)}, merges=[]).save_pretrained(folder)
            else:
                kind = {"mbart": MBartTokenizer, "mbart50": MBart50Tokenizer}[name]
                kind(vocab=[(piece, -1.0) for piece in PIECES]).save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)

    return load


def save_m2m_100(folder: Path) -> None:
    """Written in Python, on a sentencepiece model: of characters, trained on a sentence."""
    sentencepiece = pytest.importorskip("sentencepiece")
    from transformers import M2M100Tokenizer

    (folder / "text").write_text("\n".join(["abcdefghijklmnopqrstuvwxyz ကခဂငစသမ"] * 9))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "model"),
        model_type="char",
        vocab_size=len(PIECES) + 20,
        hard_vocab_limit=False,
        minloglevel=9,
    )
    (folder / "pieces.json").write_text(json.dumps({piece: i for i, piece in enumerate(PIECES)}))
    M2M100Tokenizer(str(folder / "pieces.json"), str(folder / "model.model")).save_pretrained(folder)


@pytest.fixture
def encoder(tmp_path, base_folder, tokenizer):
    """A function that makes a tiny encoder with such a tokenizer."""

    def make(name):
        folder = shutil.copytree(base_folder("encoder", "m2m100", vocab_size=600), tmp_path / name)
        for path in folder.glob("*token*"):
            path.unlink()
        tokenizer(name).save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize("name", CODES)
def test_languages_have_the_tokenizers_own_codes(tokenizer, name):
    loaded = tokenizer(name)
    for language, code in CODES[name].items():
        assert language_code(loaded, language) == language_code(loaded, code) == code
    with pytest.raises(LlinkConfigError, match="would tag all as 'en"):
        language_code(loaded, None)
    with pytest.raises(LlinkConfigError, match=rf"'tlh'.*{CODES[name]['my']}"):
        language_code(loaded, "tlh")


@pytest.mark.parametrize(("language", "code"), [("zh", "zho_Hans"), ("zh-Hant", "zho_Hant"), ("ceb", "ceb_Latn")])
def test_languages_of_several_scripts_and_of_three_letters(tokenizer, language, code):
    assert language_code(tokenizer("nllb"), language) == code


def test_an_ordinary_tokenizer_tags_nothing(base_folder):
    assert language_code(AutoTokenizer.from_pretrained(base_folder("encoder", "xlm-roberta")), "km") is None


def test_scripts_of_languages():
    found = {tag: script_of(tag) for tag in ("km", "ja", "sr", "sr-Latn", "my_MM", "tlh", None)}
    assert found == {"km": "Khmr", "ja": "Jpan", "sr": "Cyrl", "sr-Latn": "Latn", "my_MM": "Mymr"} | {
        "tlh": None,
        None: None,
    }


@pytest.mark.parametrize("name", CODES)
def test_each_text_is_tagged_with_the_models_language(encoder, base_folder, tmp_path, name):
    """From the bases, in training and after reloading, with llink and without; and the card says it."""
    given = encoder(name), base_folder("decoder", "llama")
    with pytest.raises(LlinkConfigError, match="--language km"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(*given).processor  # noqa: B018
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*given, source_language="my")
    tokens = model.processor.encoder_tokenizer
    english, wanted = tokens.convert_tokens_to_ids(_tag(tokens, "en")), tokens.convert_tokens_to_ids(_tag(tokens, "my"))
    assert english != wanted, "vacuous unless the tags are tokens"
    ids = model.processor.read_passages(["က"])[0][0].ids
    assert wanted in ids
    assert english not in ids
    model.save_pretrained(tmp_path / "light")
    again = LlinkForCausalLM.from_pretrained(tmp_path / "light")
    assert again.config.source_language == "my"
    assert again.processor.read_passages(["က"])[0][0].ids == ids
    assert "texts in my" in str(build_card(tmp_path / "light", "someone/bridge"))


def test_the_tag_travels_without_llink(encoder, base_folder, tmp_path):
    given = encoder("m2m_100"), base_folder("decoder", "llama")
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*given, source_language="my")
    model.save_pretrained(tmp_path / "light")
    code = (
        "import sys; sys.modules['llink'] = None; from transformers import AutoProcessor; "
        f"p = AutoProcessor.from_pretrained({str(tmp_path / 'light')!r}, trust_remote_code=True); "
        "print(p.read_passages(['က'])[0][0].ids)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == str(model.processor.read_passages(["က"])[0][0].ids)


def _tag(tokens, language):
    code = language_code(tokens, language)
    return f"__{code}__" if code == language else code


@pytest.mark.parametrize("name", CODES)
def test_text_in_another_script_is_warned_of_once(encoder, base_folder, name):
    language = max(CODES[name])  # `my`
    given = encoder(name), base_folder("decoder", "llama")
    processor = LlinkForCausalLM.from_encoder_decoder_pretrained(*given, source_language=language).processor
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor.read_passages(["ကျောင်းသားများ ABC", "2024-01-01"])
        with pytest.raises(UserWarning, match=r"'we eat rice'.*Mymr"):
            processor.read_passages(["ကျောင်း", "we eat rice"])
        processor.read_passages(["we eat rice"])


def test_a_tokenizer_that_needs_another_library_says_which(encoder, base_folder, monkeypatch):
    def needs(*_, **__):
        raise ImportError("M2M100Tokenizer requires the SentencePiece library but it was not found.")

    model = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder("nllb"), base_folder("decoder", "llama"))
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", needs)
    with pytest.raises(BaseModelError, match="SentencePiece library"):
        model.processor  # noqa: B018
