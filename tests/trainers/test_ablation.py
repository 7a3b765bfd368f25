"""`llink ablate`: what runs, what is shared, what is refused, and that a broken study goes on."""

import json
from pathlib import Path

import pytest
import yaml

from llink import ablation
from llink.cli import main
from llink.data.demo_corpus import demo_pairs, generate_instructions


@pytest.fixture(scope="module")
def base(base_folder, tmp_path_factory):
    """The parts of a study that all tests share."""
    folder = tmp_path_factory.mktemp("study")
    pairs = demo_pairs(72)
    for name, rows in (("train", pairs[:48]), ("dev", pairs[48:])):
        (folder / f"{name}.en").write_text("".join(f"{pair.english}\n" for pair in rows), "utf-8")
        (folder / f"{name}.km").write_text("".join(f"{pair.foreign}\n" for pair in rows), "utf-8")
        lines = [json.dumps(row, ensure_ascii=False) for row in generate_instructions(rows[:16])]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    quick = {"max_steps": 2, "per_device_train_batch_size": 16, "use_cpu": True}
    settings = {f"align.{name}": value for name, value in quick.items()}
    settings |= {"inject.max_steps": 1, "inject.per_device_train_batch_size": 4, "inject.use_cpu": True}
    settings |= {"inject.gradient_accumulation_steps": 1, "model.teacher_components": 8, "model.num_slots": 2}
    return {
        "encoder": base_folder("encoder", "xlm-roberta"),
        "decoder": base_folder("decoder", "llama"),
        "pairs": [f"{folder}/train.en", f"{folder}/train.km"],
        "eval_pairs": [f"{folder}/dev.en", f"{folder}/dev.km"],
        "instructions": f"{folder}/train.jsonl",
        "eval_instructions": f"{folder}/dev.jsonl",
        "settings": settings,
    }


def write(path, base, questions, **changes):
    content = {**base, "questions": questions, **changes}
    path.write_text(yaml.safe_dump({k: str(v) if k in ("encoder", "decoder") else v for k, v in content.items()}))
    return ["ablate", "--study", str(path), "--output-dir", str(path.parent / "out")]


@pytest.mark.slow
def test_slots_made_of_words_learn_them_first(base, tmp_path, monkeypatch):
    words = {f"lexicon.{name}": value for name, value in (("max_steps", 3), ("use_cpu", True), ("learning_rate", 0.02))}
    questions = {
        "slots": [{"model.slot_expander": "tokens"}],
        "steps": [{"model.slot_expander": "tokens", "lexicon.max_steps": 1}],
        "contrast": [{"model.slot_expander": "tokens", "inject.usage_weight": 0.3}],
    }
    settings = {name: value for name, value in base["settings"].items() if name != "model.num_slots"}
    trained = []
    original = ablation.LexiconTrainer
    monkeypatch.setattr(ablation, "LexiconTrainer", lambda *args: trained.append(args) or original(*args))
    monkeypatch.setattr(ablation, "check_training", lambda *_: None)  # which takes the class itself
    assert main(write(tmp_path / "study.yaml", base, questions, settings={**settings, **words})) == 0
    assert len(trained) == 2, "the contrast's words are those of the slots' question"
    record = json.loads((tmp_path / "out" / "ablation.json").read_text())["results"]
    found, fewer = record["slots"]["slot_expander=tokens"], record["steps"]["max_steps=1, slot_expander=tokens"]
    assert found["r@1"] == record["slots"]["as set"]["r@1"], "the same Stage A"
    assert len({found["loss"], fewer["loss"], record["slots"]["as set"]["loss"]}) == 3


def test_words_of_slots_that_have_none_are_no_question(base, tmp_path, capsys):
    assert main(write(tmp_path / "study.yaml", base, {"words": {"lexicon.max_steps": [1, 2]}})) == 2
    assert "model.slot_expander: tokens" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_runs_each_setting_once_and_goes_on(base, tmp_path, capsys, monkeypatch):
    trained = {"AlignTrainer": 0, "InjectTrainer": 0}
    for name in trained:
        original = getattr(ablation, name)

        def counted(*args, _original=original, _name=name, **kwargs):
            trained[_name] += 1
            return _original(*args, **kwargs)

        monkeypatch.setattr(ablation, name, counted)
    questions = {
        "teacher": {"model.teacher_conditioning": ["none", "whiten"]},  # whiten is the base setting
        "slots": {"model.num_slots": [2, 4]},
        "contrast": [{"inject.usage_weight": 0.0}],
        "encoder": {"bases.encoder": [str(base["encoder"])]},  # the base setting again
    }
    command = write(tmp_path / "study.yaml", base, questions)
    assert main(command) == 0
    assert trained == {"AlignTrainer": 2, "InjectTrainer": 4}, "Stage A is shared, the base setting runs once"
    record = json.loads((tmp_path / "out" / "ablation.json").read_text())["results"]
    assert list(record["teacher"]) == ["teacher_conditioning=none", "teacher_conditioning=whiten"]
    assert list(record["contrast"]) == ["as set", "usage_weight=0.0"]
    assert record["slots"]["num_slots=2"] == record["contrast"]["as set"]
    assert record["slots"]["num_slots=2"]["r@1"] == record["slots"]["num_slots=4"]["r@1"], "the same projector"
    assert record["slots"]["num_slots=2"]["loss"] != record["slots"]["num_slots=4"]["loss"]
    assert set(record["slots"]["num_slots=2"]) == {
        *("r@1", "r@10", "mrr", "full_r@1", "loss", "zeroed_gap", "shuffled_gap", "seeds")
    }
    assert (tmp_path / "out" / "ablation.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "usage_weight=0.0" in printed
    assert main(command) == 0
    assert trained == {"AlignTrainer": 2, "InjectTrainer": 4}, "nothing runs twice"
    for path in sorted((tmp_path / "out" / "runs").glob("*.json"))[:1]:
        path.unlink()  # as if the study had been broken off there
    assert main(command) == 0
    assert trained == {"AlignTrainer": 2, "InjectTrainer": 5}
    assert json.loads((tmp_path / "out" / "ablation.json").read_text())["results"] == record


def test_seeds_give_means_and_deviations(base, tmp_path, capsys):
    changes = {"instructions": None, "eval_instructions": None, "seeds": [0, 1]}
    # PyYAML reads a number without a point as text
    command = write(tmp_path / "study.yaml", base, {"rate": {"align.learning_rate": ["1e-2"]}}, **changes)
    assert main(command) == 0
    found = json.loads((tmp_path / "out" / "ablation.json").read_text())["results"]["rate"]["learning_rate=1e-2"]
    runs = [json.loads(path.read_text()) for path in (tmp_path / "out" / "runs").glob("*.json")]
    chosen = [run["metrics"]["mrr"] for run in runs if run["variant"]]
    assert len(set(chosen)) == 2, "vacuous unless seeds differ"
    assert found["mrr"] == pytest.approx(sum(chosen) / 2)
    assert found["mrr_std"] > 0
    assert found["seeds"] == 2
    assert f"{found['mrr']:.3f} ± {found['mrr_std']:.3f}" in capsys.readouterr().out


def test_options_of_one_name_in_two_parts_keep_their_parts(base):
    asked = {"rate": [{"align.learning_rate": 1}, {"inject.learning_rate": 1}, {"model.num_slots": 2}]}
    study = ablation.Study("e", "d", [], [], asked)
    assert list(study.variants("rate")) == ["align.learning_rate=1", "inject.learning_rate=1", "num_slots=2"]


@pytest.mark.parametrize(
    ("questions", "changes", "words"),
    [
        ({"q": {"model.nothing": [1]}}, {}, "nothing"),
        ({"q": {"align.nothing": [1]}}, {}, "AlignConfig has no option nothing"),
        ({"q": {"num_slots": [1]}}, {}, "model.…"),
        ({"q": {"bases.tokenizer": ["x"]}}, {}, "bases.tokenizer"),
        ({"q": {"bases.encoder": ["/nowhere/at/all"]}}, {}, "/nowhere/at/all"),
        ({"q": {"model.num_slots": [0]}}, {}, "num_slots=0"),
        ({"q": {"align.queue_size": [-1]}}, {}, "queue_size=-1"),
        ({"q": {"model.num_slots": 4}}, {}, "'q'"),
        ({"q": []}, {}, "'q'"),
        ({"q": [{"model.num_slots": 1}, {"model.num_slots": 1}]}, {}, "twice"),
        ({"q": {"align.seed": [1]}}, {}, "seeds"),
        ({"q": {"model.num_slots": [1]}}, {"pairs": "train.en"}, "two files"),
        ({"q": {"model.num_slots": [1]}}, {"eval_pairs": ["a", "b"]}, "two files"),
        ({"q": {"model.num_slots": [1]}}, {"seeds": [1, 1]}, "twice"),
        ({}, {}, "questions"),
        ({"q": {"inject.usage_weight": [0]}}, {"instructions": None, "eval_instructions": None}, "Stage B"),
        ({"q": {"model.num_slots": [1]}}, {"eval_instructions": None}, "both"),
        ({"q": {"model.num_slots": [1]}}, {"seeds": ["a"]}, "seeds: ['a'] must be a list, each of it a whole number"),
        ({"q": {"model.num_slots": [1]}}, {"seeds": [-1]}, "seeds: -1 must be between 0"),
        ({"q": {"model.num_slots": [1]}}, {"dtype": "float31"}, "dtype: 'float31' is not one of"),
        ({"q": {"model.num_slots": [1]}}, {"language": False}, "language: False must be text"),
        ({"q": {"model.num_slots": ["two"]}}, {}, "'num_slots' expected int, got str"),
        ({"q": {"bases.encoder": [3.5]}}, {}, "bases.encoder: 3.5 must be text"),
        ({"q": {"align.max_steps": ["two"]}}, {}, "align.max_steps: 'two' must be a whole number"),
        ({"q": {"inject.learning_rate": ["fast"]}}, {}, "inject.learning_rate: 'fast' must be a number"),
        ({"q": {"align.lr_scheduler_kwargs": [{"x": 1}]}}, {}, "lr_scheduler_kwargs={'x': 1} do not fit"),
        ({"q": {"model.num_slots": [1]}}, {"preset": "best"}, "recommended"),
        ({"q": {"model.num_slots": [1]}}, {"wrong": 1}, "wrong"),
    ],
)
def test_bad_studies_are_refused_before_anything_runs(base, tmp_path, capsys, questions, changes, words):
    assert main(write(tmp_path / "study.yaml", base, questions, **changes)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_papers_study_can_be_read(base, tmp_path):
    study = yaml.safe_load((Path(ablation.__file__).parent / "examples/paper_study.yaml").read_text("utf-8"))
    assert study["questions"]["contrast weight"]["inject.usage_weight"] == [0.0, 0.01, 0.05, 0.10]
    study |= {name: value for name, value in base.items() if name != "settings"}
    study["questions"]["encoder"] = {"bases.encoder": [str(base["encoder"])]}
    study["questions"]["encoder layer"] = {"model.encoder_layer": [0, -1]}
    command = write(tmp_path / "study.yaml", study, study["questions"])
    assert ablation.read_study(command[2]).variants("slots")["num_slots=16"] == {"model.num_slots": 16}


def test_a_missing_or_unreadable_study_is_refused(tmp_path, capsys):
    (tmp_path / "broken.yaml").write_text("a: [")
    for name in ("none.yaml", "broken.yaml"):
        assert main(["ablate", "--study", str(tmp_path / name), "--output-dir", str(tmp_path / "out")]) == 2
        assert name in capsys.readouterr().err
