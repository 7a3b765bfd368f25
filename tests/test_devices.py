"""Everything that runs on a GPU keeps its tensors together there, shown on one that is none; and `--device_map`."""

import json
import warnings

import pytest
import torch
from baseline_runs import rows
from pretend_device import GPU, DeviceMismatchError, PretendDevice

from llink.cli import main
from llink.cli.loading import ModelLoading, accelerator
from llink.configuration_llink import SLOT_EXPANDERS
from llink.hub_cards.canary import take_canary
from llink.modeling_llink import LlinkForCausalLM
from llink.trainers.align_config import AlignConfig
from llink.trainers.finetune_config import FinetuneConfig
from llink.trainers.inject_config import InjectConfig
from llink.trainers.langbridge_config import LangBridgeConfig

QUICK = ["--report_to", "none", "--disable_tqdm", "True", "--max_steps", "2", "--per_device_train_batch_size", "8"]
EVALUATED = ["--eval_strategy", "steps", "--eval_steps", "1", "--save_steps", "1", "--learning_rate", "0.01"]


@pytest.fixture(scope="module")
def folder(make_model, tmp_path_factory):
    """Line-aligned pairs, instruction rows, and the models of both stages."""
    root = tmp_path_factory.mktemp("devices")
    data = rows(24)
    (root / "rows.jsonl").write_text(
        "".join(json.dumps(row | {"english": row["completion"]}) + "\n" for row in data), "utf-8"
    )
    for name, start in (("pairs", 0), ("dev", 100)):
        for language, column in (("en", "completion"), ("km", "prompt")):
            lines = [f"{row[column].split()[0]} {number}\n" for number, row in enumerate(data, start)]
            (root / f"{name}.{language}").write_text("".join(lines), "utf-8")
    make_model(stage="align", slot_residual=True).save_pretrained(root / "align")
    make_model().save_pretrained(root / "llink")
    return root


def run(*words) -> None:
    with PretendDevice():
        assert main([str(word) for word in words]) == 0


# ------------------------------------------------------------------ the pretence itself


def test_tensors_of_two_places_do_not_mix():
    with PretendDevice():
        here, there = torch.ones(3), torch.ones(2, 3).to("cuda")
        for made in (there + 1, there[0], there.bfloat16(), torch.zeros_like(there), torch.arange(2, device="cuda")):
            assert made.device == GPU
        assert there.cpu().device == (there.cpu() + here).device == torch.device("cpu")
        assert (there + torch.tensor(1.0)).device == there[torch.tensor([0])].device == GPU
        where = torch.tensor([0]).to("cuda")
        mixtures = [lambda: there + here, lambda: there @ here, lambda: torch.cat([there, here[None]])]
        for mix in (*mixtures, lambda: here[where], lambda: there.index_put((where,), here)):
            with pytest.raises(DeviceMismatchError):
                mix()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        layer = torch.nn.Linear(3, 2).to("cuda")
        layer(there).sum().backward()
        assert layer.weight.grad.device == GPU
        with pytest.raises(DeviceMismatchError):
            layer(here)
    assert there.device == torch.device("cpu")


# ------------------------------------------------------------------ models


@pytest.mark.parametrize("expander", SLOT_EXPANDERS)
@pytest.mark.slow(but=["queries", "lexicon"])
def test_features_and_answers(make_model, expander):
    model = make_model(slot_expander=expander, teacher_conditioning="whiten", teacher_components=8)
    texts = ["ab", "cde", "f", "gh ij"]
    with PretendDevice():
        model.to("cuda")
        assert model.get_foreign_features(texts).shape == model.get_teacher_states(texts).shape
        options = dict(prompt="Translate.", max_new_tokens=3)
        assert model.generate(foreign_text=texts, **options).device == GPU
        assert model.generate(foreign_text=texts[0], num_beams=2, **options).device == GPU
        assert model.generate(foreign_text=texts, do_sample=True, **options).device == GPU


@pytest.mark.slow
def test_an_encoder_on_a_device_of_its_own(make_model):
    for expander in SLOT_EXPANDERS:
        model = make_model(slot_expander=expander)
        wanted = model.generate(foreign_text=["ab", "cde"], prompt="Translate.", max_new_tokens=4)
        with PretendDevice():
            model.to("cuda").encoder.to("cpu")
            assert model.device == GPU
            assert model.encode_foreign(["ab"])[0].device == GPU
            answers = model.generate(foreign_text=["ab", "cde"], prompt="Translate.", max_new_tokens=4)
            assert torch.equal(answers.cpu(), wanted)
            assert take_canary(model).tensors["slots"].device == torch.device("cpu")


# ------------------------------------------------------------------ commands


@pytest.mark.parametrize("preset", ["paper", "recommended"])
@pytest.mark.slow(but=["recommended"])
def test_stage_a(folder, base_folder, tmp_path, preset):
    pairs, held_out = ([folder / f"{name}.en", folder / f"{name}.km"] for name in ("pairs", "dev"))
    bases = ["--encoder", base_folder("encoder", "xlm-roberta"), "--decoder", base_folder("decoder", "llama")]
    own = ["align", "--preset", preset, *bases, "--pairs", *pairs, "--eval-pairs", *held_out, *QUICK, *EVALUATED]
    run(*own, "--output-dir", tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*without a canary.*")  # the features are in the cache now
        run(*own, "--max_steps", 3, "--resume_from_checkpoint", "last", "--output-dir", tmp_path)


@pytest.mark.slow
def test_the_words_of_slots(folder, tmp_path):
    pairs, held_out = ([folder / f"{name}.en", folder / f"{name}.km"] for name in ("pairs", "dev"))
    own = ["lexicon", "--model", folder / "align", "--pairs", *pairs, "--eval-pairs", *held_out, *QUICK, *EVALUATED]
    run(*own, "--output-dir", tmp_path / "words")
    run(*own, "--max_steps", 3, "--resume_from_checkpoint", "last", "--output-dir", tmp_path / "words")
    rows = ["--instructions", folder / "rows.jsonl", *QUICK, "--cosine_weight", 0.1]
    run("inject", "--model", tmp_path / "words", *rows, "--output-dir", tmp_path / "b")


@pytest.mark.parametrize("stage", ["align", "lexicon", "inject"])
@pytest.mark.slow
def test_what_was_trained_in_half_precision_is_what_is_saved(folder, base_folder, tmp_path, stage):
    """accelerate's autocast is none of the model, and the canary is taken without it."""
    own = ["--model", folder / "align"]
    if stage == "align":
        own = ["--encoder", base_folder("encoder", "xlm-roberta"), "--decoder", base_folder("decoder", "llama")]
    pairs = ["--pairs", folder / "pairs.en", folder / "pairs.km"]
    own += ["--instructions", folder / "rows.jsonl"] if stage == "inject" else pairs
    out = tmp_path / "out"
    quick = [*QUICK, "--save_strategy", "no", "--bf16", "True", "--use_cpu", "--learning_rate", "0.1"]
    assert main([str(word) for word in (stage, *own, *quick, "--output-dir", out)]) == 0
    assert main(["verify", str(out)]) == 0


@pytest.mark.parametrize("command", ["inject", "finetune", "langbridge"])
@pytest.mark.slow
def test_stage_b_and_the_baselines(folder, tmp_path, command):
    own = [command, "--model", folder / "align", "--instructions", folder / "rows.jsonl", *QUICK, *EVALUATED]
    own += ["--eval-instructions", folder / "rows.jsonl", "--gradient_accumulation_steps", 2]
    run(*own, "--output-dir", tmp_path / "run")
    run(*own, "--max_steps", 3, "--resume_from_checkpoint", "last", "--output-dir", tmp_path / "run")
    if command != "inject":
        out = ["--output-dir", tmp_path / "out", "--max-new-tokens", 3]
        baseline = ["--model", folder / "llink", "--baselines", tmp_path / "run"]
        run("eval", "outputs", *baseline, "--instructions", folder / "rows.jsonl", *out)


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "retrieval", "--pairs", "pairs.en", "pairs.km"],
        ["eval", "usage", "--instructions", "rows.jsonl", "--per-slot"],
        ["eval", "representations", "--pairs", "pairs.en", "pairs.km"],
        ["eval", "translation", "--pairs", "pairs.en", "pairs.km", "--limit", "4", "--max-new-tokens", "3"],
        ["eval", "numeric", "--limit", "4", "--max-new-tokens", "3"],
        ["eval", "tokens", "--texts", "en=pairs.en", "km=pairs.km"],
        ["generate", "--foreign-text", "abc", "--max-new-tokens", "3"],
    ],
)
@pytest.mark.slow(but=["words0"])
def test_evaluations_use_the_gpu(folder, monkeypatch, words):
    monkeypatch.chdir(folder)
    places = []
    monkeypatch.setattr(LlinkForCausalLM, "generate", seen(LlinkForCausalLM.generate, places))
    monkeypatch.setattr(LlinkForCausalLM, "passage_states", seen(LlinkForCausalLM.passage_states, places))
    run(*words, "--model", folder / "llink")
    if words[1] != "tokens":
        assert places, "vacuous"
        assert set(places) == {GPU}
    places.clear()
    run(*words, "--model", folder / "llink", "--device_map", "cpu")
    assert set(places) == ({torch.device("cpu")} if words[1] != "tokens" else set())


def seen(method, places):
    def wrapped(self, *args, **kwargs):
        places.append(self.device)
        return method(self, *args, **kwargs)

    return wrapped


def test_encoders_are_ranked_on_the_gpu(folder, base_folder):
    encoder, decoder = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    pairs = ["--pairs", folder / "pairs.en", folder / "pairs.km", "--folds", 2]
    run("encoders", "--encoders", encoder, "--decoder", decoder, *pairs)


def test_a_process_trains_on_one_gpu(tmp_path, monkeypatch, caplog):
    for config in (AlignConfig, InjectConfig, FinetuneConfig, LangBridgeConfig):
        args = config(output_dir=str(tmp_path), report_to=[])
        monkeypatch.setattr(args, "_n_gpu", 4)
        assert args.n_gpu == 1
        assert args.train_batch_size == args.per_device_train_batch_size
    assert "torchrun" in caplog.text


def test_the_accelerator_is_the_default(monkeypatch):
    assert (accelerator() is None) == (not torch.accelerator.is_available())
    for name, value in (("is_available", True), ("current_accelerator", torch.device("xpu"))):
        monkeypatch.setattr(torch.accelerator, name, lambda value=value: value)
    assert accelerator() == ModelLoading().loading()["device_map"] == "xpu"
    assert ModelLoading(device_map="cpu").loading()["device_map"] == "cpu"


def test_a_device_that_is_not_there_is_told_first(capsys):
    assert main(["eval", "usage", "--model", "none", "--instructions", "none", "--device_map", "cuda:99"]) == 2
    assert "--device_map 'cuda:99': this machine has cpu" in capsys.readouterr().err
