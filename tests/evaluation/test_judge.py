"""The judge without a server: its prompt, its answers, and how verdicts are counted (paper table 2)."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llink.data.chat_client import estimate_cost
from llink.data.errors import DataError
from llink.data.instructions import BUCKETS, TASKS, bucket_of
from llink.evaluation import module_path
from llink.evaluation.judge import (
    IDENTICAL,
    MIRRORED,
    UNPARSED,
    VERDICTS,
    outcome,
    parse_verdict,
    tally,
    wilson_interval,
)
from llink.evaluation.judge_questions import (
    JudgePrompt,
    both_verdicts,
    judge_groups,
    load_prompt,
    make_questions,
    pair_outputs,
    sample_pairs,
    swapped_first,
)
from llink.evaluation.outputs import OutputRow

ASKED = st.tuples(*[st.sampled_from([*VERDICTS, UNPARSED])] * 2)
PAIRS = st.lists(st.one_of(ASKED, st.just((IDENTICAL, IDENTICAL))), min_size=1, max_size=30)
GOOD = "{{ prompt }} {{ reference }} {{ answer_a }} {{ answer_b }}: A, B or tie?"


def outputs(texts, task="translate_to_english", **changed):
    """Output rows with these answers."""
    fields = {"prompt": "Translate.\n<foreign_emb>", "reference": "The fan.", "english": "The fan.", **changed}
    tasks = [task] * len(texts) if isinstance(task, str) else task
    rows = enumerate(zip(texts, tasks, strict=True))
    return [OutputRow(id=str(i), task=t, foreign=["ក"], output=text, **fields) for i, (text, t) in rows]


def pairs_of(n, task="translate_to_english"):
    return pair_outputs(outputs([f"a{i}" for i in range(n)], task), outputs([f"b{i}" for i in range(n)], task))


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('{"verdict": "A"}', "A"),
        ('```json\n{"verdict": "b"}\n```', "B"),
        ('Both are fair. {"reason": "{A}", "verdict": " Tie "}', "tie"),
        ('{"verdict": "A"} {"verdict": "A"}', "A"),
        ('<think>{"verdict": "B"}</think>{"verdict": "A"}', "A"),
        ("A", "A"),
        ('"B".', "B"),
        ("Tie", "tie"),
        ("", UNPARSED),
        ("A is better", UNPARSED),
        ("a", UNPARSED),
        ('{"verdict": "A"} {"verdict": "B"}', UNPARSED),
        ('{"verdict": "A", "verdict": "B"}', UNPARSED),
        ('{"verdict": "A" | "B" | "tie"}', UNPARSED),
        ('{"verdict": "A or B"}', UNPARSED),
        ('{"verdict": null}', UNPARSED),
        ('{"verdict": ["A"]}', UNPARSED),
        ('{"verdict": "A"', UNPARSED),
        ('{"winner": "A"}', UNPARSED),
        ('<think>{"verdict": "A"}', UNPARSED),
        ("{" * 5000, UNPARSED),
    ],
)
def test_a_verdict_is_read_or_is_unparsed(answer, verdict):
    assert parse_verdict(answer) == verdict


@given(st.text(max_size=60), st.sampled_from(VERDICTS))
def test_no_text_is_taken_for_a_tie(text, verdict):
    assert parse_verdict(text) in (*VERDICTS, UNPARSED)
    if not text.strip(' "{}[]()\n.!?,').lower().endswith("tie"):
        assert parse_verdict(text) != "tie"
    if "{" not in text and "<think>" not in text:
        assert parse_verdict(f'{text}{{"verdict": "{verdict}"}}') == verdict


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("A", "B"), "win"),
        (("B", "A"), "loss"),
        (("tie", "tie"), "tie"),
        (("A", "A"), "inconsistent"),
        (("B", "B"), "inconsistent"),
        (("A", "tie"), "inconsistent"),
        (("tie", "A"), "inconsistent"),
        (("A", UNPARSED), UNPARSED),
        ((UNPARSED, UNPARSED), UNPARSED),
        ((IDENTICAL, IDENTICAL), "identical"),
    ],
)
def test_outcome_of_both_orders(verdicts, expected):
    assert outcome(verdicts) == expected


@pytest.mark.parametrize("verdicts", [("A", "C"), ("win", "loss"), (IDENTICAL, "A")])
def test_what_is_no_verdict_is_refused(verdicts):
    with pytest.raises(DataError, match=r"verdict|identical"):
        tally([verdicts])


@given(PAIRS)
def test_swapping_the_systems_turns_the_preference_round(verdicts):
    one, other = tally(verdicts), tally([(second, first) for first, second in verdicts])
    assert (one["wins"], one["losses"]) == (other["losses"], other["wins"])
    for name in ("ties", "inconsistent", "identical", "unparsed", "n", "agreement", "picks_a"):
        assert one[name] == other[name]
    if one["preference"] is None:
        assert other["preference"] is None
        assert "intervals" not in one
    else:
        assert one["preference"] == pytest.approx(1 - other["preference"])
        low, high = one["intervals"]["preference"]
        assert [low, high] == pytest.approx([1 - end for end in reversed(other["intervals"]["preference"])])
        assert 0 <= low <= one["preference"] <= high <= 1


@given(PAIRS)
def test_every_example_is_counted_once(verdicts):
    counts = tally(verdicts)
    assert counts["n"] == counts["wins"] + counts["losses"] + counts["ties"]
    assert counts["n"] + counts["unparsed"] == len(verdicts)
    assert counts["inconsistent"] + counts["identical"] <= counts["ties"]
    assert counts["unparsed"] == sum(UNPARSED in pair for pair in verdicts)


def test_a_tally_by_hand():
    counts = tally([("A", "B")] * 3 + [("B", "A")] + [("tie", "tie"), ("A", "A"), (UNPARSED, "A"), (IDENTICAL,) * 2])
    assert counts["intervals"]["preference"] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    del counts["intervals"]
    assert counts == {
        "wins": 3,
        "losses": 1,
        "ties": 3,
        "inconsistent": 1,
        "identical": 1,
        "unparsed": 1,
        "n": 7,
        "preference": 0.75,
        "agreement": 5 / 6,
        "picks_a": 7 / 11,
    }
    with pytest.raises(DataError, match="no verdicts"):
        tally([])


def test_the_papers_preferences_follow_from_its_shares():
    table_2 = {(69, 11, 20): 0.863, (45, 23, 32): 0.662, (48, 15, 36): 0.762, (39, 25, 36): 0.609}
    for (wins, losses, ties), preference in table_2.items():
        counts = tally([("A", "B")] * wins * 5 + [("B", "A")] * losses * 5 + [("tie", "tie")] * ties * 5)
        assert counts["preference"] == pytest.approx(preference, abs=0.001)


def test_wilson_interval():
    assert wilson_interval(0, 0) is None
    assert wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)
    assert wilson_interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert all(wilson_interval(n, n)[1] == 1 and wilson_interval(0, n)[0] == 0 for n in range(1, 200))
    draws = random.Random(0)
    covered = 0
    for _ in range(400):
        low, high = wilson_interval(sum(draws.random() < 0.7 for _ in range(40)), 40)
        covered += low <= 0.7 <= high
    assert 0.91 < covered / 400 < 0.985


def test_buckets_hold_every_task_once():
    assert sorted(task for tasks in BUCKETS.values() for task in tasks) == sorted(TASKS)
    assert bucket_of("qa_about_text") == "Q&A"
    assert bucket_of("translate_to_english") == "content understanding"
    assert bucket_of("") == bucket_of("my_task") == "other"


def test_the_judge_sees_everything_and_no_name():
    pair = pair_outputs(
        outputs(["It is good."], english="What stands there."), outputs([""], english="What stands there.")
    )
    message, swapped = (load_prompt().message(pair[0], swapped) for swapped in (False, True))
    for part in ("Translate.\n[foreign text]", "What stands there.", "The fan.", "It is good.", "(no answer)"):
        assert part in message
    assert "<foreign_emb>" not in message
    assert message.index("It is good.") < message.index("(no answer)")
    assert swapped.index("(no answer)") < swapped.index("It is good.")
    assert sorted(message) == sorted(swapped)
    assert "llink" not in message.lower()


def test_a_reference_that_is_the_english_stands_once():
    message = load_prompt().message(pairs_of(1)[0])
    assert message.count("The fan.") == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (GOOD.replace("{{ answer_b }}", ""), "answer_b"),
        (GOOD.replace("{{ prompt }}", ""), "prompt"),
        (GOOD.replace("{{ reference }}", ""), "english or reference"),
        (GOOD.replace("{{ reference }}", "{% if false %}{{ reference }}{% endif %}"), "english or reference"),
        (GOOD + "{{ system }}", "'system' is undefined"),
        (GOOD + "{{ prompt + 1 }}", "cannot be filled in"),
        (GOOD + "{% if %}", "no Jinja template"),
        (GOOD + "{{ ''.__class__.__mro__ }}", "cannot be filled in"),
        (GOOD.replace("tie", "neither"), "never says tie"),
    ],
)
def test_a_prompt_that_hides_something_is_refused(source, words):
    assert JudgePrompt(GOOD).source == GOOD
    with pytest.raises(DataError, match=words):
        JudgePrompt(source)


def test_examples_that_the_prompt_cannot_verify_are_named():
    bare, full = (pair_outputs(outputs("ab", english=text), outputs("cd", english=text)) for text in (" ", "It."))
    english = JudgePrompt(GOOD.replace("reference", "english"))
    assert english.verification == ("english",)
    with pytest.raises(DataError, match=r"2 examples have no english, .*: 0, 1\. Let the prompt show"):
        make_questions(bare, english, seed=0)
    assert len(make_questions(full, english, seed=0)) == 4
    either = JudgePrompt(
        GOOD.replace("{{ reference }}", "{% if english %}{{ english }}{% else %}{{ reference }}{% endif %}")
    )
    for prompt in (load_prompt(), either):
        assert prompt.verification == ("english", "reference")
        assert len(make_questions(bare, prompt, seed=0)) == 4
    same = pair_outputs(outputs("ab", english=""), outputs("ac", english=""))
    with pytest.raises(DataError, match=r"1 examples .*: 1\. "):
        make_questions(same, english, seed=0)


def test_prompt_files(tmp_path):
    (tmp_path / "good.txt").write_text(GOOD, "utf-8")
    assert load_prompt(tmp_path / "good.txt").source == GOOD
    (tmp_path / "bytes.txt").write_bytes(b"\xff")
    for name, words in (("none.txt", "does not exist"), ("bytes.txt", "not UTF-8")):
        with pytest.raises(DataError, match=words):
            load_prompt(tmp_path / name)


def test_outputs_that_cannot_be_compared():
    good = outputs(["a", "b"])
    for other, error, words in (
        (outputs(["c"]), DataError, "2 outputs"),
        (outputs(["c", "d"], prompt="Sum up.\n<foreign_emb>"), DataError, "prompt"),
        (list(reversed(outputs(["c", "d"]))), DataError, "differ in id"),
        (outputs(["a ", "b"]), DataError, "one system twice"),
    ):
        with pytest.raises(error, match=words):
            pair_outputs(good, other)
    with pytest.raises(DataError, match="no outputs"):
        pair_outputs([], [])
    assert len(pair_outputs(good, outputs(["a", "c"]))) == 2, "one answer may be the same"


def test_both_orders_of_every_pair_and_a_random_one_first():
    pairs = pairs_of(60)
    prompt = load_prompt()
    questions = make_questions(pairs, prompt, seed=0)
    assert {(q.pair, q.swapped) for q in questions} == {(i, swapped) for i in range(60) for swapped in (True, False)}
    first = [questions[2 * i].swapped for i in range(60)]
    assert first == [swapped_first(pair, 0) for pair in pairs]
    assert 15 < sum(first) < 45
    assert first != [swapped_first(pair, 1) for pair in pairs]
    assert all(q.message == prompt.message(pairs[q.pair], q.swapped) for q in questions)


def test_identical_answers_are_ties_without_asking():
    pairs = pair_outputs(outputs(["same", "a"]), outputs(["same", "b"]))
    questions = make_questions(pairs, load_prompt(), seed=0)
    assert [question.pair for question in questions] == [1, 1]
    verdicts = both_verdicts(pairs, questions, ["B" if question.swapped else "A" for question in questions])
    assert verdicts == [(IDENTICAL, IDENTICAL), ("A", "B")]


@given(st.lists(st.sampled_from([*TASKS, "", "other"]), min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 3))
def test_a_larger_limit_only_adds(tasks, limit, seed):
    pairs = pairs_of(len(tasks), tasks)
    smaller, larger = (sample_pairs(pairs, n, seed) for n in (limit, limit + 1))
    assert {pair.id for pair in smaller} <= {pair.id for pair in larger}
    assert [pair for pair in pairs if pair in smaller] == smaller, "their order"
    for bucket in (*BUCKETS, "other"):
        size = sum(bucket_of(pair.task) == bucket for pair in pairs)
        assert sum(bucket_of(pair.task) == bucket for pair in smaller) == min(size, limit)
    assert sample_pairs(pairs, None, seed) == pairs


def test_a_limit_of_none_is_refused():
    with pytest.raises(DataError, match="limit is 0"):
        sample_pairs(pairs_of(3), 0, seed=0)


def test_groups_are_the_papers_buckets_the_tasks_and_one_order():
    tasks = ["translate_to_english"] * 4 + ["title"] * 2 + ["qa_about_text"] * 3
    pairs = pairs_of(9, tasks)
    verdicts = [("A", "B")] * 4 + [("B", "A")] * 2 + [("A", "A"), ("A", UNPARSED), (UNPARSED, UNPARSED)]
    groups = judge_groups(pairs, verdicts, seed=0)
    assert {name: counts["n"] for name, counts in groups.items() if name != "one random order"} == {
        "all": 7,
        "content understanding": 6,
        "Q&A": 1,
        "task: translate_to_english": 4,
        "task: title": 2,
        "task: qa_about_text": 1,
    }
    assert groups["content understanding"]["preference"] == pytest.approx(4 / 6)
    assert groups["Q&A"]["unparsed"] == 2
    assert groups["Q&A"]["preference"] is None
    one = groups["one random order"]
    biased = "losses" if swapped_first(pairs[6], 0) else "wins"
    readable = 0 if swapped_first(pairs[7], 0) else 1
    assert one["wins"] == 4 + (biased == "wins") + readable
    assert one["losses"] == 2 + (biased == "losses")
    assert one["agreement"] is None


@given(st.lists(st.sampled_from([("A", "B"), ("B", "A"), ("tie", "tie")]), min_size=1, max_size=12))
def test_one_order_says_the_same_where_both_orders_agree(verdicts):
    groups = judge_groups(pairs_of(len(verdicts)), verdicts, seed=5)
    for name in ("wins", "losses", "ties", "preference"):
        assert groups["one random order"][name] == groups["all"][name]


def test_a_cost_by_hand():
    found = estimate_cost(["abcd" * 10, "ខ"], max_tokens=50, price_input=2.0, price_output=10.0)
    assert found["calls"] == 2
    assert found["prompt_tokens"] == 10 + math.ceil(3 / 4)
    assert found["completion_tokens_at_most"] == 100
    assert found["cost_at_most"] == pytest.approx((11 * 2 + 100 * 10) / 1e6)
    assert "cost_at_most" not in estimate_cost(["a"], 1, price_input=1.0)


def test_the_evaluate_module_is_the_tally(monkeypatch, tmp_path):
    import evaluate

    monkeypatch.setattr("datasets.config.HF_MODULES_CACHE", str(tmp_path))
    metric = evaluate.load(module_path("preference"), cache_dir=str(tmp_path))
    verdicts = [("A", "B"), ("A", "A"), (UNPARSED, "tie"), (IDENTICAL, IDENTICAL)]
    first, second = map(list, zip(*verdicts, strict=True))
    assert metric.compute(predictions=first, references=second) == tally(verdicts)
    with pytest.raises(DataError, match="no verdict"):
        metric.compute(predictions=["yes"], references=["no"])


def test_mirroring_twice_is_nothing():
    assert {name: MIRRORED[MIRRORED[name]] for name in MIRRORED} == {name: name for name in MIRRORED}
