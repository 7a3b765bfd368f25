"""Cards: made from the folder alone, valid for the Hub, honest about licences, and safe against text of others."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import DECODER, build, reload_here, tiny_hub
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from llink.data.errors import DataError
from llink.evaluation.record import write_record
from llink.hub_cards import publishing
from llink.hub_cards.card import build_card, escape, snippet, write_card
from llink.hub_cards.licences import LICENCES, licence_of, name_problem, strictest
from llink.hub_cards.publishing import push_to_hub
from llink.hub_cards.upload import OWN_END, OWN_START, own_text, with_own_text

RECORD = {
    "stages": [
        {
            "run": "1",
            "stage": "align",
            "data": {
                "train_rows": 20480,
                "languages": ["km"],
                "tasks": {},
                "eval_rows": {"eval": 64},
                "files": ["a.en"],
            },
            "settings": {"learning_rate": 1e-3, "optim": "adamw"},
            "metrics": {"eval_r@1": 0.714},
            "steps": 800,
            "epochs": 5.0,
            "seed": 7,
            "processes": 1,
            "versions": {"llink": "0.1.0", "torch": "2"},
            "machine": "x",
            "saved": "2026-01-01",
        }
    ]
}
RETRIEVAL = {
    "foreign_to_english": {
        "base": {"r@1": 0.01, "mrr": 0.02, "n": 64},
        "stage_a": {"r@1": 0.75, "r@5": 0.9, "r@10": 0.95, "mrr": 0.8, "mean_rank": 2.5, "n": 64, "intervals": {}},
    }
}
NUMERIC = {"rows": 9, "systems": {"base": {"exact": 0.1, "n": 40}, "llink": {"exact": 0.25, "f1": 0.3, "n": 40}}}
USAGE = {"zeroed_gap": 1.5, "shuffled_gap": float("nan"), "n": 9, "tasks": {"title": {"zeroed_gap": 2.0, "n": 3}}}
JUDGE = {"judge": {"model": "m"}, "llink vs. base": {"all": {"wins": 6, "losses": 2, "ties": 2, "preference": 0.75}}}


@pytest.fixture(scope="module")
def saved(make_model, tmp_path_factory):
    """A self-contained checkpoint with a record and evaluations."""
    folder = tmp_path_factory.mktemp("card") / "model"
    model = make_model()
    model.run_record = RECORD
    model.save_pretrained(folder, self_contained=True)
    arguments = {"pairs": ["/home/me/test.en", "/home/me/test.km"]}
    for kind, results in (("retrieval", RETRIEVAL), ("numeric", NUMERIC), ("usage", USAGE), ("judge", JUDGE)):
        write_record(folder / "evaluation", kind, results, arguments if kind == "retrieval" else {"language": "km"})
    (folder / "evaluation" / "retrieval.png").write_bytes(b"x")
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


def with_bases(folder: Path, encoder: str, decoder: str) -> Path:
    path = folder / "config.json"
    names = {"encoder_name_or_path": encoder, "decoder_name_or_path": decoder}
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **names, "self_contained": False}), "utf-8")
    return folder


# ------------------------------------------------------------------ what it says


def test_the_card_says_what_the_run_says(copy):
    card = build_card(with_bases(copy, "FacebookAI/xlm-roberta-base", "HuggingFaceTB/SmolLM2-135M"), "someone/km")
    text = card.text
    for expected in ("20480 rows", "a.en", "| 800 ", "| 7 ", "learning\\_rate", "0.714", "torch 2", "Stage A"):
        assert expected in text, expected
    for expected in ("0.750", "0.010", "test.en, test.km", "1.500", "0.250", "llink vs. base", "| 6 "):
        assert expected in text, expected
    assert "In 25% of the texts that hold some, every one was kept exactly" in text
    assert "![retrieval](evaluation/retrieval.png)" in text
    assert "/home/me" not in str(card)
    assert "2510.27254" in text
    assert "bibtex" in text


SAMPLES = [
    {"foreign": "ក", "reference": "A |cat|.", "base": "…", "llink": "A |dog|."},
    {"foreign": "ខ", "reference": "It rains.", "base": "…", "llink": "it  rains."},
    {"foreign": "គ", "reference": "Go.", "base": "…", "llink": "Stop."},
]


def test_the_card_says_first_what_a_reader_wants(copy):
    text = build_card(copy, "someone/km").text
    assert "On sentences that it had not seen" not in text, "nothing was translated"
    write_record(copy / "evaluation", "translation", {"llink": {"chrf": 40.0, "n": 3}, "samples": SAMPLES}, {})
    card = build_card(copy, "someone/km")
    text = card.text
    order = ["It reads **km**", "| ខ", "| ក", "Are numbers", "![retrieval]", "## Use it", "## What it is made of"]
    assert sorted(order, key=text.index) == order
    assert "A \\|dog\\|." in text, "others' text stays in its cell"
    assert "| គ" not in text, "the first right one and the first wrong one"
    assert [row["text"] for row in card.data.widget] == ["ខ", "ក"]
    assert card.data.widget[1]["output"]["text"] == "A |dog|."


@pytest.mark.parametrize(
    ("expander", "words"),
    [
        ("mlp", "as one pooled vector. It keeps"),
        ("tokens", "as one vector for each token"),
    ],
)
def test_the_card_says_what_slots_are_made_of(copy, expander, words):
    config = json.loads((copy / "config.json").read_text("utf-8"))
    (copy / "config.json").write_text(json.dumps({**config, "slot_expander": expander}), "utf-8")
    record = json.loads((copy / "llink_run.json").read_text("utf-8"))
    stages = [{**record["stages"][0], "stage": stage} for stage in ("align", "lexicon", "inject")]
    (copy / "llink_run.json").write_text(json.dumps({"stages": stages}), "utf-8")
    text = build_card(copy, "someone/km").text
    assert f"reaches the decoder {words}" in text
    assert [
        line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ") and "20480 rows" in line
    ] == [*("Stage A", "Dictionary", "Stage B")]


def test_the_metadata_passes_the_hubs_validation(copy):
    card = write_card(with_bases(copy, "FacebookAI/xlm-roberta-base", "HuggingFaceTB/SmolLM2-135M"), "someone/km")
    again = ModelCard.load(copy / "README.md")  # raises on a model-index that is not valid
    data = again.data
    assert data.to_dict() == card.data.to_dict()
    assert (data.license, data.library_name, data.language) == ("apache-2.0", "transformers", ["km", "en"])
    assert data.base_model == ["FacebookAI/xlm-roberta-base", "HuggingFaceTB/SmolLM2-135M"]
    assert data.base_model_relation == "adapter"
    results = {(result.metric_type, result.metric_name): result.metric_value for result in data.eval_results}
    assert results["r@1", "R@1, foreign to English"] == 0.75
    assert results["exact_match", "Numbers, dates and names kept exactly"] == 0.25
    assert results["preference", "llink vs. base"] == 0.75
    assert ("usage_gap", "Usage gap, zeroed slots (nats a token)") in results
    assert not [name for name in results if name[0] == "shuffled_usage_gap"], "NaN is no result"
    assert {result.dataset_name for result in data.eval_results} >= {"test.en, test.km"}


def test_a_model_without_papers_says_so(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    text = build_card(tmp_path, "someone/km").text
    assert "There is no record of how this model was trained." in text
    assert "It has not been evaluated." in text
    assert "Nobody has measured it for this model" in text
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="no llink model"):
        build_card(tmp_path, "someone/km")


def test_damaged_papers_are_named(copy):
    (copy / "llink_run.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"llink_run\.json"):
        build_card(copy, "someone/km")


@pytest.mark.slow
def test_the_cards_example_runs_as_it_stands(tmp_path, monkeypatch, base_folder):
    """Copied out of the card and run in a process where llink does not exist, against the Hub."""
    monkeypatch.setattr(publishing, "reload", reload_here)
    with tiny_hub(monkeypatch, tmp_path / "hf", base_folder) as hub:
        push_to_hub(build(), "someone/Llama-example")
        card = hub.files("someone/Llama-example")["README.md"].decode()
        example = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
        assert example.strip() == snippet("someone/Llama-example").strip()
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.modules['llink'] = None\n{example}"],
            env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip(), "it prints an answer"


# ------------------------------------------------------------------ licences


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("meta-llama/Llama-3.2-1B-Instruct", "llama3.2"),
        ("meta-llama/Llama-3.1-8B", "llama3.1"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3.3"),
        ("meta-llama/Llama-2-7b-hf", "llama2"),
        ("google/gemma-2-2b-it", "gemma"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "apache-2.0"),
        ("Qwen/Qwen2.5-3B-Instruct", "qwen-research"),
        ("Qwen/Qwen2.5-72B", "qwen"),
        ("Qwen/Qwen-7B", "unknown"),
        ("FacebookAI/xlm-roberta-base", "mit"),
        ("xlm-roberta-large", "mit"),
        ("sentence-transformers/LaBSE", "apache-2.0"),
        ("facebook/nllb-200-distilled-600M", "cc-by-nc-4.0"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "apache-2.0"),
        ("mistralai/Mistral-Large-Instruct-2411", "unknown"),
        ("somebody/fine-tune", "unknown"),
        (None, "unknown"),
    ],
)
def test_licences_of_known_bases(name, licence):
    assert licence_of(name).id == licence
    assert licence_of(name, "mit").id == "mit", "what the base's own card declares counts"
    assert licence_of(name, "of-my-own").id == "of-my-own"


@pytest.mark.parametrize(
    ("encoder", "decoder", "expected"),
    [
        ("xlm-roberta-base", "HuggingFaceTB/SmolLM2-135M", {"license": "apache-2.0"}),
        ("xlm-roberta-base", "meta-llama/Llama-3.2-1B", {"license": "llama3.2"}),
        ("facebook/nllb-200-distilled-600M", "meta-llama/Llama-3.2-1B", {"license": "cc-by-nc-4.0"}),
        ("xlm-roberta-base", "Qwen/Qwen2.5-3B", {"license": "other", "license_name": "qwen-research"}),
        ("xlm-roberta-base", "somebody/own", {"license": "other", "license_name": "unknown"}),
    ],
)
def test_the_strictest_licence_holds(copy, encoder, decoder, expected):
    card = build_card(with_bases(copy, encoder, decoder), "someone/Llama-km")
    data = card.data.to_dict()
    assert {key: data.get(key) for key in expected} == expected
    assert ("**Built with Llama**" in card.text) == ("Llama-3.2" in decoder)
    assert ("Find out the base's licence" in card.text) == (decoder == "somebody/own")


@given(st.permutations(sorted(LICENCES)), st.integers(1, 4))
def test_the_strictest_is_at_least_as_strict_as_all(names, count):
    chosen = [LICENCES[name] for name in names[:count]]
    assert strictest(chosen) in chosen
    assert all(strictest(chosen).strictness >= licence.strictness for licence in chosen)


@pytest.mark.parametrize(
    ("repo", "base", "fine"),
    [
        ("me/Llama-khmer", "meta-llama/Llama-3.2-1B", True),
        ("me/llama-khmer", "meta-llama/Llama-3.2-1B", False),
        ("me/khmer-Llama", "meta-llama/Llama-3.2-1B", False),
        ("me/Llama-3-khmer", "meta-llama/Meta-Llama-3-8B", True),
        ("me/Llama_3_khmer", "meta-llama/Meta-Llama-3-8B", True),
        ("me/Llama-khmer", "meta-llama/Meta-Llama-3-8B", False),
        ("me/khmer", "meta-llama/Llama-2-7b", True),
        ("me/khmer", "Qwen/Qwen3-0.6B", True),
    ],
)
def test_names_that_licences_ask_for(repo, base, fine):
    assert (name_problem(repo, {base: licence_of(base)}) is None) == fine


def test_the_bases_own_card_declares_its_licence(tmp_path, monkeypatch, base_folder):
    monkeypatch.setattr(publishing, "reload", reload_here)
    with tiny_hub(monkeypatch, tmp_path / "hf", base_folder) as hub:
        declared = b"---\nlicense: other\nlicense_name: gemma\n---\n"
        hub.repos[DECODER].commit(hub.files(DECODER) | {"README.md": declared})
        push_to_hub(build(), "someone/anything")
        card = ModelCard(hub.files("someone/anything")["README.md"].decode())
        assert card.data.license == "gemma"
        assert b"Gemma Terms of Use" in hub.files("someone/anything")["NOTICE"]


# ------------------------------------------------------------------ text of others and of the reader


EVIL = "<script>alert(1)</script> [x](javascript:y) | `z` # ![a](b)\n\n# Heading"


def test_text_of_others_is_escaped(copy):
    record = json.loads(json.dumps(RECORD))
    stage = record["stages"][0]
    stage["data"] |= {"files": [EVIL], "languages": [EVIL], "tasks": {EVIL: 3}}
    stage["settings"][EVIL] = EVIL
    stage["metrics"][EVIL] = 1.0
    stage["versions"][EVIL] = EVIL
    (copy / "llink_run.json").write_text(json.dumps(record), "utf-8")
    results = {"foreign_to_english": {EVIL: {"r@1": 0.5, EVIL: 0.5}}}
    write_record(copy / "evaluation", "retrieval", results, {"pairs": [EVIL]})
    card = build_card(copy, "someone/km")
    assert EVIL.partition(" ")[0] not in card.text
    assert not re.search(r"(?<!\\)\]\(javascript", card.text)
    assert "\n# Heading" not in card.text
    assert card.data.language == ["en"], "no language tag"
    plain = build_card(shutil.copytree(copy.parent / "model", copy.parent / "again"), "someone/km")
    assert len(re.findall(r"^\|", card.text, re.MULTILINE)) == len(re.findall(r"^\|", plain.text, re.MULTILINE))


@given(st.text())
def test_escaped_text_stays_in_its_cell(text):
    escaped = escape(text)
    assert not re.search(r"(?<!\\)(\\\\)*[`*_\[\]|#]", escaped)
    assert "<" not in escaped
    assert "\n" not in escaped


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"])).map(str.strip))
def test_a_readers_text_survives_any_number_of_times(text):
    card = f"---\ntags:\n- llink\n---\n# Title\n\n{OWN_START}\n\n{OWN_END}\n\n## Rest\n"
    first = with_own_text(card, card.replace(f"{OWN_START}\n", f"{OWN_START}\n{text}\n"))
    assert own_text(first) == text
    second = with_own_text(card, first)
    assert own_text(second) == text
    assert with_own_text(card, second) == second
    assert second.count("## Rest") == 1


def test_writing_again_keeps_the_readers_text(copy):
    write_card(copy, "someone/km")
    path = copy / "README.md"
    path.write_text(path.read_text("utf-8").replace(OWN_START, f"{OWN_START}\nMine: {{{{ 7 * 7 }}}} <b>"), "utf-8")
    write_card(copy, "someone/km")
    assert path.read_text("utf-8").count("Mine: {{ 7 * 7 }} <b>") == 1
