"""Stage B examples from pairs without a server: plans, splits, filters, rule-made examples, and what is refused."""

import itertools
import json
import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from prepare_files import make_pairs, write_moses

from llink.cli import main
from llink.data.chat_client import json_objects
from llink.data.demo_corpus import demo_pairs
from llink.data.instructions import BUCKETS, TASKS, bucket_of, read_instructions
from llink.data.journal import Journal
from llink.data.splitting import parse_splits
from llink.data.synthesis.asking import Answer
from llink.data.synthesis.filters import (
    FILTERS,
    REASONS,
    REPEATED,
    Example,
    FilterRules,
    Wordings,
    first_fault,
    numbers_of,
)
from llink.data.synthesis.folder import ANSWERS, LOCK
from llink.data.synthesis.plan import Job, Planner
from llink.data.synthesis.prompts import Prompts, write_prompts
from llink.data.synthesis.queues import Queue
from llink.data.synthesis.rule_made import RULE_TASKS, made_by_rule
from llink.data.synthesis.tasks import TASK_TABLE, parse_mix, quotas, read_example
from llink.errors_llink import LlinkConfigError

KHMER = FilterRules("Khmr")
ENGLISH = "The library on Hill Street, which the flood in May 2021 damaged, will open again on Monday at 9:30."
GOOD = Example(
    "1", ENGLISH, "បណ្ណាល័យ", "paraphrase", "Reword this: <foreign_emb>", "On Monday the library will open again."
)


def pairs_of(rows):
    rows = list(rows)
    columns = {"id": [f"x:{n}" for n in range(len(rows))]}
    return Dataset.from_dict(columns | {"english": [e for e, _ in rows], "foreign": [f for _, f in rows]})


def plan(rows, sizes=("train=40", "held_out=10"), mix=None, length=(1, 256), per_pair=1, shares=None, seed=0):
    planner = Planner(parse_splits(sizes, shares), parse_mix(mix), length, per_pair, seed)
    return planner.plan(pairs_of(rows))


# --- the tasks


def test_every_task_of_the_paper_and_the_judge_has_a_row_a_prompt_and_a_bucket():
    assert set(TASK_TABLE) == set(TASKS) == {task for tasks in BUCKETS.values() for task in tasks}
    assert sum(task.share for task in TASK_TABLE.values()) == pytest.approx(1)
    prompts = Prompts(TASK_TABLE)
    for task in TASK_TABLE:
        messages = prompts.messages(task, "It <b>rains</b> & pours.")
        assert [message["role"] for message in messages] == ["user", "assistant"] * 3 + ["user"]
        assert messages[-1]["content"] == "Text: It <b>rains</b> & pours.", "not escaped"
        assert "{#" not in messages[0]["content"]
        for asked, answered in zip(messages[0:-1:2], messages[1::2], strict=True):
            text = re.search(r"Text: (.*)", asked["content"])[1]
            read = read_example(task, json_objects(answered["content"]), text)
            assert read is not None
            example = Example("1", text, "ក", task, *read)
            assert first_fault(example, KHMER) is None, "the examples keep the rules that they teach"


@given(size=st.integers(0, 5000), weights=st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_quotas_sum_to_the_size_and_keep_the_mix(size, weights):
    mix = parse_mix([f"{task}={weight}" for task, weight in zip(TASK_TABLE, weights, strict=False)])
    found = quotas(size, mix)
    assert sum(found.values()) == size
    assert all(abs(found[task] - size * share) < 1 for task, share in mix.items())
    assert set(quotas(-1, mix).values()) == {-1}


@pytest.mark.parametrize(
    "items", [["translate_it=1"], ["title=1", "title=2"], ["title=x"], ["title=-1"], ["title=0"], ["title=nan"], []]
)
def test_mixes_that_make_no_sense(items):
    with pytest.raises(LlinkConfigError, match="--tasks"):
        parse_mix(items)


@pytest.mark.parametrize(
    ("task", "answer", "read"),
    [
        ("title", '{"instruction": "a <foreign_emb>", "answer": " b "}', ("a <foreign_emb>", "b")),
        ("title", '```json\n{"answer": "b", "instruction": "a"}\n```', ("a", "b")),
        ("title", '<think>{"instruction": "x", "answer": "y"}</think> {"instruction": "a", "answer": "b"}', ("a", "b")),
        ("translate_to_english", '{"instruction": "a"}', ("a", ENGLISH)),
        ("bullet_pointify", '{"instruction": "a", "answer": ["b", "- c", " ", "2. d\\ne"]}', ("a", "- b\n- c\n- d e")),
        ("translate_to_english", '{"instruction": "a", "answer": "b"}', None),
        ("bullet_pointify", '{"instruction": "a", "answer": "b"}', None),
        ("bullet_pointify", '{"instruction": "a", "answer": [["b"]]}', None),
        ("title", '{"instruction": "a"}', None),
        ("title", '{"instruction": "a", "answer": null}', None),
        ("title", '{"instruction": "a", "answer": "b", "why": "c"}', None),
        ("title", '{"instruction": "a", "instruction": "c", "answer": "b"}', None),
        ("title", '{"instruction": "a", "answer": "b"} {"instruction": "a", "answer": "b"}', None),
        ("title", '{"instruction": "a", "answer": "b', None),
        ("title", '[{"instruction": ["a"], "answer": "b"}]', None),
        ("title", "Instruction: a. Answer: b.", None),
        ("title", "", None),
    ],
)
def test_answers_are_parsed_strictly(task, answer, read):
    assert read_example(task, json_objects(answer), ENGLISH) == read


@given(
    st.text()
    | st.recursive(st.text() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(json.dumps)
)
def test_no_answer_breaks_the_parser(answer):
    for task in TASK_TABLE:
        assert read_example(task, json_objects(answer), ENGLISH) is None


# --- the filters

FAULTS = {
    "empty": {"answer": "– …"},
    "placeholder": {"instruction": "Reword this: <foreign_emb> <foreign_emb>"},
    "damaged": {"answer": "On Monday the library will open \ufffd again."},
    "leaked": {"answer": "On Monday the បណ្ណាល័យ will open again."},
    "language": {"answer": "В понедельник библиотека откроется. The library will open."},
    "chatter": {"answer": "As an AI, I think the library will open again on Monday."},
    "given_away": {"instruction": f"Reword this: {ENGLISH} <foreign_emb>"},
    "numbers": {"answer": "On Monday the library will open again at 10:30."},
    "unsupported": {"answer": "Scientists discovered another planet."},
    "shape": {"answer": ENGLISH},
    "degenerate": {"answer": "The library will open again again again again on Monday."},
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_each_filter_drops_what_it_is_for(name):
    assert first_fault(GOOD, KHMER) is None, "vacuous unless the rest is good"
    assert first_fault(replace(GOOD, **FAULTS[name]), KHMER) == name


def test_guard_every_filter_is_tested():
    assert set(FAULTS) == set(FILTERS) < set(REASONS)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"instruction": "Reword this.", "answer": GOOD.answer}, "placeholder"),
        ({"answer": "The library <foreign_emb> will open again."}, "placeholder"),
        ({"instruction": "<foreign_emb>"}, "empty"),
        ({"answer": "The library will open on Monday at half past ten, as in 2021."}, "numbers"),
        ({"answer": "The library will open on Monday at half past nine, as in May 2021."}, None),
        ({"english": "Three men came.", "answer": "3 men came here."}, None),
        ({"english": "3 men came.", "answer": "There came three men."}, None),
        ({"english": "3 men came.", "answer": "There came four men."}, "numbers"),
        ({"english": "About 97.5% of 4,600 people came.", "answer": "Of 4600 people 97.5 % came."}, None),
        *(
            ({"english": f"There were {said} in it.", "answer": f"In it there were {answered}."}, "numbers")
            for said, answered in (
                ("9,500 books", "500 books"),
                ("9,500 books", "9 books"),
                ("15.50 dollars", "50 dollars"),
                ("15.50 dollars", "15 dollars"),
                ("guests at 9:30", "guests at 30"),
                ("guests at 9:30", "30 guests"),
                ("1,985 places", "985 places"),
                ("5 degrees", "-5 degrees"),
                ("-5 degrees", "5 degrees"),
            )
        ),
        *(
            ({"english": f"There were {said} in it.", "answer": f"In it there were {answered}."}, None)
            for said, answered in (
                ("9,500 books", "9500 books"),
                ("9,500 books", "nine thousand five hundred books"),
                ("15.50 dollars", "$15.50"),
                ("guests at 9:30", "guests at half past nine"),
                ("guests at 9:00", "guests at nine"),
                ("guests at nine", "guests at 9:00"),
                ("1,985 places", "1985 places"),
                ("-5 degrees", "minus five degrees"),
                ("men from 5-10 May 2021", "men in May 2021, from 5 to 10"),
                ("two Boeing 737-800 planes", "Boeing 737 planes, 2 of them"),
                ("007 books, and 40, and 50.", "7 books, 50 and 40"),
            )
        ),
        ({"instruction": "<foreign_emb>\nReword this. Sure, as an AI you can."}, "chatter"),
        (
            {"english": "The AI said: I am a language model.", "answer": "A language model is what the AI is."},
            None,
        ),
        ({"task": "title", "answer": "Library\nOpens"}, "shape"),
        ({"task": "title", "answer": "Library Opens Again"}, None),
        ({"task": "bullet_pointify", "answer": "- the library opens"}, "shape"),
        ({"task": "bullet_pointify", "answer": "- library opens\n- Library opens"}, "shape"),
        ({"task": "bullet_pointify", "answer": "1. library opens\n2. in May"}, None),
        ({"task": "summarize_in_english", "answer": ENGLISH + " Really, the library."}, "shape"),
        (
            {"task": "qa_about_text", "instruction": "Is it on Monday? <foreign_emb>", "answer": "On Monday"},
            "given_away",
        ),
        ({"task": "qa_about_text", "instruction": "When? <foreign_emb>", "answer": "On Monday."}, None),
        ({"task": "qa_about_text", "instruction": "Does it open? <foreign_emb>", "answer": "Yes."}, None),
        ({"answer": "The library aaaaaaaaaaaa will open."}, "degenerate"),
        ({"answer": "the library will open and " * 6}, "degenerate"),
        ({"task": "translate_to_english", "english": "No no no no no!", "answer": "No no no no no!"}, None),
    ],
)
def test_what_the_filters_take_and_leave(changes, fault):
    assert first_fault(replace(GOOD, **changes), KHMER) == fault


def test_a_foreign_language_in_latin_letters():
    rules = FilterRules("Latn")
    example = replace(GOOD, foreign="Thư viện mở cửa")
    assert first_fault(example, rules) is None
    assert first_fault(replace(example, answer="The library says Thư viện mở cửa."), rules) == "leaked"
    german = replace(GOOD, english="Am Montag geht es wieder.", answer="Am Montag wird die Bibliothek wieder öffnen.")
    assert first_fault(german, rules) is None, "vacuous unless its letters are let through"
    assert first_fault(german, replace(rules, identify_languages=True)) == "language"


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_breaks_a_filter(instruction, answer):
    for task in TASK_TABLE:
        first_fault(replace(GOOD, task=task, instruction=f"{instruction}<foreign_emb>", answer=answer), KHMER)


def test_numbers_are_read_as_numbers():
    assert numbers_of("In May 2021, 1,200 of twenty-five men paid $5.50") == {"2021", "5", "1200", "25", "5.5"}


def test_wordings_are_counted_and_nearly_the_same_is_the_same():
    wordings = Wordings(2)
    sentence = "Please be so kind as to translate this whole passage into good English for me"
    assert [wordings.take(text) for text in (sentence, sentence + "!", f"{sentence} now")] == [True, True, False]
    assert wordings.take("What does the text say about the library?")
    assert all(Wordings(-1).take("Translate.") for _ in range(9))


# --- the plan


def test_no_sentence_stands_in_two_splits():
    rows = make_pairs(400)
    rows += [(rows[n][0], rows[n + 200][1]) for n in range(60)]  # the same English beside another foreign sentence
    rows += [(f"So {rows[n][0]}", rows[n][1].replace("។", "!")) for n in range(60)]  # another English beside the same
    jobs, steps = plan(rows, per_pair=6)
    for side in ("english", "foreign"):
        found = [{getattr(job, side) for (split, _), some in jobs.items() if split == name for job in some}
                 for name in ("train", "held_out")]  # fmt: skip
        assert all(len(texts) > 30 for texts in found)
        assert not found[0] & found[1]
    dropped = {step["name"]: step["dropped"] for step in steps}
    assert dropped["split_conflict"] > 0
    assert dropped["duplicate"] > 0
    for before, after in itertools.pairwise(steps):
        assert after["rows_in"] == before["rows_in"] - before["dropped"]


def test_a_pair_keeps_its_place_when_more_come_in_another_order():
    rows = make_pairs(300)
    some = rows[:150]
    before, _ = plan(some)
    random.Random(1).shuffle(rows)
    after, _ = plan(rows)
    place = {job.english: (job.split, job.task) for jobs in after.values() for job in jobs}
    assert sum(map(len, before.values())) > 140
    assert all(place[job.english] == (job.split, job.task) for jobs in before.values() for job in jobs)


def test_pairs_are_used_for_tasks_that_suit_them():
    rows = [("Go now.", "ចេញ" * 5), *make_pairs(60)]
    jobs, steps = plan(rows, ("all=-1",), per_pair=6)
    by_pair = Counter(job.english for some in jobs.values() for job in some)
    assert by_pair["Go now."] == 1, "translation alone"
    assert set(by_pair.values()) > {1}
    assert max(by_pair.values()) <= 6
    assert all(
        len(job.english.split()) >= TASK_TABLE[task].least_words for (_, task), some in jobs.items() for job in some
    )
    jobs, steps = plan([("Go now.", "ចេញ" * 5)], ("all=-1",), ["title"])
    assert not jobs["all", "title"]
    assert steps[-1]["name"] == "task"
    assert steps[-1]["dropped"] == 1


def test_the_foreign_length_is_the_papers():
    draw, lengths = random.Random(0), (11, 12, 13, 255, 256, 257)
    rows = [
        (english, "".join(draw.choices("កខគឃងចឆជឈញដឋឌឍណតថទធនបផពភមយរលវសហឡអ", k=length)))
        for (english, _), length in zip(make_pairs(len(lengths)), lengths, strict=True)
    ]
    jobs, steps = plan(rows, ("all=-1",), ["translate_to_english"], length=(12, 256))
    kept = {len(job.foreign) for job in jobs["all", "translate_to_english"]}
    assert kept == {12, 13, 255, 256}
    assert next(step["dropped"] for step in steps if step["name"] == "foreign_length") == 2


# --- the queues


@given(data=st.data(), quota=st.integers(-1, 8).filter(bool), count=st.integers(1, 12), concurrency=st.integers(1, 4))
def test_the_order_of_answers_changes_nothing(data, quota, count, concurrency):
    """However answers come in, and wherever a run is stopped, the kept examples are those of the plan's order."""
    good = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    jobs = [Job(n, f"x:{n}", "The cat sat there.", "ក", "train", "title") for n in range(count)]
    drafts = {
        job.id: ("Find a title: <foreign_emb>", "The cat") if good[job.rank] else (None, "unreadable", "?")
        for job in jobs
    }
    expected = [job.rank for job in jobs if good[job.rank]][: None if quota == -1 else quota]
    answered: dict = {}
    while True:  # each turn is a run, which may be stopped
        queue, running = Queue("train", "title", quota, jobs, KHMER), []
        queue.judge(lambda job: answered.get(job.id))
        stop = data.draw(st.integers(0, count)) if len(answered) < count else count
        for _ in range(stop + count):
            while len(running) < concurrency and (job := queue.next_job(lambda j: j.id in answered, lambda _: True)):
                assert job.id not in answered
                assert job not in running, "nothing is asked twice"
                running.append(job)
            if not running or (stop and len(answered) >= stop):
                break
            job = running.pop(data.draw(st.integers(0, len(running) - 1)))
            answered[job.id] = drafts[job.id]
            queue.judge(lambda job: answered.get(job.id))
        if not running:
            break
    assert [rank for rank, _ in queue.kept] == expected
    assert len(queue.kept) + queue.dropped.total() == queue.judged
    assert len(answered) <= len(jobs)


def test_repeated_wordings_are_dropped_and_counted():
    jobs = [Job(n, f"x:{n}", f"The cat sat on mat {n}.", "ក", "train", "title") for n in range(5)]
    queue = Queue("train", "title", -1, jobs, replace(KHMER, max_repeats=3))
    queue.judge(lambda job: ("Please find me a title: <foreign_emb>", "The cat"))
    assert len(queue.kept) == 3
    assert queue.dropped == {REPEATED: 2}
    assert [found["id"] for found in queue.examples[REPEATED]] == ["x:3", "x:4"]


# --- prompts


def test_prompts_are_written_however_they_are_asked_for(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(f"write_prompts: {tmp_path / 'of file'}\n")
    assert main(["synthesize", f"--write-prompts={tmp_path / 'one word'}"]) == 0
    assert main(["synthesize", "--config", str(tmp_path / "run.yaml")]) == 0
    for name in ("one word", "of file"):
        assert len(list((tmp_path / name).glob("*.jinja"))) == len(TASK_TABLE)
    assert main(["synthesize", "--write-prompts", str(tmp_path / "x"), "--model", "m"]) == 2
    assert "no other flag; got --model m" in capsys.readouterr().err


def test_prompts_can_be_read_changed_and_used(tmp_path, capsys):
    folder = tmp_path / "mine"
    assert main(["synthesize", "--write-prompts", str(folder)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(TASK_TABLE)
    assert main(["synthesize", "--write-prompts", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err
    for path in folder.glob("*.jinja"):
        if path.stem != "title":
            path.unlink()
    (folder / "title.jinja").write_text("Entitle {{ english }} by an order with <foreign_emb> in JSON.")
    prompts = Prompts(TASK_TABLE, folder)
    asked = {"role": "user", "content": "Entitle the sea by an order with <foreign_emb> in JSON."}
    assert prompts.messages("title", "the sea") == [asked]
    own = Prompts(TASK_TABLE)
    assert prompts.messages("paraphrase", "the sea") == own.messages("paraphrase", "the sea")
    assert {task for task in TASK_TABLE if prompts.digests[task] != own.digests[task]} == {"title"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("title", "Entitle by <foreign_emb>.", "never shows english"),
        ("title", "Entitle {{ english }}.", "never shows <foreign_emb>"),
        ("title", "{{ english }} {{ khmer }} <foreign_emb>", "khmer"),
        ("title", "{{ english <foreign_emb>", "no Jinja template"),
        ("title", b"\xff", "no Jinja template in UTF-8"),
        ("title", "--- assistant\n{{ english }} <foreign_emb>", "first and last"),
        ("title", "--- user\n{{ english }} <foreign_emb>\n--- assistant\nx", "first and last"),
        ("title", "x\n--- user\n{{ english }} <foreign_emb>", "first and last"),
        ("titel", "{{ english }} <foreign_emb>", r"it holds titel\.jinja"),
    ],
)
def test_prompts_that_cannot_work_are_refused(tmp_path, name, text, words):
    (tmp_path / f"{name}.jinja").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LlinkConfigError, match=words):
        Prompts(TASK_TABLE, tmp_path)


def test_prompt_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "none", tmp_path, tmp_path / "file"):
        with pytest.raises(LlinkConfigError, match="must be a folder"):
            Prompts(TASK_TABLE, folder)
    with pytest.raises(LlinkConfigError, match="Cannot write"):
        write_prompts(tmp_path / "file" / "x")


# --- by rule, as users type it


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Line-aligned files of the demo corpus, which is only a source of text here."""
    folder = tmp_path_factory.mktemp("demo")
    return [str(path) for path in write_moses(folder, "demo", [(p.english, p.foreign) for p in demo_pairs(300)])]


def by_rule(pairs, output, *extra, splits=("train=60", "held_out=12")):
    command = ["synthesize", "--rule-made", "--pairs", *pairs, "--language", "km", "--output-dir", str(output)]
    return main([*command, "--splits", *splits, *extra])


def rows_of(output, name="train"):
    return [json.loads(line) for line in (output / f"{name}.jsonl").read_text("utf-8").splitlines()]


def test_rule_made_examples_train_stage_b(demo, make_model, tmp_path, capsys):
    out = tmp_path / "out"
    assert by_rule(demo, out) == 0
    assert "llink inject --instructions" in capsys.readouterr().out
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    for name, size in (("train", 60), ("held_out", 12)):
        rows = rows_of(out, name)
        assert len(rows) == size == len({row["id"] for row in rows})
        assert {row["task"] for row in rows} == set(RULE_TASKS)
        assert all(row["bucket"] == bucket_of(row["task"]) for row in rows)
        assert Counter(row["bucket"] for row in rows) == manifest["buckets"][name]
        assert all(row["completion"] in row["english"] for row in rows), "extracted"
        assert all(12 <= len(row["foreign"][0]) <= 256 for row in rows)
        assert len(read_instructions(out / f"{name}.jsonl")) == size
    assert not {row["english"] for row in rows_of(out)} & {row["english"] for row in rows_of(out, "held_out")}
    make_model().save_pretrained(tmp_path / "a")
    train = ["inject", "--model", str(tmp_path / "a"), "--instructions", f"{out}/train.jsonl", "--eval-instructions"]
    quick = ["--report_to", "none", "--use_cpu", "--disable_tqdm", "True", "--save_strategy", "no", "--max-steps", "2"]
    assert main([*train, f"{out}/held_out.jsonl", "--output-dir", str(tmp_path / "b"), *quick]) == 0
    assert json.loads((tmp_path / "b" / "eval_results.json").read_text())["eval_loss"] > 0


def test_the_same_again_gives_the_same_bytes(demo, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert by_rule(demo, first) == by_rule(demo, second) == 0
    files = sorted(path.name for path in first.iterdir())
    assert files == ["held_out.jsonl", "manifest.json", "train.jsonl"]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
    before = [(path.name, path.stat().st_mtime_ns) for path in sorted(first.iterdir())]
    assert by_rule(demo, first) == 0
    assert [(path.name, path.stat().st_mtime_ns) for path in sorted(first.iterdir())] == before, "nothing is done again"


@pytest.mark.parametrize(
    ("english", "instruction", "answer"),
    [
        ("It was built in 1985 by hand.", "year", "1985"),
        ("The bridge costs $5.50 to cross.", "money|sum", "$5.50"),
        ("Nearly 30% of them stayed home.", "percentage", "30%"),
        ("Wait.", "last word|English word", "Wait"),
        ("HCoV-229E is found here.", "last word|English word", "here"),
    ],
)
def test_rule_made_questions(english, instruction, answer):
    for seed in range(5):
        asked, found = made_by_rule("qa_about_text", english, seed)
        assert re.search(instruction, asked)
        assert found == answer
        assert asked.count("<foreign_emb>") == 1


@given(st.text(max_size=80), st.integers(0, 3))
def test_rules_make_something_of_every_text(english, seed):
    for task in RULE_TASKS:
        instruction, answer = made_by_rule(task, english, seed)
        assert instruction.count("<foreign_emb>") == 1
        assert answer in english
        assert (instruction, answer) == made_by_rule(task, english, seed)


def test_prepared_folders_know_their_language(demo, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    prepared = ["prepare", "--input", *demo, "--language", "km", "--output-dir", str(data), "--skip", "near_duplicate"]
    assert main([*prepared, "--splits", "train=-1", "held_out=-1", "--shares", "0.5", "0.5"]) == 0
    command = ["synthesize", "--rule-made", "--pairs", str(data), "held_out", "--output-dir", str(out)]
    assert main([*command, "--splits", "train=20", "dev=5"]) == 0
    held_out = set((data / "held_out.km").read_text("utf-8").splitlines())
    assert {row["foreign"][0] for row in rows_of(out)} <= held_out
    assert len(rows_of(out)) == 20
    for split in ("train", "held_out"):  # which lie in one zone of prepare's each
        whole = ["synthesize", "--rule-made", "--pairs", str(data), split, "--output-dir", str(tmp_path / split)]
        assert main([*whole, "--splits", "train=-1", "dev=-1", "--shares", "0.75", "0.25"]) == 0
        sizes = [len(rows_of(tmp_path / split, name)) for name in ("train", "dev")]
        assert 0.1 < sizes[1] / sum(sizes) < 0.4
    assert main([*command, "--language", "th", "--overwrite"]) == 2
    assert "the pairs are in km" in capsys.readouterr().err


# --- what is refused


def test_a_folder_with_other_things_is_left_alone(demo, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert by_rule(demo, out) == by_rule(demo, out, "--overwrite") == 2
    assert "was not made by llink synthesize" in capsys.readouterr().err
    (out / "notes.txt").unlink()
    assert by_rule(demo, out) == 0
    (out / "notes.txt").write_text("mine")
    assert by_rule(demo, out, "--overwrite") == 2
    assert "also holds notes.txt" in capsys.readouterr().err
    (out / "notes.txt").unlink()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert by_rule(demo, out, "--seed", "1") == 2
    assert "made otherwise: other server (--seed 0)" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert by_rule(demo, out, "--seed", "1", "--overwrite", splits=("fit=60", "held_out=12")) == 0
    assert sorted(path.name for path in out.iterdir()) == ["fit.jsonl", "held_out.jsonl", "manifest.json"]
    (out / "fit.jsonl").write_text("changed")
    assert by_rule(demo, out, "--seed", "1", splits=("fit=60", "held_out=12")) == 2
    assert "missing or changed" in capsys.readouterr().err


def test_a_folder_that_another_run_writes_is_left_as_it_is(demo, tmp_path, capsys):
    out = tmp_path / "out"
    assert by_rule(demo, out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with Journal(out / ANSWERS, Answer).locked():
        assert by_rule(demo, out, "--overwrite", "--seed", "3") == 2
        assert "Another run (process" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert by_rule(demo, out, "--overwrite", "--seed", "3") == 0
    assert rows_of(out) != [json.loads(line) for line in before["train.jsonl"].splitlines()]


def test_a_folder_that_holds_only_a_lock_is_empty(demo, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).touch()
    assert by_rule(demo, tmp_path / "out") == 0


def test_places_that_cannot_be_written(demo, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    places = {tmp_path / "file": "not a folder", tmp_path / "file" / "x": "not a folder", "/proc/x": "Cannot write"}
    for place, words in places.items():
        assert by_rule(demo, place) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--tasks", "title=1"], "leave these out"),
        (["--tasks", "titles"], "tasks are"),
        (["--splits", "train=0"], "NAME=PAIRS"),
        (["--splits", "answers=10"], "can be called answers"),
        (["--splits", "a=5", "b=5", "--shares", "1"], "--shares"),
        (["--foreign-length", "9", "3"], "--foreign-length"),
        (["--examples-per-pair", "0"], "--examples-per-pair"),
        (["--max-repeats", "0"], "--max-repeats"),
        (["--token-budget", "5"], "asks no model"),
        (["--prompts", "x"], "asks no model"),
        (["--price-per-million-input", "1"], "--price-per-million-output"),
        (["--language", "en"], "cannot be English"),
        (["--language", "xx"], "which script"),
        (["--pairs", "one"], "two files"),
        (["--pairs", "none.en", "none.km"], "none.en"),
        (["--foreign-length", "1", "2"], "No pair is left"),
        (["--temperature", "-1"], "temperature"),
    ],
)
def test_options_that_make_no_sense_write_nothing(demo, tmp_path, capsys, extra, words):
    assert by_rule(demo, tmp_path / "out", *extra) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_language_and_a_model_are_needed(demo, tmp_path, capsys):
    command = ["synthesize", "--pairs", *demo, "--output-dir", str(tmp_path / "out")]
    assert main([*command, "--rule-made"]) == 2
    assert "Give --language" in capsys.readouterr().err
    assert main([*command, "--language", "km"]) == 2
    assert "--model" in capsys.readouterr().err
    assert main([*command, "--language", "km", "--model", ""]) == 2
    assert "needs a name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_left_is_no_success(demo, tmp_path, capsys, caplog):
    english, foreign = demo
    swapped = ["--pairs", foreign, english, "--language", "km", "--tasks", "translate_to_english=1"]
    command = ["synthesize", "--rule-made", *swapped, "--output-dir", str(tmp_path / "out"), "--splits", "train=5"]
    assert main(command) == 2
    assert "No example is left" in capsys.readouterr().err
    assert "swapped?" in caplog.text
