"""`llink prepare` from files to a folder: what it writes, that it is always the same, and what it refuses."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hub_server
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard
from prepare_files import make_pairs, write_moses, write_table, write_tmx

import llink
from llink.cli import main
from llink.cli import prepare as prepare_command
from llink.data import data_card
from llink.data import prepare as prepare_module
from llink.data.characters import sentence_keys
from llink.data.data_card import check_repository, push_folder
from llink.data.errors import DataError
from llink.data.pairs import check_training_pairs, read_pairs
from llink.data.prepare import CLEANING, prepare
from llink.data.prepare_config import PrepareConfig
from llink.data.prepared_folder import check_files
from llink.errors_llink import LlinkConfigError

CORPORA = Path(llink.__file__).parent.parent / "shared" / "corpora"
SPLITS = ["train=150", "held_out=60"]


def config(folder, *files, **options):
    options = {"language": "km", "workers": 0, "splits": SPLITS, **options}
    return PrepareConfig(str(folder), [str(file) for file in files], **options)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def everything(folder):
    """Every sentence of a prepared folder: side → split → set."""
    found = {"english": {}, "foreign": {}}
    for path in sorted((folder / "data").glob("*.parquet")):
        split = path.name.split("-")[0]
        pairs = read_pairs(folder, split)
        for side, splits in found.items():
            splits[split] = set(sentence_keys(pairs[side][:]).tolist())
    return found


def dirty_pairs():
    """300 good pairs and, after each tenth, one that some step drops."""
    english, foreign = make_pairs(1, seed=9)[0]
    bad = [
        ("", foreign),
        ("…", foreign),
        (english, "\ufffd" + foreign),
        (english, english.upper()),
        ("It", foreign),
        ("No, no.", foreign * 3),
        ("Дом очень большой и старый.", foreign),
        (english, "Mostly Latin here, ធំ"),
    ]
    pairs = make_pairs(300)
    rows = []
    for number, pair in enumerate(pairs):
        rows.append(pair)
        if number % 10 == 9:
            rows.append(bad[number // 10 % len(bad)])
    return [*rows, pairs[0], (pairs[1][0], "ប្រយោគថ្មីមួយទៀត។"), ("A new sentence.", pairs[2][1])]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of one run over a TMX file, its manifest and timings."""
    folder = tmp_path_factory.mktemp("prepared")
    path = write_tmx(folder / "corpus.tmx.gz", dirty_pairs())
    manifest, seconds = prepare(config(folder / "out", path, source="paracrawl-en-km"))
    return folder / "out", manifest, seconds


# --- what it writes


def test_the_folder_loads_with_datasets(prepared, tmp_path):
    folder, manifest, _ = prepared
    data = load_dataset(str(folder), cache_dir=str(tmp_path))
    counts = {split["name"]: split["pairs"] for split in manifest["splits"]}
    assert {name: len(split) for name, split in data.items()} == counts
    assert counts["held_out"] == 60
    for split in data.values():
        assert split.column_names == ["id", "english", "foreign", "language"]
        assert set(split["language"]) == {"km"}
        assert all(value.startswith("corpus.tmx.gz:") for value in split["id"])
    originals = dict(enumerate(dirty_pairs(), 1))
    for row in data["train"]:
        assert (row["english"], row["foreign"]) == originals[int(row["id"].partition(":")[2])], "nothing is cut"


def test_the_trainers_read_it(prepared):
    folder, _, _ = prepared
    train, held_out = (read_pairs(folder, split) for split in ("train", "held_out"))
    lines = read_pairs(folder / "train.en", folder / "train.km", "km")
    assert lines["english"] == train["english"]
    assert lines["foreign"] == train["foreign"]
    check_training_pairs(train, {"held_out": held_out}, 10)


def test_nothing_stands_twice_or_in_two_splits(prepared):
    found = everything(prepared[0])
    for side, splits in found.items():
        assert not splits["train"] & splits["held_out"]
        assert sum(map(len, splits.values())) == sum(len(read_pairs(prepared[0], split)[side]) for split in splits)


def test_the_manifest_accounts_for_every_pair(prepared):
    folder, manifest, _ = prepared
    assert json.loads((folder / "manifest.json").read_text("utf-8")) == manifest
    steps = {step["name"]: step for step in manifest["steps"]}
    left = len(dirty_pairs())
    for step in manifest["steps"]:
        assert step["rows_in"] == left
        left = step["rows_out"]
        assert step["rows_in"] - step["rows_out"] == step.get("dropped", 0)
        assert len(step["examples"]) == min(5, step.get("dropped", step.get("changed")))
    assert left == sum(split["pairs"] for split in manifest["splits"])
    dropped = {name: steps[name]["dropped"] for name in ("empty", "damaged", "copy", "length", "ratio", "script")}
    assert dropped == {"empty": 8, "damaged": 4, "copy": 4, "length": 4, "ratio": 4, "script": 6}
    assert steps["duplicate"]["dropped"] + steps["split_conflict"]["dropped"] >= 3
    for example in steps["duplicate"]["examples"]:
        because = example["because_of"]
        assert because["english"] == example["english"] or because["foreign"] == example["foreign"]
    assert manifest["inputs"][0]["files"][0]["sha256"] == _sha(folder.parent / "corpus.tmx.gz")
    assert manifest["options"]["foreign_length"] == [3, 1000], "options are resolved"
    assert set(manifest["versions"]) == {"llink", "python", "unicode", "numpy", "pyarrow", "datasets"}


def _sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_checksums_cover_every_other_file(prepared):
    folder, _, _ = prepared
    listed = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert listed == {name: _sha(folder / name) for name in contents(folder) if name != "SHA256SUMS"}
    check_files(folder)


def test_the_card_says_where_it_is_from(prepared):
    folder, manifest, _ = prepared
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "cc0-1.0"
    assert card.data.language == ["en", "km"]
    assert card.data.size_categories == ["n<1K"]
    assert "@inproceedings{banon-etal-2020-paracrawl" in card.text
    for split in manifest["splits"]:
        assert f"| {split['name']} | {split['pairs']} |" in card.text
    for step in manifest["steps"]:
        assert f"| {step['name']} |" in card.text
    assert "{%" not in card.text


def test_the_time_is_told_by_part(prepared):
    seconds = prepared[2]
    assert {"checking", "reading and cleaning", "duplicates and splits", "writing"} <= set(seconds)
    assert f"{CLEANING}step script" in seconds
    assert all(spent.processor >= 0 for spent in seconds.values())
    assert {name for name, spent in seconds.items() if spent.wall is None} == {
        name for name in seconds if name.startswith(CLEANING)
    }


# --- always the same


@pytest.mark.slow
def test_processes_and_blocks_change_no_byte(prepared, tmp_path, monkeypatch):
    path = prepared[0].parent / "corpus.tmx.gz"
    monkeypatch.setattr(prepare_module, "BLOCK_ROWS", 37)
    prepare(config(tmp_path / "a", path, source="paracrawl-en-km"))
    prepare(config(tmp_path / "b", path, source="paracrawl-en-km", workers=2))
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(prepared[0])


def test_every_format_gives_the_same_pairs(prepared, tmp_path):
    pairs = [(english, foreign) for english, foreign in dirty_pairs()]
    inputs = {
        "moses": write_moses(tmp_path, "corpus", pairs, "xz"),
        **{
            ending: [write_table(tmp_path / f"corpus.{ending}", pairs)] for ending in ("tsv", "csv", "jsonl", "parquet")
        },
    }
    expected = contents(prepared[0])
    for name, files in inputs.items():
        prepare(config(tmp_path / f"out-{name}", *files))
        found = contents(tmp_path / f"out-{name}")
        for file in ("train.en", "train.km", "held_out.en", "held_out.km"):
            assert found[file] == expected[file], (name, file)
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    write_table(dataset / "train.parquet", pairs)
    prepare(PrepareConfig(str(tmp_path / "hub"), dataset=str(dataset), language="km", splits=SPLITS, workers=0))
    assert contents(tmp_path / "hub")["train.km"] == expected["train.km"]


def test_no_sentence_crosses_when_more_data_comes(tmp_path):
    """The same sentences in both languages stand beside others in the second, larger corpus, in another order."""
    first = make_pairs(400)
    english, foreign = zip(*first, strict=True)
    mixed = list(zip(english[:200], foreign[200:], strict=True))
    small = write_tmx(tmp_path / "small.tmx", first)
    large = write_tmx(tmp_path / "large.tmx", make_pairs(200, seed=5) + mixed + first[::-1])
    splits = ["train=-1", "held_out=-1"]
    for rule in ("english", "both"):
        runs = []
        for name, path in (("small", small), ("large", large)):
            folder = tmp_path / f"{name}-{rule}"
            manifest, _ = prepare(
                config(folder, path, splits=splits, shares=[0.6, 0.4], split_by=rule, duplicates="pair")
            )
            runs.append(everything(folder))
        conflicts = next(step for step in manifest["steps"] if step["name"] == "split_conflict")
        assert conflicts["dropped"] > 50, "vacuous unless sentences would have crossed"
        for side in ("english", "foreign"):
            for one, other in ((0, 0), (0, 1), (1, 0), (1, 1)):
                assert not runs[one][side]["train"] & runs[other][side]["held_out"]
            assert runs[0][side]["held_out"] & runs[1][side]["held_out"], "vacuous unless sentences come again"


def test_options_reach_the_steps(tmp_path):
    path = write_tmx(tmp_path / "a.tmx", [*make_pairs(40), ("Hi.", "សួស្តី"), ("word " * 30, "ពាក្យ " * 30)])
    base = config(tmp_path / "x", path, splits=["all=-1"], near_duplicate_similarity=1.0)

    def rows(name, **options):
        manifest, _ = prepare(replace(base, output_dir=str(tmp_path / name), **options))
        return manifest["splits"][0]["pairs"]

    assert rows("all") == 42
    assert rows("long", english_length=[5, 1000]) == 41
    assert rows("short", foreign_length=[1, 100]) == 41
    assert rows("ratio", ratio=[0.5, 0.9]) < 40
    assert rows("skip", english_length=[5, 100], skip=["length"]) == 42
    assert rows("few", splits=["all=7"]) == 7
    assert not list((tmp_path / "few").glob("*.km.partial"))
    rows("no_lines", parquet_only=True)
    assert sorted(contents(tmp_path / "no_lines")) == [
        *("README.md", "SHA256SUMS", "data/all-00000-of-00001.parquet", "manifest.json")
    ]


def test_shards_and_row_groups(tmp_path, monkeypatch):
    from llink.data import prepared_folder

    path = write_tmx(tmp_path / "a.tmx", make_pairs(100))
    prepare(config(tmp_path / "one", path, splits=["all=-1"]))
    monkeypatch.setattr(prepared_folder, "_SHARD_ROWS", 30)
    monkeypatch.setattr(prepared_folder, "_GROUP_ROWS", 8)
    monkeypatch.setattr(prepare_module, "BLOCK_ROWS", 17)
    manifest, _ = prepare(config(tmp_path / "several", path, splits=["all=-1"]))
    names = [name for name in contents(tmp_path / "several") if name.endswith(".parquet")]
    assert sorted(names) == [f"data/all-0000{shard}-of-00004.parquet" for shard in range(4)]
    assert manifest["splits"][0]["files"][:4] == sorted(names)
    assert read_pairs(tmp_path / "several", "all")[:] == read_pairs(tmp_path / "one", "all")[:]


# --- what it refuses


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (LlinkConfigError, {"language": None}, "Give --language"),
        (LlinkConfigError, {"language": "en-GB"}, "cannot be English"),
        (LlinkConfigError, {"language": "tlh"}, "give --script"),
        (LlinkConfigError, {"script": "Xxxx"}, "no script 'Xxxx'"),
        (LlinkConfigError, {"source": "paracrawl"}, "no source 'paracrawl'"),
        (LlinkConfigError, {"source": "paracrawl-en-km", "language": "my"}, "is in 'km'"),
        (LlinkConfigError, {"splits": ["train"]}, "NAME=PAIRS"),
        (LlinkConfigError, {"skip": ["split_conflict"]}, "the steps are empty, damaged"),
        (LlinkConfigError, {"zero_width_space": "drop"}, "none of keep, remove, space"),
        (LlinkConfigError, {"duplicates": "both"}, "none of either, pair"),
        (LlinkConfigError, {"split_by": "foreign"}, "none of english, both"),
        (LlinkConfigError, {"format": "xml"}, "none of tmx, moses"),
        (LlinkConfigError, {"columns": ["a"]}, "takes two names"),
        (LlinkConfigError, {"english_length": [9, 3]}, "the fewest and the most"),
        (LlinkConfigError, {"ratio": [1]}, "two numbers"),
        (LlinkConfigError, {"min_script_share": 50}, "between 0 and 1"),
        (LlinkConfigError, {"near_duplicate_similarity": -1}, "between 0 and 1"),
        (LlinkConfigError, {"workers": -1}, "0 .this process. or more"),
        (LlinkConfigError, {"dataset": "x"}, "either --input FILE… or --dataset"),
    ],
)
def test_options_that_make_no_sense(error, options, message):
    with pytest.raises(error, match=message):
        config("out", "a.tmx", **options)


def test_bad_input_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.tmx"
    path.write_text("<tmx><body><tu>")
    with pytest.raises(DataError, match="truncated"):
        prepare(config(tmp_path / "out", path))
    with pytest.raises(DataError, match="No such file"):
        prepare(config(tmp_path / "out", tmp_path / "gone.tmx"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tmx"]


def test_a_split_without_pairs(tmp_path):
    path = write_tmx(tmp_path / "a.tmx", [("…", "ក"), ("It", "ខ្ញុំ")])
    with pytest.raises(DataError, match=r"No pair is left for train, held_out. 2 pairs were read; dropped: empty"):
        prepare(config(tmp_path / "out", path))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def again(tmp_path):
    """A function (options) → runs over the same small file into the same folder."""
    path = write_tmx(tmp_path / "a.tmx", make_pairs(60))

    def run(**options):
        return prepare(config(tmp_path / "out", path, splits=["all=-1"], **options))

    return run


def test_the_same_again_does_nothing_and_other_options_need_a_word(again, tmp_path):
    manifest, _ = again()
    before = contents(tmp_path / "out")
    assert again() == (manifest, {})
    with pytest.raises(DataError, match=r"prepared otherwise: duplicates='either'\..*--overwrite"):
        again(duplicates="pair")
    assert contents(tmp_path / "out") == before
    assert again(duplicates="pair", overwrite=True)[0]["options"]["duplicates"] == "pair"
    again(overwrite=True)
    assert contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tmx", "out"]


def test_other_input_needs_a_word(again, tmp_path):
    again()
    write_tmx(tmp_path / "a.tmx", make_pairs(61))
    with pytest.raises(DataError, match="other inputs"):
        again()
    assert again(overwrite=True)[0]["splits"][0]["pairs"] == 61


def test_a_folder_that_is_not_ours_is_never_touched(again, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("three years of work")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="was not made by llink prepare"):
            again(overwrite=overwrite)
    (tmp_path / "out" / "thesis.txt").unlink()
    again()
    (tmp_path / "out" / "notes.txt").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"also holds notes\.txt"):
            again(overwrite=overwrite)
    (tmp_path / "out" / "notes.txt").unlink()
    (tmp_path / "out" / "all.en").write_text("changed")
    with pytest.raises(DataError, match=r"all\.en is missing or changed"):
        again()
    again(overwrite=True)
    check_files(tmp_path / "out")


def test_places_that_cannot_be_written(tmp_path):
    path = write_tmx(tmp_path / "a.tmx", make_pairs(5))
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="was not made by"):
        prepare(config(tmp_path / "file", path))
    with pytest.raises(DataError, match=r"Cannot write .*file"):
        prepare(config(tmp_path / "file" / "out", path))
    with pytest.raises(DataError, match="Cannot write"):
        prepare(config("/proc/out", path))


FULL = """
import resource, sys
from llink.data.prepare import prepare
from llink.data.prepare_config import PrepareConfig
if __name__ == "__main__":
    config = PrepareConfig(sys.argv[2], [sys.argv[1]], language="km", splits=["all=-1"], workers=int(sys.argv[3]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        prepare(config)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.slow
def test_a_full_disk_is_told_and_work_goes_on_later(tmp_path, workers):
    """A limit on the size of files stands in for a full disk: writing fails in the middle of a file."""
    path = write_tmx(tmp_path / "a.tmx.gz", make_pairs(600))
    script = tmp_path / "full.py"
    script.write_text(FULL)
    done = subprocess.run(
        [sys.executable, script, path, tmp_path / "out", str(workers)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "DataError: Cannot write" in done.stderr
    assert "the same command goes on" in done.stderr
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial").is_dir()
    manifest, _ = prepare(config(tmp_path / "out", path, splits=["all=-1"]))
    assert manifest["splits"][0]["pairs"] > 500
    assert not (tmp_path / "out.partial").exists()


# --- the Hub


class FakeHub:
    """Takes what is pushed."""

    def __init__(self, user="someone"):
        self.user, self.calls = user, []

    def __call__(self):
        return self

    def whoami(self):
        if self.user is None:
            raise OSError("401")
        return {"name": self.user}

    def create_repo(self, repo_id, **options):
        self.calls.append(("create", repo_id, options))

    def upload_folder(self, **options):
        self.calls.append(("upload", contents(Path(options["folder_path"])), options))
        return "https://hub/commit/1"


def test_pushing(prepared, monkeypatch):
    hub = FakeHub()
    monkeypatch.setattr(data_card, "HfApi", hub)
    check_repository("someone/en-km")
    assert push_folder(prepared[0], "someone/en-km", private=True) == "https://hub/commit/1"
    create, upload = hub.calls
    assert create == ("create", "someone/en-km", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert upload[1] == contents(prepared[0])
    assert upload[2]["repo_type"] == "dataset"
    hub.upload_folder = lambda **options: (_ for _ in ()).throw(OSError("disconnected"))
    with pytest.raises(DataError, match=r"The data is in .*disconnected.*tries again"):
        push_folder(prepared[0], "someone/en-km", private=False)


@pytest.mark.slow
def test_a_folder_goes_to_a_hub_and_comes_back(prepared, tmp_path, monkeypatch, capsys):
    """Pushed through the real client to a real server, with its card; and prepared anew from there."""
    rows = write_tmx(tmp_path / "en-km.tmx", make_pairs(60))
    arguments = ["prepare", "--input", str(rows), "--language", "km", "--output_dir", str(tmp_path / "out")]
    with hub_server.serving() as server:
        server.use(monkeypatch, tmp_path / "hf")
        assert main([*arguments, "--splits", "train=40", "dev=10", "--push_to_hub", f"{hub_server.USER}/en-km"]) == 0
        assert "Pushed: " in capsys.readouterr().out
        assert hub_server.pushed(server, f"{hub_server.USER}/en-km") == set(contents(tmp_path / "out"))
        server.download(f"{hub_server.USER}/en-km", tmp_path / "back")
        card = DatasetCard.load(tmp_path / "back" / "README.md")
        assert card.data.configs[0]["data_files"][0]["path"] == "data/train-*.parquet"
        assert main([*arguments, "--splits", "train=40", "dev=10", "--push_to_hub", "stranger/en-km"]) == 2
        assert "pushing it to stranger/en-km failed" in capsys.readouterr().err
    train = load_dataset(str(tmp_path / "back"), split="train", cache_dir=str(tmp_path / "cache"))
    assert train["english"][:] == read_pairs(tmp_path / "out", "train")["english"][:]


def test_a_push_that_cannot_work_is_refused_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data_card, "HfApi", FakeHub(user=None))
    path = write_tmx(tmp_path / "a.tmx", make_pairs(5))
    arguments = ["prepare", "--input", str(path), "--language", "km", "--output_dir", str(tmp_path / "out")]
    assert main([*arguments, "--push_to_hub", "someone/en-km"]) == 2
    assert "the Hub does not know you" in capsys.readouterr().err
    assert main([*arguments, "--push_to_hub", "not a name"]) == 2
    assert "is no name of a repository" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- as users type it


def test_the_command(tmp_path, monkeypatch, capsys):
    hub = FakeHub()
    monkeypatch.setattr(data_card, "HfApi", hub)
    path = write_tmx(tmp_path / "en-km.tmx.gz", dirty_pairs())
    arguments = ["prepare", "--source", "paracrawl-en-km", "--input", str(path), "--output_dir", str(tmp_path / "out")]
    arguments += [
        "--splits",
        "train=100",
        "held_out=40",
        "--workers",
        "0",
        "--push_to_hub",
        "someone/en-km",
        "--examples",
    ]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "| near_duplicate |" in shown
    assert "| train    | 100" in shown
    assert "copy: {'id': 'en-km.tmx.gz:" in shown
    assert "where the time went" in shown
    assert "Pushed: https://hub/commit/1" in shown
    assert f"llink align --pairs {tmp_path / 'out' / 'train.en'}" in shown
    assert main(arguments[:-3]) == 0
    assert "held this data already" in capsys.readouterr().out


def test_the_command_takes_a_file_of_options(tmp_path, capsys):
    path = write_table(tmp_path / "a.tsv", make_pairs(50), None)
    (tmp_path / "run.yaml").write_text(
        f"input: [{path}]\nlanguage: km\nsplits: [train=-1]\nworkers: 0\nparquet_only: true\n", "utf-8"
    )
    assert main(["prepare", "--config", str(tmp_path / "run.yaml"), "--output_dir", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "train.en").exists()
    assert "Train on it" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--list_sources"], ["--list-sources=true"], ["--config", "list.yaml"]], ids=str)
def test_sources_are_listed_without_anything_else(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("list_sources: true\n")
    assert main(["prepare", *words]) == 0
    shown = capsys.readouterr().out
    assert "| paracrawl-en-km " in shown
    assert "https://paracrawl.eu" in shown
    assert main(["prepare", "--list_sources", "no"]) == 2
    assert "required: --output_dir" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_command, "prepare", interrupted)
    path = write_tmx(tmp_path / "a.tmx", make_pairs(5))
    assert main(["prepare", "--input", str(path), "--language", "km", "--output_dir", str(tmp_path / "out")]) == 130
    assert "the same command goes on" in capsys.readouterr().err


# --- real text


@pytest.mark.corpora
@pytest.mark.skipif(not CORPORA.is_dir(), reason="the real corpora are not beside this folder")
@pytest.mark.parametrize(
    ("language", "name", "pairs", "least"),
    [
        ("km", "wmt20-newstest", 2320, 0.5),  # two translations of most sentences
        ("km", "wmt20-wikipedia", 2309, 0.5),
        ("km", "tico19", 2100, 0.98),
        ("my", "tico19", 2100, 0.98),
        ("am", "tico19", 2100, 0.98),
        ("ja", "tanaka-dev", 500, 0.9),
        pytest.param("ja", "tanaka-train", 50000, 0.8, marks=pytest.mark.slow),
    ],
)
def test_clean_corpora_pass_nearly_whole(tmp_path, language, name, pairs, least):
    files = [CORPORA / f"en-{language}" / f"{name}.{suffix}" for suffix in ("en", language)]
    splits = {"splits": ["train=-1", "held_out=-1"], "shares": [0.7, 0.3]}
    manifest, _ = prepare(config(tmp_path / "out", *files, language=language, **splits))
    steps = {step["name"]: step for step in manifest["steps"]}
    assert steps["invisible"]["rows_in"] == pairs
    lost = {name: step["dropped"] for name, step in steps.items() if step.get("dropped")}
    cleaned = steps["script"]["rows_out"]
    assert cleaned >= 0.99 * pairs, lost
    assert steps["split_size"]["rows_out"] >= least * pairs, lost
    found = everything(tmp_path / "out")
    for splits in found.values():
        assert not splits["train"] & splits["held_out"]
