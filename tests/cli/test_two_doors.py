"""The command line and Python are two doors to the same model: equal data, seed and steps give equal weights."""

import json

import pytest
import torch
from safetensors.torch import load_file

from llink import (
    AlignConfig,
    AlignTrainer,
    InjectConfig,
    InjectTrainer,
    LexiconConfig,
    LexiconTrainer,
    LlinkForCausalLM,
    preset,
    read_instructions,
    read_pairs,
)
from llink.building import renew_slots
from llink.cli import main

MODEL = dict(num_slots=3, teacher_components=8, projector_dropout=0.1)
QUICK = dict(max_steps=3, per_device_train_batch_size=4, report_to="none", use_cpu=True, disable_tqdm=True, seed=5)
QUICK |= dict(save_strategy="no", logging_steps=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Pairs, two of which are held out too, and instruction rows."""
    folder = tmp_path_factory.mktemp("doors")
    words = ["cat", "dog", "mat", "rice", "noon", "book", "school", "house"]
    letters = "កខគឃងចឆជ"
    english = [f"the {words[k % 8]} {words[k // 8]}" for k in range(40)]
    foreign = [letters[k % 8] + letters[k // 8] for k in range(40)]
    for name, rows in (("train", range(28)), ("dev", range(26, 40))):
        (folder / f"{name}.en").write_text("".join(f"{english[k]}\n" for k in rows), "utf-8")
        (folder / f"{name}.km").write_text("".join(f"{foreign[k]}\n" for k in rows), "utf-8")
    rows = [
        dict(id=str(k), foreign=[foreign[k]], prompt="Translate <foreign_emb>", completion=words[k % 8], english=e)
        for k, e in enumerate(english[:16])
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def flags(options) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def pairs_of(folder) -> dict:
    return {
        "train_dataset": read_pairs(folder / "train.en", folder / "train.km"),
        "eval_dataset": read_pairs(folder / "dev.en", folder / "dev.km"),
    }


@pytest.fixture(scope="module")
def doors(files, base_folder, tmp_path_factory):
    """For each stage, the folder that its command wrote and the one that Python wrote."""
    folder = tmp_path_factory.mktemp("out")
    bases = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    pairs = ["--pairs", f"{files}/train.en", f"{files}/train.km", "--eval_pairs", f"{files}/dev.en", f"{files}/dev.km"]
    made = {stage: (folder / f"{stage}-cli", folder / f"{stage}-python") for stage in ("align", "lexicon", "inject")}

    def command(stage, *words, **options):
        given = [stage, *words, *flags({**QUICK, **options}), "--output_dir", str(made[stage][0])]
        assert main(given) == 0

    command("align", "--encoder", str(bases[0]), "--decoder", str(bases[1]), *pairs, **MODEL)
    command("lexicon", "--model", str(made["align"][0]), *pairs)
    inject = {"gradient_accumulation_steps": 1}
    command("inject", "--model", str(made["lexicon"][0]), "--instructions", f"{files}/rows.jsonl", **inject)

    torch.manual_seed(999)  # whatever was drawn before
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases, **MODEL)
    trainer = AlignTrainer(model, AlignConfig(str(made["align"][1]), **QUICK), **pairs_of(files))
    trainer.evaluate()
    torch.rand(7)
    trainer.train()
    trainer.save_model()
    torch.manual_seed(998)
    renew_slots(model, slot_expander="tokens")
    trainer = LexiconTrainer(model, LexiconConfig(str(made["lexicon"][1]), **QUICK), **pairs_of(files))
    trainer.train()
    trainer.save_model()
    torch.manual_seed(997)
    rows = read_instructions(files / "rows.jsonl")
    trainer = InjectTrainer(model, InjectConfig(str(made["inject"][1]), **QUICK, **inject), train_dataset=rows)
    trainer.train()
    trainer.save_model()
    return made


@pytest.mark.parametrize("stage", ["align", "lexicon", "inject"])
def test_a_command_and_its_trainer_give_the_same_weights(doors, stage):
    one, other = (load_file(folder / "model.safetensors") for folder in doors[stage])
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    config = [json.loads((folder / "config.json").read_text()) for folder in doors[stage]]
    assert config[0] == config[1]
    assert config[0]["stage"] == stage


@pytest.mark.parametrize("stage", ["lexicon", "inject"])  # align's bases are those of the fixture
def test_another_seed_gives_others(doors, stage, files, tmp_path):
    """Guards the premise of the test above: the seed decides."""
    kept = {"lexicon": "slot_embedder.", "inject": "decoder."}[stage]
    folder, previous = doors[stage][0], {"lexicon": "align", "inject": "lexicon"}[stage]
    data = {"lexicon": ["--pairs", f"{files}/train.en", f"{files}/train.km"]}
    data["inject"] = ["--instructions", f"{files}/rows.jsonl", "--gradient_accumulation_steps", "1"]
    words = [stage, "--model", str(doors[previous][0]), *data[stage], *flags({**QUICK, "seed": 6})]
    assert main([*words, "--output_dir", str(tmp_path)]) == 0
    one, other = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert any(not torch.equal(value, other[name]) for name, value in one.items() if name.startswith(kept))


def test_both_doors_leave_out_what_is_held_out(doors):
    for stage in ("align", "lexicon"):
        records = [json.loads((folder / "llink_run.json").read_text()) for folder in doors[stage]]
        assert [record["stages"][-1]["data"]["train_rows"] for record in records] == [26, 26]


def test_a_preset_is_the_same_at_both_doors(files, base_folder, tmp_path):
    bases = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    paper = preset("paper")
    words = [
        "--encoder",
        str(bases[0]),
        "--decoder",
        str(bases[1]),
        "--pairs",
        f"{files}/train.en",
        f"{files}/train.km",
    ]
    quick = {**QUICK, "max_steps": 1}
    assert main(["align", *words, "--preset", "paper", *flags(quick), "--output_dir", str(tmp_path / "cli")]) == 0
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases, **paper.model)
    args = AlignConfig(str(tmp_path / "python"), **quick, **paper.align)
    trainer = AlignTrainer(model, args, train_dataset=pairs_of(files)["train_dataset"])
    trainer.train()
    trainer.save_model()
    one, other = (json.loads((tmp_path / door / "config.json").read_text()) for door in ("cli", "python"))
    assert one == other
    assert one["lora_target_modules"] == [*(f"{n}_proj" for n in ("q", "k", "v", "o", "gate", "up", "down"))]
    one, other = (load_file(tmp_path / door / "model.safetensors") for door in ("cli", "python"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
