"""The rows of table 1: which vectors each system is scored on, and the command that scores them."""

import json

import pytest
import tiny
import torch

from llink.baselines.direct import load_direct, new_direct, save_adapter
from llink.baselines.langbridge import LangBridgeForCausalLM
from llink.building import fit_teacher_space
from llink.cli import main
from llink.data.demo_corpus import demo_pairs
from llink.data.errors import DataError
from llink.evaluation.plot_retrieval import direction_table, plot_retrieval
from llink.evaluation.retrieval import rank_report, retrieval_ranks
from llink.evaluation.retrieval_rows import raw_text_states, retrieval_rows, slot_features
from llink.modeling_llink.errors import NotFittedError
from llink.modeling_llink.lora import lora_modules, lora_rows

PAIRS = demo_pairs(14)
ENGLISH = [pair.english for pair in PAIRS]
FOREIGN = [pair.foreign for pair in PAIRS]


@pytest.fixture(scope="module")
def folders(make_model, tmp_path_factory):
    """An llink model, a direct fine-tune and a LangBridge of it, and two files of pairs."""
    folder = tmp_path_factory.mktemp("retrieval")
    model = make_model()
    model.save_pretrained(folder / "model")
    decoder, processor = new_direct(folder / "model")
    for _, module in lora_modules(decoder):
        for linear in module.lora_B.values():
            torch.nn.init.normal_(linear.weight, std=0.3)
    save_adapter(decoder, folder / "finetune")
    processor.save_pretrained(folder / "finetune")
    LangBridgeForCausalLM.from_llink(folder / "model").save_pretrained(folder / "langbridge")
    (folder / "dev.en").write_text("".join(f"{text}\n" for text in ENGLISH), "utf-8")
    (folder / "dev.km").write_text("".join(f"{text}\n" for text in FOREIGN), "utf-8")
    return folder


@pytest.fixture(scope="module")
def finetuned(folders):
    return load_direct(folders / "finetune")[0]


@pytest.mark.parametrize("decoder", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("settings", [{}, {"teacher_state": "placeholder", "teacher_layer": 1}])
def test_raw_text_is_read_where_the_teacher_is(make_model, decoder, settings):
    model = make_model(decoder=decoder, **settings)
    with lora_rows(False):
        states = raw_text_states(model, model.decoder, ENGLISH, batch_size=3)
    torch.testing.assert_close(states, model.get_teacher_states(ENGLISH), atol=1e-4, rtol=1e-4)
    with_lora = raw_text_states(model, model.decoder, ENGLISH, batch_size=3)
    assert (with_lora - states).abs().max() > 0.01, "LoRA is used as it is set"


def test_raw_text_is_cut_where_llink_cuts_it_and_not_where_the_teacher_is(make_model):
    model = make_model(decoder="gpt2", teacher_max_tokens=4, max_foreign_chars=200)  # 600 tokens, and 512 positions
    texts = ["ក" * 20, "ក" * 19 + "ខ", "ក" * 200 + "ខ", "ក" * 200]
    states = raw_text_states(model, model.decoder, texts)
    assert not torch.allclose(states[0], states[1], atol=1e-3)
    torch.testing.assert_close(states[2], states[3])
    assert model.config.teacher_max_tokens == 4


def test_rows_are_the_models_own_vectors(model, finetuned):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rows = {name: sides for name, *sides in retrieval_rows(model, ENGLISH, FOREIGN, finetuned, batch_size=4)}
    assert list(rows) == ["encoder", "base", "finetune", "stage_a", "full"]
    expected = {
        "encoder": (model.get_pooled_features(FOREIGN), model.get_pooled_features(ENGLISH)),
        "stage_a": (model.get_foreign_features(FOREIGN), model.get_teacher_features(ENGLISH)),
        "full": (slot_features(model, FOREIGN), model.get_teacher_features(ENGLISH)),
    }
    for name, sides in expected.items():
        for found, own in zip(rows[name], sides, strict=True):
            torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-4)
    assert torch.equal(rows["base"][1], rows["finetune"][1])
    assert not torch.allclose(rows["base"][0], rows["finetune"][0], atol=1e-2), "vacuous unless the LoRA does something"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module.disable_adapters for _, module in lora_modules(model.decoder))


def test_the_base_row_is_the_decoder_without_lora(make_model):
    asleep, awake = make_model(awake=False), make_model()
    rows = [{name: own for name, own, _ in retrieval_rows(m, ENGLISH, FOREIGN)} for m in (asleep, awake)]
    torch.testing.assert_close(rows[0]["base"], rows[1]["base"])


@pytest.mark.parametrize(("stage", "last"), [("align", "stage_a"), ("untrained", "untrained")])
def test_a_model_has_the_rows_of_its_stage(make_model, stage, last):
    names = [name for name, *_ in retrieval_rows(make_model(stage=stage), ENGLISH, FOREIGN)]
    assert names == ["encoder", "base", last]


def test_only_the_wanted_rows_are_computed(model):
    every = {name: sides for name, *sides in retrieval_rows(model, ENGLISH, FOREIGN)}
    with tiny.count_calls(model.decoder.base_model) as calls:
        found = {name: sides for name, *sides in retrieval_rows(model, ENGLISH, FOREIGN, rows=["full", "stage_a"])}
    few = len(calls)
    assert few, "vacuous unless the decoder reads the English"
    with tiny.count_calls(model.decoder.base_model) as calls:
        list(retrieval_rows(model, ENGLISH, FOREIGN, rows=["full", "base"]))
    assert len(calls) > few, "the decoder reads the foreign text only for its own row"
    assert list(found) == ["stage_a", "full"]
    for name, sides in found.items():
        assert all(map(torch.equal, sides, every[name]))
    with pytest.raises(DataError, match="no row finetune here: choose from encoder, base, stage_a, full"):
        next(retrieval_rows(model, ENGLISH, FOREIGN, rows=["finetune"]))


def test_raw_states_are_conditioned_as_the_teachers(make_model):
    model = make_model(teacher_conditioning="center")
    fit_teacher_space(model.teacher_space, model.get_teacher_states(ENGLISH))
    own = next(own for name, own, _ in retrieval_rows(model, ENGLISH, ENGLISH) if name == "base")
    torch.testing.assert_close(own, model.get_teacher_features(ENGLISH), atol=1e-4, rtol=1e-4)
    assert retrieval_ranks(own, model.get_teacher_features(ENGLISH)).tolist() == [1] * len(ENGLISH)


def test_what_cannot_be_compared_is_refused_before_a_base_runs(make_model, finetuned):
    unfitted, other = make_model(teacher_conditioning="whiten"), make_model(decoder="qwen2")
    with tiny.count_calls(unfitted.encoder) as calls, pytest.raises(NotFittedError, match="statistics"):
        next(retrieval_rows(unfitted, ENGLISH, FOREIGN))
    assert not calls
    with tiny.count_calls(other.encoder) as calls, pytest.raises(DataError, match="model_type=llama"):
        next(retrieval_rows(other, ENGLISH, FOREIGN, finetuned))
    assert not calls


def test_the_command_scores_both_directions_and_draws_them(folders, tmp_path, capsys, caplog):
    pairs = ["--pairs", str(folders / "dev.en"), str(folders / "dev.km")]
    command = ["eval", "retrieval", "--model", str(folders / "model"), *pairs, "--output-dir", str(tmp_path)]
    assert main([*command, "--baselines", str(folders / "langbridge"), str(folders / "finetune")]) == 0
    assert "is a langbridge" in caplog.text
    results = json.loads((tmp_path / "retrieval.json").read_text())["results"]
    assert list(results) == ["foreign_to_english", "english_to_foreign"]
    for rows in results.values():
        assert list(rows) == ["encoder", "base", "finetune", "stage_a", "full"]
        for row in rows.values():
            metrics = row.keys() - {"intervals", "n"}
            assert metrics == {"r@1", "r@5", "r@10", "mrr", "mean_rank", "median_rank"} == set(row["intervals"])
            assert row["n"] == len(PAIRS)
            assert all(row["intervals"][name][0] <= row[name] <= row["intervals"][name][1] for name in metrics)
    assert results["foreign_to_english"]["base"] != results["english_to_foreign"]["base"], "two directions"
    printed = capsys.readouterr().out
    assert printed.index("foreign → English") < printed.index("English → foreign")
    assert "direct fine-tune" in printed
    assert "impossible" not in printed
    assert (tmp_path / "retrieval.png").read_bytes().startswith(b"\x89PNG")
    assert main(["check-table", str(tmp_path / "retrieval.json")]) == 0


def test_repeated_sentences_are_counted(folders, tmp_path, caplog):
    (tmp_path / "a.en").write_text("\n".join([*ENGLISH[:10], ENGLISH[0]]) + "\n", "utf-8")
    (tmp_path / "a.km").write_text("\n".join(FOREIGN[:11]) + "\n", "utf-8")
    pairs = ["--pairs", str(tmp_path / "a.en"), str(tmp_path / "a.km")]
    assert main(["eval", "retrieval", "--model", str(folders / "model"), *pairs]) == 0
    assert "1 of 11 pairs repeat a sentence" in caplog.text


def test_bad_input_is_refused_before_the_model_loads(folders, tmp_path, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("llink.modeling_llink.LlinkForCausalLM.from_pretrained", never)
    for side, texts in (("en", ENGLISH), ("km", FOREIGN)):
        (tmp_path / f"few.{side}").write_text("".join(f"{text}\n" for text in texts[:9]), "utf-8")
    whole = [str(folders / "dev.en"), str(folders / "dev.km")]
    for pairs, baselines, words in (
        ([str(tmp_path / "few.en"), str(tmp_path / "few.km")], [], "at least 10"),
        (whole, [str(folders / "model")], "holds no baseline"),
        (whole, [str(tmp_path / "nowhere")], "nowhere"),
        (whole[:1], [], "two files"),
    ):
        given = ["--baselines", *baselines] if baselines else []
        assert main(["eval", "retrieval", "--model", str(folders / "model"), "--pairs", *pairs, *given]) == 2
        assert words in capsys.readouterr().err


def test_table_and_plot_of_one_row(tmp_path):
    ranks = torch.arange(1, 31)
    rows = {"full": rank_report(ranks)}
    lines = direction_table("foreign → English", rows).splitlines()
    assert len(lines) == 3
    assert "0.333 [0.167, 0.500]" in lines[2]
    plot_retrieval({"foreign_to_english": rows}, {"foreign_to_english": {"full": ranks}}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
