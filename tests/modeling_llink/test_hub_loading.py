"""Loading from a Hub: pinned, cached, offline, gated, quantised; and what is refused before anything is loaded."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import tiny
import torch
from hub_server import DECODER, ENCODER, build, reload_here, tiny_hub
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM
from transformers.quantizers import HfQuantizer
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from llink import LlinkForCausalLM
from llink.configuration_llink import LlinkConfigError
from llink.hub_cards import publishing
from llink.hub_cards.publishing import push_to_hub
from llink.hub_cards.verify import check_canary, save_canary
from llink.modeling_llink.errors import BaseModelError, LlinkCheckpointError
from llink.modeling_llink.lora import lora_modules

REPO = "someone/Llama-khmer"
INPUTS = (["Translate.", "A longer prompt."], ["the cat", "a dog"])
KINDS = pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])


@pytest.fixture
def hub(tmp_path, monkeypatch, base_folder):
    monkeypatch.setattr(publishing, "reload", reload_here)
    with tiny_hub(monkeypatch, tmp_path / "hf", base_folder) as server:
        yield server


def scores(model) -> torch.Tensor:
    return tiny.logits_of(model, model.processor(*INPUTS))


def empty_cache(monkeypatch, folder: Path) -> None:
    """What a machine has that never loaded anything."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))


def edit(folder: Path, **fields) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")


# ------------------------------------------------------------------ from everywhere


@KINDS
@pytest.mark.parametrize("auto", [LlinkForCausalLM, AutoModelForCausalLM], ids=["class", "auto"])
@pytest.mark.slow(but=["class-light"])
def test_by_name_by_revision_and_from_the_cache(hub, monkeypatch, tmp_path, auto, self_contained):
    model = build()
    wanted = scores(model)
    first = push_to_hub(model, REPO, self_contained=self_contained).oid
    push_to_hub(build(lora_rank=3), REPO, self_contained=self_contained)
    empty_cache(monkeypatch, tmp_path / "fresh")
    assert torch.equal(scores(auto.from_pretrained(REPO, revision=first)), wanted)
    assert auto.from_pretrained(REPO).config.lora_rank == 3
    # Everything is cached now: a pinned commit asks nothing, and neither does offline mode.
    hub.requests.clear()
    assert torch.equal(scores(LlinkForCausalLM.from_pretrained(REPO, revision=first)), wanted)
    assert hub.requests == []
    again = LlinkForCausalLM.from_pretrained(REPO, local_files_only=True)
    assert scores(again).shape == wanted.shape
    assert again.config.lora_rank == 3
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(scores(auto.from_pretrained(REPO, revision=first)), wanted)
    assert auto.from_pretrained(REPO).generate(foreign_text="the cat", max_new_tokens=2).shape[0] == 1
    assert hub.requests == []


@KINDS
@pytest.mark.slow(but=["light"])
def test_subfolders_of_a_repository(hub, monkeypatch, tmp_path, self_contained):
    model = build()
    model.save_pretrained(tmp_path / "repo" / "runs" / "best", self_contained=self_contained)
    save_canary(model, tmp_path / "repo" / "runs" / "best")
    hub.add("someone/many", tmp_path / "repo")
    again = LlinkForCausalLM.from_pretrained("someone/many", subfolder="runs/best")
    assert torch.equal(scores(again), scores(model))
    assert all(finding.equal for finding in check_canary(again))
    hub.requests.clear()
    pinned = LlinkForCausalLM.from_pretrained(
        "someone/many", subfolder="runs/best", revision=hub.repos["someone/many"].heads["main"]
    )
    assert torch.equal(scores(pinned), scores(model))
    assert hub.requests == []


def test_everything_comes_from_one_commit(hub, monkeypatch, tmp_path):
    """The repository changes while it is loaded: the processor that is built later is still the old one."""
    push_to_hub(build(), REPO)
    empty_cache(monkeypatch, tmp_path / "fresh")
    model = LlinkForCausalLM.from_pretrained(REPO)
    files = dict(hub.files(REPO))
    config = json.loads(files["processor_config.json"]) | {"num_slots": 7}
    hub.repos[REPO].commit(files | {"processor_config.json": json.dumps(config).encode()})
    assert model.processor.num_slots == 4


@pytest.mark.slow
def test_a_cache_of_ones_own(hub, monkeypatch, tmp_path):
    push_to_hub(build(), REPO)
    empty_cache(monkeypatch, tmp_path / "default")
    mine = tmp_path / "mine"
    model = LlinkForCausalLM.from_pretrained(REPO, cache_dir=str(mine))
    model.generate(foreign_text="the cat", max_new_tokens=1)
    built = LlinkForCausalLM.from_encoder_decoder_pretrained(ENCODER, DECODER, cache_dir=str(mine))
    assert built.processor.num_slots == 8
    assert not list((tmp_path / "default").rglob("snapshots"))
    names = {f"models--{name.replace('/', '--')}" for name in (REPO, ENCODER, DECODER)}
    assert {path.name for path in mine.glob("models--*")} == names


# ------------------------------------------------------------------ access


@pytest.mark.parametrize("which", ["encoder", "decoder"])
@pytest.mark.slow(but=["encoder"])
def test_a_gated_base(hub, monkeypatch, tmp_path, which):
    push_to_hub(build(), REPO)
    name = {"encoder": ENCODER, "decoder": DECODER}[which]
    hub.repos[name].gated = True
    hub.tokens["hf_guest"] = "guest"
    for token in (False, "hf_guest"):
        empty_cache(monkeypatch, tmp_path / f"fresh-{token}")
        with pytest.raises(
            BaseModelError, match=rf"{which} '{name}'.*is gated.*{hub.url}/{name}.*hf auth login.*token"
        ):
            LlinkForCausalLM.from_pretrained(REPO, token=token)
        with pytest.raises(BaseModelError, match=f"{which} .*is gated"):
            LlinkForCausalLM.from_encoder_decoder_pretrained(ENCODER, DECODER, token=token)
    with_access = LlinkForCausalLM.from_pretrained(REPO, token="hf_of_the_owner")
    assert with_access.generate(foreign_text="the cat", max_new_tokens=1).shape[0] == 1


def test_the_token_reaches_both_bases_and_their_tokenizers(hub, monkeypatch, tmp_path):
    push_to_hub(build(), REPO, private=True)
    for name in (ENCODER, DECODER):
        hub.repos[name].private = True
    monkeypatch.delenv("HF_TOKEN")
    empty_cache(monkeypatch, tmp_path / "fresh")
    model = LlinkForCausalLM.from_pretrained(REPO, token="hf_of_the_owner")
    assert model.generate(foreign_text="the cat", max_new_tokens=1).shape[0] == 1
    empty_cache(monkeypatch, tmp_path / "fresh2")
    built = LlinkForCausalLM.from_encoder_decoder_pretrained(ENCODER, DECODER, token="hf_of_the_owner")
    assert built.processor.num_slots == 8
    with pytest.raises(LlinkCheckpointError, match=REPO):
        LlinkForCausalLM.from_pretrained(REPO, cache_dir=str(tmp_path / "fresh3"))
    with pytest.raises(BaseModelError, match="no such repository, or it is private"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(ENCODER, DECODER, cache_dir=str(tmp_path / "fresh3"))


def test_missing_bases_and_revisions(hub, monkeypatch, tmp_path):
    push_to_hub(build(), REPO)
    decoder = hub.repos.pop(DECODER)
    empty_cache(monkeypatch, tmp_path / "fresh")
    with pytest.raises(BaseModelError, match=rf"decoder '{DECODER}'.*no such repository.*decoder_name_or_path"):
        LlinkForCausalLM.from_pretrained(REPO)
    hub.repos[DECODER] = decoder
    decoder.commits.clear()
    decoder.commit({"config.json": b"{}"})  # rewritten history
    with pytest.raises(BaseModelError, match="has no revision"):
        LlinkForCausalLM.from_pretrained(REPO)
    with pytest.raises(BaseModelError, match=r"has no revision 'v9'"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(ENCODER, DECODER, encoder_revision="v9")


def test_offline_without_a_cache(hub, monkeypatch, tmp_path):
    push_to_hub(build(), REPO)
    LlinkForCausalLM.from_pretrained(REPO, cache_dir=str(tmp_path / "light-only"))
    shutil.rmtree(tmp_path / "light-only" / f"models--{DECODER.replace('/', '--')}")
    with pytest.raises(BaseModelError, match=r"decoder.*not in the cache.*local folder or cache_dir"):
        LlinkForCausalLM.from_pretrained(REPO, cache_dir=str(tmp_path / "light-only"), local_files_only=True)


def test_a_processor_that_is_not_there(hub, tmp_path):
    build().save_pretrained(tmp_path / "out")
    (tmp_path / "out" / "encoder_tokenizer" / "tokenizer.json").unlink()
    model = LlinkForCausalLM.from_pretrained(tmp_path / "out")
    with pytest.raises(LlinkCheckpointError, match=r"processor of .*out cannot be loaded"):
        model.generate(foreign_text="the cat")


# ------------------------------------------------------------------ pins


def changed(hub, name: str) -> str:
    """A later commit of a repository, with the same weights."""
    return hub.repos[name].commit(hub.files(name) | {"README.md": b"new"}, message="later")


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("auto", [LlinkForCausalLM, AutoModelForCausalLM], ids=["class", "auto"])
@pytest.mark.slow(but=["class-decoder"])
@pytest.mark.matrix
def test_a_base_of_another_commit_raises_unless_allowed(hub, kind, auto):
    model = build()
    push_to_hub(model, REPO)
    name = {"encoder": ENCODER, "decoder": DECODER}[kind]
    pinned, later = hub.repos[name].heads["main"], changed(hub, name)
    assert getattr(LlinkForCausalLM.from_pretrained(REPO).config, f"{kind}_revision") == pinned, "main has moved"
    with pytest.raises(BaseModelError, match=rf"loaded at {later}.*trained on {pinned}.*allow_other_bases=True"):
        auto.from_pretrained(REPO, **{f"{kind}_revision": "main"})
    allowed = auto.from_pretrained(REPO, **{f"{kind}_revision": "main"}, allow_other_bases=True)
    assert getattr(allowed.config, f"{kind}_revision") == later
    assert torch.equal(scores(allowed), scores(model))


def test_a_mirror_must_hold_the_same_weights(hub, tmp_path):
    model = build()
    model.save_pretrained(tmp_path / "out")
    same = hub.download(DECODER, tmp_path / "same")
    other = Path(tiny.save_decoder("llama", tmp_path / "other", seed=5))
    again = LlinkForCausalLM.from_pretrained(tmp_path / "out", decoder_name_or_path=str(same))
    assert torch.equal(scores(again), scores(model))
    with pytest.raises(BaseModelError, match=r"decoder .*other' is not the one.*tensors differ.*allow_other_bases"):
        LlinkForCausalLM.from_pretrained(tmp_path / "out", decoder_name_or_path=str(other))
    allowed = LlinkForCausalLM.from_pretrained(
        tmp_path / "out", decoder_name_or_path=str(other), allow_other_bases=True
    )
    assert not torch.equal(scores(allowed), scores(model))
    hub.add("someone/mirror", same)
    with pytest.raises(BaseModelError, match="was loaded at"):
        LlinkForCausalLM.from_pretrained(tmp_path / "out", decoder_name_or_path="someone/mirror")
    LlinkForCausalLM.from_pretrained(tmp_path / "out", decoder_name_or_path="someone/mirror", allow_other_bases=True)


# ------------------------------------------------------------------ what both bases are loaded with


@KINDS
@pytest.mark.slow
def test_dtype_device_map_and_attention(hub, monkeypatch, self_contained):
    model = build()
    push_to_hub(model, REPO, self_contained=self_contained)
    seen = []
    for auto in (AutoModel, AutoModelForCausalLM):
        load = auto.from_pretrained
        spy = lambda *a, load=load, **k: seen.append(k.get("device_map")) or load(*a, **k)  # noqa: E731
        monkeypatch.setattr(auto, "from_pretrained", spy)
    options = dict(dtype=torch.bfloat16, device_map="auto", attn_implementation="eager")
    again = LlinkForCausalLM.from_pretrained(REPO, **options)
    assert seen == ["auto", "auto"]
    for base in (again.encoder, again.decoder):
        assert base.dtype == torch.bfloat16
        assert base.config._attn_implementation == "eager"
    trained = [p for n, p in again.named_parameters() if "lora_" in n or n.startswith(("projector.", "slot_embedder."))]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    assert again.generate(foreign_text="the cat", max_new_tokens=2).shape[0] == 1


@register_quantization_config("coarse")
class CoarseConfig(QuantizationConfigMixin):
    """Weights on a grid of 15 steps a tensor: as lossy as 4 bits, in torch alone."""

    def __init__(self, **kwargs):
        self.quant_method = "coarse"


@register_quantizer("coarse")
class CoarseQuantizer(HfQuantizer):
    """transformers' own path of quantisation; bitsandbytes needs no other."""

    def _process_model_after_weight_loading(self, model, **kwargs):
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                step = module.weight.detach().abs().max() / 7
                module.weight.data = (module.weight.data / step).round() * step
        return model

    def _process_model_before_weight_loading(self, model, **kwargs):
        return model

    def is_serializable(self):
        return False

    @property
    def is_trainable(self):
        return True


def levels(weight: torch.Tensor) -> int:
    return len(weight.detach().unique())


@KINDS
@pytest.mark.slow
def test_quantisation_reaches_both_bases_and_nothing_else(hub, self_contained):
    model = build()
    push_to_hub(model, REPO, self_contained=self_contained)
    again = LlinkForCausalLM.from_pretrained(REPO, quantization_config=CoarseConfig())
    for base in (again.encoder, again.decoder):
        linear = [m for n, m in base.named_modules() if isinstance(m, torch.nn.Linear) and "lora_" not in n]
        assert len(linear) > 8, "vacuous unless there are some"
        assert max(levels(module.weight) for module in linear if module is not base.get_output_embeddings()) <= 15
    one, two = model.state_dict(), again.state_dict()
    bridge = [name for name in one if not name.startswith(("encoder.", "decoder.")) or "lora_" in name]
    assert len(bridge) > 30
    assert all(torch.equal(one[name], two[name]) for name in bridge)
    error = (scores(again) - scores(model)).norm() / scores(model).norm()
    assert 0 < error < 1.5
    findings = {finding.what: finding for finding in check_canary(again)}
    assert "quantised" in findings["decoder weights"].detail
    assert findings["LoRA weights"].equal
    assert all(finding.equal or finding.harmless for finding in findings.values())
    with pytest.raises(LlinkCheckpointError, match="quantised decoder"):
        again.merge_and_unload()


# ------------------------------------------------------------------ refused before anything is loaded


@pytest.fixture
def published(hub, tmp_path):
    """A function (kind, **fields) → a repository of that kind whose config.json has these fields."""

    def publish(self_contained, **fields):
        build().save_pretrained(tmp_path / "evil", self_contained=self_contained)
        edit(tmp_path / "evil", **fields)
        hub.add("someone/evil", tmp_path / "evil")
        return "someone/evil"

    return publish


def refuse_loading(monkeypatch) -> None:
    def fail(*_, **__):
        raise AssertionError("a base was loaded")

    monkeypatch.setattr("llink.modeling_llink.persistence.load_base", fail)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("name", ["/etc", "../../etc", "https://example.org/model", "file:///etc", "a//b", "~/x", ".."])
@pytest.mark.slow(but=["../../etc-decoder", "file:///etc-encoder"])
def test_a_repository_that_names_no_repository_as_its_base(published, monkeypatch, kind, name):
    repo = published(False, **{f"{kind}_name_or_path": name})
    if kind == "encoder":  # the first of the two
        refuse_loading(monkeypatch)
    with pytest.raises(LlinkCheckpointError, match=rf"someone/evil names .* as its {kind}, which is no repository"):
        LlinkForCausalLM.from_pretrained(repo)


def test_a_folder_of_ones_own_is_not_taken_for_a_repository(published, monkeypatch, tmp_path):
    repo = published(False)
    (tmp_path / "work" / DECODER).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(LlinkCheckpointError, match="working directory holds a folder of that name"):
        LlinkForCausalLM.from_pretrained(repo)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(surprise=1), "unknown fields: surprise"),
        (dict(num_slots=10**9), "num_slots"),
        (dict(projector_hidden_size=-1), "projector_hidden_size"),
    ],
    ids=str,
)
def test_configurations_that_no_model_can_have(published, monkeypatch, fields, message):
    repo = published(True, **fields)
    refuse_loading(monkeypatch)
    for auto in (LlinkForCausalLM, AutoModelForCausalLM):
        with pytest.raises((LlinkCheckpointError, LlinkConfigError), match=message):
            auto.from_pretrained(repo)


@pytest.mark.parametrize("value", [10**9, -3, 0, "many"])
@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_bases_of_impossible_sizes(hub, tmp_path, monkeypatch, base_folder, field, value):
    folder = Path(shutil.copytree(base_folder("decoder", "llama"), tmp_path / "huge"))
    edit(folder, **{field: value})
    refuse_loading(monkeypatch)
    with pytest.raises(BaseModelError, match=rf"{field}|cannot be read"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(ENCODER, folder)


def test_weights_in_a_pickle_are_not_read(hub, tmp_path, base_folder):
    folder = Path(shutil.copytree(base_folder("decoder", "llama"), tmp_path / "old"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match=r"Only safetensors weights are read: convert"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(ENCODER, folder)
    hub.add("someone/old", folder)
    with pytest.raises(BaseModelError, match=r"Only safetensors weights are read: convert"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(ENCODER, "someone/old")


# ------------------------------------------------------------------ merging LoRA


@pytest.mark.parametrize("decoder", tiny.DECODERS)
@pytest.mark.slow(but=["llama"])
def test_merging_keeps_what_the_model_does(make_model, tmp_path, decoder):
    model = make_model(decoder=decoder)
    wanted, before = scores(model), model.get_input_embeddings().weight.clone()
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    with torch.no_grad():
        off = model(**model.processor(*INPUTS), reads_slots=torch.tensor([False])).logits
    assert (off - wanted).abs().max() > 0.1, "vacuous unless LoRA does something"
    model.merge_and_unload()
    assert not list(lora_modules(model.decoder))
    assert torch.allclose(scores(model), wanted, atol=1e-4)
    assert torch.equal(model.get_input_embeddings().weight, before), "an embedding that is tied is not merged into"
    model.save_pretrained(tmp_path)
    save_canary(model, tmp_path)
    again = LlinkForCausalLM.from_pretrained(tmp_path)
    assert again.config.lora_merged
    assert torch.equal(scores(again), scores(model))
    assert (again.get_input_embeddings().weight is again.get_output_embeddings().weight) == tied
    assert all(finding.equal for finding in check_canary(again))
    answers = [m.generate(foreign_text="the cat", max_new_tokens=5, do_sample=False).tolist() for m in (model, again)]
    assert answers[0] == answers[1]


def test_merging_is_done_once_and_needs_the_decoders_weights(make_model, tmp_path):
    model = make_model()
    model.merge_and_unload()
    with pytest.raises(LlinkCheckpointError, match="merged already"):
        model.merge_and_unload()
    with pytest.raises(LlinkCheckpointError, match="self_contained=True"):
        model.save_pretrained(tmp_path, self_contained=False)
