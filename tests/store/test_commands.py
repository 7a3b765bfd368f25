"""`llink index` and `llink ask`, the Hub, the adapter, and a run that is killed."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hub_server import USER, build, pushed

from llink import LlinkEmbeddings, LlinkForCausalLM, SlotStore, StoreError
from llink.cli import main

TEXTS = ["ក្មេងទៅសាលា", "the cat sat on the mat", "a dog runs", "we eat rice at noon", "he has two books"]


@pytest.fixture(scope="module")
def folder(make_model, tmp_path_factory):
    """A trained model's folder."""
    place = tmp_path_factory.mktemp("model") / "model"
    make_model(slot_expander="tokens", literals=["number"]).save_pretrained(place, self_contained=True)
    return place


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)


def test_files_are_indexed_and_asked(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [
        write(tmp_path / "lines.txt", TEXTS[0], "", TEXTS[1], TEXTS[0]),
        write(tmp_path / "rows.jsonl", json.dumps({"text": TEXTS[2], "id": "dog", "document": "animals"})),
        write(tmp_path / "rows.csv", "id,text", f'rice,"{TEXTS[3]}"'),
        write(tmp_path / "rows.tsv", "text\tdocument", f'{TEXTS[4]}\t"quoted'),
    ]
    command = ["index", str(folder), "--texts", *files, "--output-dir", "store"]
    assert main(command) == 0
    assert capsys.readouterr().out == "5 passages (1 came twice); store holds 5 pieces.\n"
    assert main(command) == 0
    rows = SlotStore.load("store").rows
    assert rows["text"] == TEXTS
    assert rows["document"][:] == ["lines.txt", "lines.txt", "animals", "rows.csv", '"quoted']
    assert rows["id"][2:4] == ["dog", "rice"]
    capsys.readouterr()
    assert main(["ask", "store", TEXTS[2], "--k", "2", "--side", "foreign", "--max-new-tokens", "4"]) == 0
    answer, found = capsys.readouterr().out.rsplit("\n\n", 1)
    assert answer.strip()
    assert found.startswith("1.000  animals, dog: a dog runs\n")
    assert len(found.splitlines()) == 2
    asked = ["ask", "store", TEXTS[2], "--k", "2", "--side", "foreign", "--max-new-tokens", "4", "--prompt"]
    assert main([*asked, "Which cat?"]) == 0
    other = capsys.readouterr().out.rsplit("\n\n", 1)[0]
    wanted = SlotStore.load("store").ask(TEXTS[2], 2, "foreign", "Which cat?", max_new_tokens=4).text
    assert other == wanted != answer
    assert main([*asked, " "]) == 2
    assert "The prompt is empty" in capsys.readouterr().err
    assert main([*asked, "<foreign_emb>?"]) == 2
    assert "holds 1 <foreign_emb> placeholder(s) for 2 passage(s)" in capsys.readouterr().err
    assert main(["ask", "store", TEXTS[2], "--k", "1", "--side", "foreign", "--search-only"]) == 0
    assert capsys.readouterr().out == "1.000  animals, dog: a dog runs\n"


@pytest.mark.parametrize(
    ("name", "lines", "told"),
    [
        ("rows.csv", ["name,speech", "a,b"], r"rows.csv, line 2 has the columns name, speech: a row has text"),
        ("rows.csv", ["id,text,mood", "1,b,good"], "columns id, text, mood: a row has text.* and nothing else"),
        ("rows.csv", ["id,text", "1,b,c"], "and more: a row has text"),
        ("rows.jsonl", ['{"text": "a"}', '["b"]'], r"rows.jsonl, line 2 has \"\['b'\]\""),
        ("rows.jsonl", ['{"text": "a"}', "b"], "line 2 is not JSON"),
        ("rows.jsonl", ['{"text": ""}'], "row 0 is empty"),
        ("rows.parquet", ["PAR1"], "is none of .txt"),
        ("rows.txt", [""], "There are no passages"),
        ("rows.tsv", ["text\tid", "a\t1", "b\t1"], "Row 1 has the id '1' of row 0"),
    ],
)
def test_files_that_cannot_be_indexed(name, lines, told, folder, tmp_path, capsys):
    file = write(tmp_path / name, *lines)
    assert main(["index", str(folder), "--texts", file, "--output-dir", str(tmp_path / "store")]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    with pytest.raises(StoreError, match=told):
        raise StoreError(said)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ask", "nowhere/to/be", "why"], "is no folder, and no store on the Hub either"),
        (["ask", "./nowhere", "why"], "The folder ./nowhere does not exist"),
        (["ask", "store", "why", "--side", "khmer"], "--side khmer is not one of foreign, english"),
        (["ask", "store", "why", "--k", "0"], "--k 0 must be 1 or more"),
        (["index", "./nowhere", "--texts", "a.txt", "--output-dir", "s"], "The folder ./nowhere does not exist"),
    ],
)
def test_commands_that_cannot_be_run(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_a_store_goes_to_the_hub_and_comes_back(hub, tmp_path):
    """With its rows and no folder of this machine; a reader's own text in the card stays."""
    model = build()
    SlotStore.build(model, [{"text": text, "document": "book"} for text in TEXTS[:3]], tmp_path / "store")
    store = SlotStore.build(model, TEXTS[3:], tmp_path / "store")
    repo = f"{USER}/help"
    store.push_to_hub(repo)
    names = {"README.md", "store.json", "data/rows-00000.arrow", "data/rows-00001.arrow"}
    assert pushed(hub, repo) == names
    card = hub.files(repo)["README.md"].decode()
    assert "5 foreign passages of 2 documents" in card
    assert f'SlotStore.load("{repo}", model="…")' in card
    again = SlotStore.load(repo, model)
    assert again.rows["text"] == TEXTS
    assert [one.text for one in again.search(TEXTS[4], 2, "foreign")] == [
        one.text for one in store.search(TEXTS[4], 2, "foreign")
    ]
    place = tmp_path / "model"
    model.save_pretrained(place, self_contained=True)
    loaded = LlinkForCausalLM.from_pretrained(place)
    SlotStore.build(loaded, TEXTS, tmp_path / "other").push_to_hub(repo)
    assert str(tmp_path) not in hub.files(repo)["store.json"].decode()
    assert pushed(hub, repo) == names - {"data/rows-00001.arrow"}, "what the new store has not is gone"


def test_the_adapter_is_shaped_as_langchains(model):
    adapter = LlinkEmbeddings(model)
    documents = adapter.embed_documents(TEXTS)
    assert np.allclose(documents, model.encode(TEXTS), atol=1e-6)
    assert np.allclose(adapter.embed_query("a dog"), model.encode("a dog", side="english"), atol=1e-6)
    assert adapter.embed_documents([]) == []
    assert {type(number) for vector in documents for number in vector} == {float}


KILLED = """
import os, signal, sys
from llink import LlinkForCausalLM, SlotStore
from llink.store import shards, slot_store
slot_store.SHARD = 2
model, folder, stop = LlinkForCausalLM.from_pretrained(sys.argv[1]), sys.argv[2], sys.argv[3]
texts = [f"text {number}" for number in range(12)]
replace, written = os.replace, []
def dies(source, target):
    written.append(target)
    if len(written) == int(stop):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
shards.os.replace = dies
print(len(SlotStore.build(model, texts, folder)))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_is_gone_on_with(folder, tmp_path):
    """Killed when a file is written and not yet listed, the same call loses and doubles nothing."""

    def runs(stop):
        words = [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "store"), str(stop)]
        return subprocess.run(words, capture_output=True, text=True, env=os.environ)

    done = runs(4)  # the manifest, then one of each file
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    files = sorted(path.name for path in (tmp_path / "store" / "data").iterdir())
    model = LlinkForCausalLM.from_pretrained(folder)
    assert len(SlotStore.load(tmp_path / "store", model)) == 4
    assert len(files) == 3, "vacuous unless a file was left that is not listed"
    done = runs(0)
    assert (done.returncode, done.stdout.strip()) == (0, "12"), done.stderr[-2000:]
    assert SlotStore.load(tmp_path / "store", model).rows["text"] == [f"text {number}" for number in range(12)]


@pytest.mark.slow
def test_two_runs_do_not_write_one_store(folder, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from llink.store.shards import Shards\n"
        "with Shards(Path(sys.argv[1])).locked():\n    print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "store")], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline().strip() == b"locked"
        model = LlinkForCausalLM.from_pretrained(folder)
        with pytest.raises(StoreError, match="Another run is writing"):
            SlotStore.build(model, TEXTS, tmp_path / "store")
        other.kill()
    for _ in range(50):
        try:
            assert len(SlotStore.build(model, TEXTS, tmp_path / "store")) == 5
            break
        except StoreError:
            time.sleep(0.1)
    else:
        pytest.fail("a killed run's lock stays")
