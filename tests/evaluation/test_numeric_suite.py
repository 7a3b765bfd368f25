"""The exactness suite is right and catches what it must; `llink eval numeric` as users type it."""

import json
from collections import Counter

import pytest

from llink.cli import eval_numeric, main
from llink.cli.loading import ModelLoading
from llink.data.entities.english import extract, known_names
from llink.data.entities.entity import KINDS
from llink.data.entities.foreign import extract_foreign
from llink.data.entities.matching import foreign_kept
from llink.data.errors import DataError
from llink.evaluation.numeric import compare, numeric_metrics, source_metrics
from llink.evaluation.numeric_suite import read_suite
from llink.evaluation.outputs import OutputRow, write_outputs
from llink.evaluation.plot_numeric import plot_numeric

SUITE = read_suite()
IDS = [case.id for case in SUITE]
LANGUAGES = ("km", "my", "ar", "hi", "th", "am", "ja", "zh")
OWN_DIGITS = {
    "km": "០-៩",
    "my": "၀-၉",
    "ar": "٠-٩",
    "hi": "०-९",
    "th": "๐-๙",
    "ja": "０-９",
    "am": "፩-፼",
    "zh": "一-九",
}


# ------------------------------------------------------------------ the suite


def test_the_suite_is_large_distinct_and_balanced():
    assert len(SUITE) >= 300
    assert len(set(IDS)) == len({case.foreign for case in SUITE}) == len(SUITE)
    assert len({case.english for case in SUITE}) > 0.98 * len(SUITE)
    languages = Counter(case.language for case in SUITE)
    assert all(languages[language] >= 40 for language in LANGUAGES)
    kinds = Counter(kind for case in SUITE for kind, _ in case.must)
    assert set(kinds) == set(KINDS)
    assert all(kinds[kind] >= 15 for kind in KINDS)


@pytest.mark.parametrize("language", OWN_DIGITS)
def test_own_digits_and_ascii_digits_both_occur(language):
    low, _, high = OWN_DIGITS[language]
    texts = [case.foreign for case in SUITE if case.language == language]
    assert any(any(low <= character <= high for character in text) for text in texts)
    assert any(any(character in "23456789" for character in text) for text in texts)


def test_the_failures_of_the_paper_are_cases():
    faults = {(case.english, wrong) for case in SUITE if case.language == "km" for wrong in case.wrong}
    for right, wrong in (("30 MW", "1.5 kW"), ("25 km", "10 miles"), ("1985", "the 1980s"), ("$50", "$5")):
        assert any(right in english and english.replace(right, wrong) == fault for english, fault in faults), right


@pytest.mark.parametrize("case", SUITE, ids=IDS)
def test_a_case_holds_what_it_says_and_its_faults_are_caught(case):
    assert sorted((e.kind, e.value) for e in extract(case.english)) == sorted(case.must)
    assert compare(case.english, case.english).exact
    assert case.wrong
    for wrong in case.wrong:
        comparison = compare(wrong, case.english, known_names([case.english]))
        assert wrong != case.english
        assert comparison.lost, wrong
    foreign = extract_foreign(case.foreign)
    assert foreign or all(kind == "name" or value.endswith("day") for kind, value in case.must)
    assert all(foreign_kept(foreign, extract(case.english)))


def test_every_wrong_digit_is_caught():
    caught = 0
    for case in SUITE:
        for place, character in enumerate(case.english):
            if character.isdigit():
                digit = str((int(character) + 3) % 10)
                wrong = case.english[:place] + digit + case.english[place + 1 :]
                assert not compare(wrong, case.english).exact, wrong
                caught += 1
    assert caught > 800, "vacuous unless there are digits"


def test_references_score_perfectly_and_faults_do_not():
    references = [case.english for case in SUITE]
    right = numeric_metrics(references, references, resamples=0)
    assert right["exact"] == right["kinds"]["all"]["f1"] == 1.0
    wrong = numeric_metrics([case.wrong[0] for case in SUITE], references, resamples=0)
    assert wrong["exact"] == 0.0
    assert all(wrong["kinds"][kind]["recall"] < 0.35 for kind in KINDS)
    sources = [case.foreign for case in SUITE]
    assert source_metrics(references, sources, resamples=0)["kinds"]["all"]["recall"] == 1.0
    others = [references[-1], *references[:-1]]
    assert source_metrics(others, sources, resamples=0)["kinds"]["all"]["recall"] < 0.4


def test_a_language_is_chosen_or_refused():
    assert {case.language for case in read_suite("km")} == {"km"}
    with pytest.raises(DataError, match="no language 'xx': choose one of km, my, ar"):
        read_suite("xx")


def test_plot_is_drawn(tmp_path):
    references = [case.english for case in SUITE[::20]]
    scores = {
        name: numeric_metrics(texts, references, 50)
        for name, texts in (("a", references), ("b", ["x"] * len(references)))
    }
    plot_numeric(scores, tmp_path / "numeric.png")
    assert (tmp_path / "numeric.png").read_bytes().startswith(b"\x89PNG")


# ------------------------------------------------------------------ the command


class Fake:
    """Answers the completion, changed by `change`."""

    def __init__(self, name, change) -> None:
        self.name, self.change = name, change

    def answer(self, rows, batch_size=16, max_new_tokens=64, show_progress=False):
        return [self.change(row["completion"]) for row in rows]


@pytest.fixture
def fakes(monkeypatch):
    """Systems that answer rightly (`llink`) and nothing (`base`), in place of loaded ones; what was asked for."""
    asked = []

    def load(model, baselines, dtype, only=None, **loading):
        asked.append((model, list(baselines), dtype))
        return {"base": Fake("base", lambda text: ""), "llink": Fake("llink", lambda text: text)}

    monkeypatch.setattr(eval_numeric, "load_systems", load)
    return asked


def record(folder):
    return json.loads((folder / "numeric.json").read_text("utf-8"))["results"]


def test_the_suite_is_run_and_recorded(fakes, tmp_path, capsys):
    assert main(["eval", "numeric", "--model", "M", "--language", "km", "--output-dir", str(tmp_path)]) == 0
    assert fakes == [("M", [], ModelLoading().loading()["dtype"])]
    found = record(tmp_path)
    assert found["rows"] == len(read_suite("km"))
    assert (found["systems"]["llink"]["exact"], found["systems"]["base"]["exact"]) == (1.0, 0.0)
    assert found["systems"]["base"]["precision"] is None
    assert found["by_kind"]["llink"]["price"]["f1"] == 1.0
    counts = {kind: row["n"] for kind, row in found["by_kind"]["llink"].items()}
    assert found["without_names"]["llink"]["n"] == counts["all"] - counts["name"] > 0
    assert counts["name"] > 0, "vacuous unless the suite holds names"
    assert found["source"]["reference"]["all"]["recall"] == found["source"]["llink"]["all"]["recall"] == 1.0
    assert found["source"]["base"]["all"]["recall"] == 0.0
    assert found["samples"][0] == {
        **{"foreign": read_suite("km")[0].foreign, "reference": read_suite("km")[0].english},
        **{"base": "", "llink": read_suite("km")[0].english},
    }
    assert (tmp_path / "numeric.png").is_file()
    printed = capsys.readouterr().out
    assert "quantity" in printed
    assert "–" in printed, "what is undefined is not shown as 0"
    assert main(["report", str(tmp_path)]) == 0


def test_a_limit_is_spread_over_the_suite(fakes, tmp_path):
    assert main(["eval", "numeric", "--model", "M", "--limit", "28", "--output-dir", str(tmp_path)]) == 0
    found = record(tmp_path)
    assert found["rows"] == 28
    assert len(found["by_kind"]["llink"]) > 8


def test_a_real_model_answers_the_suite(make_model, tmp_path, capsys):
    make_model().save_pretrained(tmp_path / "model")
    command = ["eval", "numeric", "--model", str(tmp_path / "model"), "--language", "km", "--limit", "2"]
    assert main([*command, "--max-new-tokens", "2", "--resamples", "10", "--output-dir", str(tmp_path)]) == 0
    assert set(record(tmp_path)["systems"]) == {"base", "llink"}
    assert main([*command, "--max-new-tokens", "2", "--systems", "llink", "--output-dir", str(tmp_path)]) == 0
    assert set(record(tmp_path)["systems"]) == {"llink"}


@pytest.fixture
def pair_files(tmp_path):
    """Three pairs, of which two hold digits; in one of them they disagree."""
    (tmp_path / "a.en").write_text("It is 5 km.\nWe met Bopha.\nIt is 7 km.\n", "utf-8")
    (tmp_path / "a.km").write_text("៥ គីឡូម៉ែត្រ\nសុខា\n៨ គីឡូម៉ែត្រ\n", "utf-8")
    return [str(tmp_path / "a.en"), str(tmp_path / "a.km")]


def test_pairs_with_entities_are_taken(fakes, pair_files, tmp_path, capsys):
    assert main(["eval", "numeric", "--model", "M", "--pairs", *pair_files, "--output-dir", str(tmp_path)]) == 0
    found = record(tmp_path)
    assert found["rows"] == 2
    assert found["source"]["reference"]["all"]["recall"] == 0.5
    assert "2 of 3 pairs" in capsys.readouterr().out


def test_pairs_alone_are_checked_without_a_model(fakes, pair_files, tmp_path, capsys):
    assert main(["eval", "numeric", "--pairs", *pair_files, "--output-dir", str(tmp_path)]) == 0
    assert fakes == []
    assert record(tmp_path)["systems"] == {}
    printed = capsys.readouterr().out
    assert "quantity 2" in printed
    assert "0.500" in printed


def output_files(folder, **systems):
    """One file a system; its rows have the given outputs, and the last is a question, which need not keep all."""
    references, tasks = ["It is 5 km.", "It is 7 km."], ["translate_to_english", "qa_about_text"]
    paths = []
    for name, outputs in systems.items():
        rows = [
            OutputRow(str(place), task, ["៥ និង ៧"], "<foreign_emb>", reference, "", output)
            for place, (task, reference, output) in enumerate(zip(tasks, references, outputs, strict=True))
        ]
        paths.append(str(folder / f"{name}.jsonl"))
        write_outputs(paths[-1], rows)
    return paths


def test_finished_outputs_are_scored(fakes, tmp_path):
    paths = output_files(tmp_path, llink=["It is 5 km.", "It is 9 km."], base=["5 km and 7 km", ""])
    assert main(["eval", "numeric", "--outputs", *paths, "--output-dir", str(tmp_path)]) == 0
    assert fakes == []
    found = record(tmp_path)
    assert (found["systems"]["llink"]["recall"], found["systems"]["base"]["precision"]) == (0.5, 0.5)
    assert {name: kinds["all"] for name, kinds in found["source"].items()} == {
        "llink": {"recall": 0.5, "n": 2, "intervals": {"recall": [0.5, 0.5]}},
        "base": {"recall": 1.0, "n": 2, "intervals": {"recall": [1.0, 1.0]}},
    }


def bad_commands(folder, pairs):
    one = output_files(folder, one=["a", "b"])[0]
    (folder / "sub").mkdir()
    again = output_files(folder / "sub", one=["a", "b"])[0]
    short = folder / "short.jsonl"
    short.write_text((folder / "one.jsonl").read_text("utf-8").splitlines()[0] + "\n", "utf-8")
    (folder / "none.en").write_text("Nothing.\n", "utf-8")
    (folder / "none.km").write_text("គ\n", "utf-8")
    return {
        "nothing": ([], "Give --model"),
        "unknown language": (["--model", "M", "--language", "xx"], "no language 'xx'"),
        "outputs and model": (["--outputs", one, "--model", "M"], "leave out --model"),
        "pairs and language": (["--model", "M", "--pairs", *pairs, "--language", "km"], "--language"),
        "one file of pairs": (["--model", "M", "--pairs", pairs[0]], "two files"),
        "baselines alone": (["--pairs", *pairs, "--baselines", "B"], "give --model too"),
        "no baseline": (["--model", "M", "--baselines", str(folder)], "holds no baseline"),
        "same names": (["--outputs", one, again], "rename one"),
        "other rows": (["--outputs", one, str(short)], "2 outputs and"),
        "no outputs": (["--outputs", str(folder / "none.jsonl")], "do not exist"),
        "no entities": (["--model", "M", "--pairs", str(folder / "none.en"), str(folder / "none.km")], "anything"),
        "limit": (["--model", "M", "--limit", "0"], "--limit 0 must be 1 or more"),
        "resamples": (["--model", "M", "--resamples", "-1"], "--resamples -1 must be 0 or more"),
    }


@pytest.mark.parametrize(
    "name",
    ["nothing", "unknown language", "outputs and model", "pairs and language", "one file of pairs", "baselines alone"]
    + ["no baseline", "same names", "other rows", "no outputs", "no entities", "limit", "resamples"],
)
def test_bad_commands_are_refused_before_a_model_loads(fakes, pair_files, tmp_path, capsys, name):
    commands = bad_commands(tmp_path, pair_files)
    arguments, message = commands[name]
    assert main(["eval", "numeric", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert fakes == []
