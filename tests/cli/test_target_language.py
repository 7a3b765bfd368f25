"""A decoder that answers in another language than English: the whole way, as a user types it, from Amharic to Khmer."""

import json
import random
import re
from dataclasses import replace

import pytest
from datasets import Dataset, concatenate_datasets, load_dataset

from llink import LlinkForCausalLM, read_pairs
from llink.cli import main
from llink.data.errors import DataError
from llink.data.instructions import instruction_dataset, read_instructions, translation_instructions
from llink.data.pairs import apart_from, check_pairs, overlapping_rows, sentences, split_pairs
from llink.data.scripts import LANGUAGE_SCRIPTS, length_ratio
from llink.data.synthesis.filters import Example, FilterRules, first_fault
from llink.data.synthesis.prompts import Prompts
from llink.data.synthesis.tasks import TASK_TABLE
from llink.data.target import LANGUAGE_NAMES, language_name, translation_prompt
from llink.errors_llink import LlinkConfigError
from llink.evaluation.numeric import entity_rows, kind_counts, numeric_metrics, source_metrics
from llink.evaluation.outputs import read_outputs
from llink.evaluation.translation import bleu, bleu_tokenizer

_AMHARIC = "ቫይረሱ በሽታው ሰዎች ሳል ትኩሳት ሐኪም እጅ መታጠብ ውሃ ቤት ትምህርት ልጆች ጭንብል ምርመራ ክትባት ከተማ ዛሬ ብዙ አዲስ ሆስፒታል"
_KHMER = "មេរោគ ជំងឺ មនុស្ស ក្អក គ្រុនក្តៅ គ្រូពេទ្យ ដៃ លាង ទឹក ផ្ទះ សាលា ក្មេង ម៉ាស តេស្ត វ៉ាក់សាំង ទីក្រុង ថ្ងៃ ច្រើន ថ្មី ពេទ្យ"
AMHARIC, KHMER = _AMHARIC.split(), _KHMER.split()
QUICK = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--report_to", "none", "--use_cpu"]
QUICK += ["--save_strategy", "no", "--seed", "5", "--disable_tqdm", "true"]


def texts(number, seed=0):
    """Distinct Amharic and Khmer sentences, word by word."""
    rng = random.Random(seed)
    rows = [rng.sample(range(len(KHMER)), rng.randint(4, 8)) for _ in range(number)]
    return [" ".join(AMHARIC[k] for k in row) + "።" for row in rows], ["".join(KHMER[k] for k in row) for row in rows]


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """What `llink prepare` makes of 80 good pairs and four that are not Amharic and Khmer."""
    folder = tmp_path_factory.mktemp("am-km")
    amharic, khmer = texts(80)
    bad = [
        ("The virus spreads.", khmer[0]),
        (amharic[1], "The virus spreads."),
        (khmer[2], amharic[2]),
        (khmer[3],) * 2,
    ]
    am = write_lines(folder / "all.am", [*amharic, *(foreign for foreign, _ in bad)])
    km = write_lines(folder / "all.km", [*khmer, *(target for _, target in bad)])
    command = ["prepare", "--input", km, am, "--language", "am", "--target-language", "km", "--workers", "0"]
    assert main([*command, "--splits", "train=60", "held_out=20", "--output-dir", str(folder / "data")]) == 0
    return folder / "data"


# --- rows


def test_prepare_follows_the_script_of_the_target(prepared, tmp_path):
    manifest = json.loads((prepared / "manifest.json").read_text("utf-8"))
    dropped = {step["name"]: step["dropped"] for step in manifest["steps"] if step.get("dropped")}
    assert (dropped["copy"], dropped["script"]) == (1, 3)
    (script,) = (step for step in manifest["steps"] if step["name"] == "script")
    assert script["examples"][0].keys() == {"id", "target", "foreign"}
    assert manifest["options"]["ratio"] == list(length_ratio("Ethi", "Khmr"))
    data = load_dataset(str(prepared), split="train", cache_dir=str(tmp_path))
    assert data.column_names == ["id", "target", "foreign", "language", "target_language"]
    card = (prepared / "README.md").read_text("utf-8")
    assert "Khmer–am sentence pairs" in card
    assert "English" not in card
    lines = read_pairs(prepared / "train.km", prepared / "train.am", "am", "km")
    folder = read_pairs(prepared, "train")
    assert [folder[name] for name in folder.column_names[1:]] == [lines[name] for name in lines.column_names[1:]]
    with pytest.raises(DataError, match=r"'th'.*is 'km'"):
        read_pairs(prepared, "train", target_language="th")


def test_target_is_another_name_of_english(prepared):
    """Vacuous unless pairs of both names share rows."""
    pairs = read_pairs(prepared, "train")
    english = pairs.rename_column("target", "english").remove_columns("target_language")
    check_pairs(pairs)
    assert sentences(pairs, "english") == english["english"] == pairs["target"]
    assert overlapping_rows(pairs, english.select([3])) == [3]
    assert len(apart_from(pairs, {"dev": english.select([3, 4])})) == len(pairs) - 2
    assert len(apart_from(english, {"dev": pairs.select([0])})) == len(english) - 1
    assert split_pairs(pairs, {"a": 5, "b": -1}, 0)["a"].column_names == pairs.column_names
    both = pairs.add_column("english", pairs["target"])
    row = {"foreign": "ሳል", "prompt": "<foreign_emb>", "completion": "ក្អក", "target": "ក្អក"}
    assert instruction_dataset([row])["english"][:] == ["ក្អក"]
    for call in (
        lambda: check_pairs(both),
        lambda: sentences(both, "english"),
        lambda: instruction_dataset([{**row, "english": "cough"}]),
        lambda: translation_instructions(both),
    ):
        with pytest.raises(DataError, match="english and target are two names of one side"):
            call()
    with pytest.raises(DataError, match="lacks the columns \\['english'\\]"):
        check_pairs(pairs.remove_columns("target"))


def test_translations_are_asked_for_by_the_language_of_the_row(prepared):
    khmer = read_pairs(prepared, "train").select([0])
    rows = translation_instructions(khmer)
    assert rows[0]["prompt"] == "Translate to Khmer.\n<foreign_emb>"
    assert (rows[0]["task"], rows[0]["completion"]) == ("translate", khmer[0]["target"])
    english = Dataset.from_dict({"id": ["1"], "english": ["A cough."], "foreign": ["ሳል"]})
    assert translation_instructions(english)[0]["prompt"] == "Translate to English.\n<foreign_emb>"
    assert translation_instructions(english)[0]["task"] == "translate_to_english"
    assert translation_instructions(khmer, "Say it.")[0]["prompt"] == "Say it.\n<foreign_emb>"
    several = concatenate_datasets([khmer, khmer.map(lambda row: {"target_language": "th"})])
    assert [row["prompt"][:15] for row in translation_instructions(several)] == ["Translate to Kh", "Translate to Th"]


def test_languages_have_names():
    assert set(LANGUAGE_NAMES) == set(LANGUAGE_SCRIPTS)
    assert translation_prompt("zh-Hant") == "Translate to Chinese."
    with pytest.raises(LlinkConfigError, match=r"no English name of the language 'xx'.*km.*prompt="):
        language_name("xx")


# --- examples of Stage B


def test_rules_write_translations_into_any_language_and_questions_into_english(prepared, tmp_path, capsys):
    command = ["synthesize", "--pairs", str(prepared), "train", "--rule-made", "--splits", "all=-1", "--output-dir"]
    assert main([*command, str(tmp_path / "rows")]) == 0
    rows = read_instructions(tmp_path / "rows/all.jsonl")
    targets = set(read_pairs(prepared, "train")["target"])
    assert set(rows["task"]) == {"translate"}
    assert set(rows["completion"]) == set(rows["english"]) == targets, "every pair gives one"
    assert any(prompt == "Translate to Khmer.\n<foreign_emb>" for prompt in rows["prompt"])
    assert all("Khmer" in prompt and "English" not in prompt for prompt in rows["prompt"])
    capsys.readouterr()
    for tasks in (["qa_about_text"], ["translate=1", "qa_about_text=1"]):
        assert main([*command, str(tmp_path / "questions"), "--tasks", *tasks]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "Rules write English" in said
        assert "--model in place of --rule-made), or the translation task (--tasks translate)" in said
    assert main([*command, str(tmp_path / "thai"), "--target-language", "th"]) == 2
    assert "but that of" in capsys.readouterr().err


def test_a_model_is_asked_for_the_target_language(prepared, tmp_path, capsys):
    command = ["synthesize", "--pairs", str(prepared), "train", "--model", "x", "--url", "http://localhost:1/v1"]
    command += ["--dry-run", "--splits", "all=-1", "--examples-per-pair", "6", "--output-dir", str(tmp_path / "out")]
    assert main(command) == 0
    calls = int(re.search(r"calls\D+(\d+)", capsys.readouterr().out)[1])
    assert calls > 2 * 60, "Khmer texts without spaces are not too short for the tasks"
    for task in TASK_TABLE:
        (first, *_, last) = Prompts(TASK_TABLE, None, "Khmer").messages(task, "អត្ថបទ")
        assert "says, in Khmer" in first["content"]
        assert "the answer is in Khmer" in first["content"]
        assert last["content"] == "Text: អត្ថបទ"
        assert "Khmer" not in Prompts(TASK_TABLE).messages(task, "text")[0]["content"]


TEXT = "ក្មេង ១២ នាក់ ទៅ សាលា នៅ ថ្ងៃ ចន្ទ ជាមួយ គ្រូ"
ANSWERS = {
    None: "នៅ ថ្ងៃ ចន្ទ ក្មេង 12 នាក់ ទៅ សាលា",
    "language": "On Monday 12 children go to school.",
    "leaked": "ក្មេង ልጆች ទៅ សាលា",
    "numbers": "ក្មេង ១៣ នាក់ ទៅ សាលា",
    "shape": TEXT,
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_filters_follow_the_target(fault):
    rules = FilterRules("Ethi", "km", "Khmr")
    example = Example("1", TEXT, "ልጆች", "paraphrase", "Say it in other Khmer words: <foreign_emb>", ANSWERS[fault])
    assert first_fault(example, rules) == fault


def test_one_script_on_both_sides_leaks_only_the_text_itself():
    example = Example("1", "ልጆቹ ሄዱ ዛሬ ማታ", "ቈልዑ ከይዶም", "translate_to_english", "Say it: <foreign_emb>", "ልጆቹ ሄዱ ዛሬ ማታ")
    rules = FilterRules("Ethi", "am", "Ethi")
    assert first_fault(example, rules) is None
    assert first_fault(replace(example, answer="ልጆቹ ቈልዑ ከይዶም"), rules) == "leaked"
    chinese = FilterRules("Jpan", "zh", "Hani")
    leaked = Example("1", "孩子", "子供は", "translate_to_english", "Say it: <foreign_emb>", "孩子は")
    assert first_fault(leaked, chinese) == "leaked"


# --- the way from pairs to a decoder that answers


@pytest.fixture(scope="module")
def trained(prepared, base_folder, tmp_path_factory):
    """The folder of a Stage B model that `align`, `lexicon` and `inject` made, two steps each."""
    out = tmp_path_factory.mktemp("trained")
    pairs = ["--pairs", str(prepared), "train", "--eval_pairs", str(prepared), "held_out"]
    bases = ["--encoder", str(base_folder("encoder", "xlm-roberta")), "--decoder", str(base_folder("decoder", "llama"))]
    model = ["--num_slots", "3", "--teacher_components", "8"]
    assert main(["align", *bases, *pairs, *model, *QUICK, "--output_dir", str(out / "a")]) == 0
    assert main(["lexicon", "--model", str(out / "a"), *pairs, *QUICK, "--output_dir", str(out / "words")]) == 0
    rows = ["synthesize", "--pairs", str(prepared), "train", "--rule-made", "--splits", "train=-1", "--foreign-length"]
    assert main([*rows, "1", "256", "--output-dir", str(out / "rows")]) == 0
    given = ["--model", str(out / "words"), "--instructions", str(out / "rows/train.jsonl")]
    assert main(["inject", *given, *QUICK, "--output_dir", str(out / "b")]) == 0
    return out


def test_stages_train_on_pairs_neither_side_of_which_is_english(trained):
    metrics = json.loads((trained / "words/eval_results.json").read_text("utf-8"))
    assert metrics["eval_known"] > 0, "the vocabulary is of the Khmer side"
    assert json.loads((trained / "a/eval_results.json").read_text("utf-8"))["eval_r@1"] >= 0
    answer = LlinkForCausalLM.from_pretrained(trained / "b").generate(
        foreign_text="ሳል", prompt="Translate to Khmer.", max_new_tokens=2
    )
    assert answer.shape[0] == 1


def test_translations_are_scored_as_their_language_is_written(prepared, trained, capsys):
    command = ["eval", "translation", "--model", str(trained / "b"), "--limit", "2", "--max-new-tokens", "2"]
    assert main([*command, "--pairs", str(prepared), "held_out", "--output-dir", str(trained / "eval")]) == 0
    assert "Translations into 'km'; BLEU's tokenizer: char." in capsys.readouterr().out
    record = json.loads((trained / "eval/translation.json").read_text("utf-8"))
    assert (record["arguments"]["target_language"], record["arguments"]["bleu_tokenizer"]) == ("km", "char")
    outputs = ["eval", "outputs", "--model", str(trained / "b"), "--instructions", str(trained / "rows/train.jsonl")]
    assert main([*outputs, "--limit", "2", "--max-new-tokens", "2", "--output-dir", str(trained / "eval")]) == 0
    (row, _) = read_outputs(trained / "eval/outputs/llink.jsonl")
    assert (row.task, row.english) == ("translate", row.reference)
    finished = ["--outputs", str(trained / "eval/outputs/llink.jsonl")]
    assert main(["eval", "translation", *finished, "--target-language", "km"]) == 0
    assert "tokenizer: char" in capsys.readouterr().out
    assert main(["eval", "numeric", *finished, "--target-language", "km"]) == 0
    assert "in 'km' only digits, codes and addresses are counted" in capsys.readouterr().out


def test_tokenizers_of_bleu():
    found = {tag: bleu_tokenizer(tag) for tag in ("en", "fr", "am", "hi", "zh-Hant", "ja", "km", "ko")}
    wanted = dict(en="13a", fr="13a", am="intl", hi="intl", km="char", ja="char", ko="intl")
    assert found == wanted | {"zh-Hant": "zh"}
    near, far = ["ក្មេងទៅសាលា"], ["ឆ្កែរត់លើទឹក"]
    assert bleu(near, ["ក្មេងទៅសាលារៀន"], "km") > bleu(far, ["ក្មេងទៅសាលារៀន"], "km")
    assert bleu(near, ["ក្មេងទៅសាលារៀន"]) == 0, "vacuous unless English's tokenizer sees one long word"


def test_numbers_of_other_languages_are_digits():
    references = ["មាន ៤.០០០ នាក់ នៅ ឆ្នាំ ២០២០", "គ្មានលេខ"]
    found = numeric_metrics(["មាន 4000 នាក់ ២០២១", "may 5"], references, 0, language="km")
    assert (found["kinds"]["number"]["recall"], found["n_with_entities"]) == (0.5, 1)
    assert found["kinds"]["number"]["precision"] == pytest.approx(1 / 3)
    assert kind_counts(["two in May 2020"], "km") == {"number": 1}
    source = source_metrics(["មាន ៤០០០"], ["4,000 ሰዎች"], 0, language="km")
    assert source["kinds"]["all"]["recall"] == 1
    assert entity_rows(["May", "ថ្ងៃ ៥"], ["ሳል", "ሳል"], "km") == [1]


def test_the_suite_of_numbers_is_english(tmp_path, capsys):
    assert main(["eval", "numeric", "--model", str(tmp_path), "--target-language", "km"]) == 2
    assert "the answers of the suite are English. Give --pairs, or --outputs." in capsys.readouterr().err
