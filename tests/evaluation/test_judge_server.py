"""`llink eval judge` against a real local server: verdicts, retries, refusals, and runs that break and go on."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from judge_server import Refusal, always_a, prefers_longer, serving, shown_answers, verdict

from llink.cli import main
from llink.data.chat_client import ChatClient
from llink.data.errors import DataError, ServerError
from llink.errors_llink import LlinkConfigError
from llink.evaluation.judge import UNPARSED, tally
from llink.evaluation.judge_client import ask_judge, ask_judge_async
from llink.evaluation.judge_questions import both_verdicts, load_prompt, make_questions, pair_outputs
from llink.evaluation.judge_store import JudgementFile, JudgeSettings
from llink.evaluation.outputs import OutputRow, write_outputs

N = 12


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """huggingface_hub calls no server, a local one neither, while it is offline, as all tests are."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def outputs(name, n=N):
    """Answers of a system: `long` gives the longer one to all rows but every fourth."""
    rows = []
    for i in range(n):
        longer = (name == "long") == (i % 4 != 0)
        task = ("translate_to_english", "title", "qa_about_text")[i % 3]
        text = f"answer {i}" + (", and a good deal more" if longer else "") + ("!" if name == "other" else "")
        rows.append(OutputRow(str(i), task, ["ក"], "Do it.\n<foreign_emb>", f"reference {i}", f"english {i}", text))
    return rows


PROMPT = load_prompt()
PAIRS = pair_outputs(outputs("long"), outputs("short"))
QUESTIONS = make_questions(PAIRS, PROMPT, seed=0)
MESSAGES = [question.message for question in QUESTIONS]


def settings(server, **changed):
    options = {"judge_model": "judge", "judge_url": server.url, "retry_wait": 0.01, "retries": 2, "timeout": 20}
    return JudgeSettings(**options | changed)


def verdicts_of(judgements):
    return both_verdicts(PAIRS, QUESTIONS, [judgement.verdict for judgement in judgements])


def ask(server, folder, messages=MESSAGES, **changed):
    return ask_judge(messages, PROMPT, settings(server, **changed), folder / "judgements.jsonl")


def test_a_judge_that_prefers_longer_answers(tmp_path):
    with serving(prefers_longer) as server:
        counts = tally(verdicts_of(ask(server, tmp_path)))
        assert (counts["wins"], counts["losses"], counts["ties"]) == (N * 3 // 4, N // 4, 0)
        assert counts["agreement"] == 1
        assert counts["picks_a"] == 0.5
        assert sorted(server.messages()) == sorted(MESSAGES), "each question once"
        assert all(body["model"] == "judge" and body["temperature"] == 0 for body in server.bodies)
        ask(server, tmp_path)
        assert len(server.bodies) == 2 * N, "nothing is asked twice"


def test_a_judge_that_always_says_a_agrees_with_itself_nowhere(tmp_path):
    with serving(always_a) as server:
        counts = tally(verdicts_of(ask(server, tmp_path)))
    assert (counts["inconsistent"], counts["ties"], counts["n"]) == (N, N, N)
    assert (counts["agreement"], counts["picks_a"], counts["preference"]) == (0, 1, None)


def test_garbage_is_asked_again_with_a_reminder_and_never_taken_for_a_tie(tmp_path):
    def mumbles(body):
        return "It is hard to say." if "english 3" in body["messages"][0]["content"] else prefers_longer(body)

    with serving(mumbles) as server:
        judgements = ask(server, tmp_path, attempts=3)
        counts = tally(verdicts_of(judgements))
        assert (counts["unparsed"], counts["n"]) == (1, N - 1)
        garbled = [judgement for judgement in judgements if judgement.verdict == UNPARSED]
        assert [len(judgement.answers) for judgement in garbled] == [3, 3]
        assert all(len(j.answers) == 1 for j in judgements if j.verdict != UNPARSED)
        again = [body for body in server.bodies if body["messages"][0]["content"] not in MESSAGES]
        assert len({body["messages"][0]["content"] for body in again}) == 4, "told again in other words"
        assert sorted(body["temperature"] for body in again) == pytest.approx([0.3, 0.3, 0.6, 0.6])
        assert sorted(body["seed"] for body in again) == [1, 1, 2, 2]
        before = len(server.bodies)
        ask(server, tmp_path, attempts=3)
        assert len(server.bodies) == before, "what stays unreadable is kept too"
        ask(server, tmp_path, attempts=5)
        assert len(server.bodies) == before + 4, "more attempts go on after those that were made"


def test_a_reminder_helps(tmp_path):
    def forgetful(body):
        return prefers_longer(body) if body["messages"][0]["content"] not in MESSAGES else "Well..."

    with serving(forgetful) as server:
        judgements = ask(server, tmp_path)
    assert {len(judgement.answers) for judgement in judgements} == {2}
    assert tally(verdicts_of(judgements))["wins"] == N * 3 // 4
    assert {judgement.prompt_tokens for judgement in judgements} == {200}, "both attempts are counted"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.slow
def test_passing_trouble_is_waited_out(tmp_path, status):
    seen = Counter()

    def troubled(body):
        seen[body["messages"][0]["content"]] += 1
        first = seen[body["messages"][0]["content"]] == 1
        return Refusal(status, "busy", {"Retry-After": "0"}) if first else prefers_longer(body)

    with serving(troubled) as server:
        assert tally(verdicts_of(ask(server, tmp_path)))["wins"] == N * 3 // 4
        assert len(server.bodies) == 4 * N


def test_retry_after_is_kept_to(tmp_path):
    times = []

    def busy(body):
        times.append(time.monotonic())
        return Refusal(429, "busy", {"Retry-After": "1"}) if len(times) == 1 else always_a(body)

    with serving(busy) as server:
        ask(server, tmp_path, MESSAGES[:1], retry_wait=0)
    assert times[1] - times[0] >= 1


def test_a_server_that_hangs_times_out_and_is_named(tmp_path):
    def hangs(body):
        time.sleep(1)
        return always_a(body)

    with serving(hangs) as server, pytest.raises(ServerError, match=r"(?i)timed? ?out"):
        ask(server, tmp_path, MESSAGES[:1], timeout=0.1, retries=1)


def test_a_refusal_stops_at_once_and_says_why(tmp_path):
    with serving() as server:
        with pytest.raises(ServerError, match=r"refuses.*no model other"):
            ask(server, tmp_path, judge_model="other", concurrency=1)
        assert len(server.bodies) == 1, "no retries"


def test_what_is_no_completion_is_no_verdict(tmp_path):
    with serving(lambda body: Refusal(200, "not a completion")) as server:
        with pytest.raises(ServerError, match="no chat completion"):
            ask(server, tmp_path, MESSAGES[:1])
        assert len(server.bodies) == 3


def test_a_server_that_dies_loses_nothing_and_the_rest_is_asked(tmp_path):
    with serving(die_at=8) as server:
        with pytest.raises(ServerError, match=rf"did not answer.* 7 of {2 * N} judgements are kept"):
            ask(server, tmp_path, concurrency=1)
        server.thread.join(60)
        assert not server.thread.is_alive(), "vacuous unless it died"
        answered = server.messages()[:7]
    assert len((tmp_path / "judgements.jsonl").read_bytes().splitlines()) == 7
    with serving() as server:
        counts = tally(verdicts_of(ask(server, tmp_path)))
        assert Counter(server.messages()) == Counter(MESSAGES) - Counter(answered), "exactly the rest"
    assert (counts["wins"], counts["losses"]) == (N * 3 // 4, N // 4)


def test_an_unreadable_answer_is_kept_when_the_server_then_dies(tmp_path):
    died = pytest.raises(ServerError, match="0 of 1 judgements are kept")
    with serving(lambda body: "Well...", die_at=2) as server, died:
        ask(server, tmp_path, MESSAGES[:1])
    (kept,) = JudgementFile(tmp_path / "judgements.jsonl").records.values()
    assert (kept.verdict, kept.answers, kept.prompt_tokens) == (UNPARSED, ["Well..."], 100)
    with serving() as server:
        (judged,) = ask(server, tmp_path, MESSAGES[:1])
        assert [body["seed"] for body in server.bodies] == [1], "it goes on with the second attempt"
    assert (len(judged.answers), judged.prompt_tokens) == (2, 200)


def test_answers_under_way_are_kept_when_another_call_fails(tmp_path, monkeypatch):
    failed, failure = threading.Event(), ChatClient._failure
    monkeypatch.setattr(ChatClient, "_failure", lambda *args: [failed.set(), failure(*args)][1])

    def slow_but_for_one(body):
        if body["messages"][0]["content"] == MESSAGES[0]:
            return Refusal(403, "not this")
        assert failed.wait(60), "the refusal arrived"
        return prefers_longer(body)

    with serving(slow_but_for_one) as server:
        with pytest.raises(ServerError, match=f"3 of {2 * N}"):
            ask(server, tmp_path, concurrency=4)
        assert len(server.bodies) == 4, "nothing new is begun"


def test_a_half_written_last_line_is_repaired(tmp_path):
    file = tmp_path / "judgements.jsonl"
    with serving() as server:
        ask(server, tmp_path, MESSAGES[:6], concurrency=1)
        whole = file.read_bytes()
        file.write_bytes(whole[:-25])
        ask(server, tmp_path, MESSAGES[:6])
        assert server.messages()[6:] == [MESSAGES[5]]
    assert file.read_bytes() == whole


def test_a_damaged_line_is_named_and_nothing_is_asked(tmp_path):
    file = tmp_path / "judgements.jsonl"
    with serving() as server:
        ask(server, tmp_path, MESSAGES[:3])
        lines = file.read_bytes().splitlines(keepends=True)
        for damage in (b"{}\n", b"nonsense\n", b"[]\n", b"\xff\n"):
            file.write_bytes(lines[0] + damage + lines[2])
            with pytest.raises(DataError, match="line 2"):
                ask(server, tmp_path)
        assert len(server.bodies) == 3


def test_judgements_are_kept_by_content(tmp_path):
    with serving() as server:
        ask(server, tmp_path, MESSAGES[:4])
        other = make_questions(pair_outputs(outputs("short"), outputs("long")), PROMPT, seed=0)
        ask(server, tmp_path, [question.message for question in other if question.pair < 2])
        assert len(server.bodies) == 4, "the same comparison seen from the other side"
        for changed in ({"seed": 1}, {"temperature": 0.5}, {"max_tokens": 9}, {"response_format": "text"}):
            before = len(server.bodies)
            ask(server, tmp_path, MESSAGES[:4], **changed)
            assert len(server.bodies) == before + 4, changed
        before = len(server.bodies)
        ask(server, tmp_path, MESSAGES[:4] * 2, timeout=19, concurrency=1)
        assert len(server.bodies) == before, "patience changes no answer"


def test_the_strictest_response_format_that_the_server_takes(tmp_path):
    formats = []

    def takes(*accepted):
        def judge(body):
            asked = body.get("response_format")
            kind = None if asked is None else "schema" if "value" in asked or "json_schema" in asked else "object"
            formats.append(kind)
            return prefers_longer(body) if kind in accepted else Refusal(400, f"what is {kind}?")

        return judge

    for accepted, expected in (("schema", "json_schema"), ("object", "json_object"), (None, "text")):
        with serving(takes(accepted)) as server:
            folder = tmp_path / expected
            judgements = ask(server, folder, concurrency=3)
            assert {judgement.response_format for judgement in judgements} == {expected}
            assert formats.count(accepted) == 2 * N
            assert len(formats) <= 2 * N + 6, "it is settled once"
            if expected != "json_schema":
                with pytest.raises(ServerError, match="what is schema"):
                    ask(server, tmp_path / "forced", response_format="json_schema")
        formats.clear()


def test_a_bad_request_after_the_format_is_settled_is_reported(tmp_path):
    def refuses_one(body):
        return Refusal(400, "too long") if "english 5" in body["messages"][0]["content"] else prefers_longer(body)

    with serving(refuses_one) as server:
        with pytest.raises(ServerError, match="too long"):
            ask(server, tmp_path, concurrency=1)
        assert "english 5" in server.messages()[-1]
        assert "english 5" not in server.messages()[-2], "asked once: the format is not the reason"


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 4096 tokens.",
        "the request exceeds the available context size",
        "Input validation error: `inputs` must have less than 4096 tokens.",
        "prompt is too long",
    ],
)
def test_a_message_that_is_too_long_does_not_loosen_the_format(tmp_path, words):
    with serving(lambda body: Refusal(400, words)) as server:
        with pytest.raises(ServerError, match="refuses"):
            ask(server, tmp_path, concurrency=1)
        assert len(server.bodies) == 1, "not asked again in another format"


def test_a_refused_format_is_loosened_though_the_refusal_repeats_the_message(tmp_path):
    def repeats(body):
        return Refusal(422, f"extra field: {body}") if body.get("response_format") else prefers_longer(body)

    assert "length" in MESSAGES[0].lower(), "vacuous unless the message speaks of it"
    with serving(repeats) as server:
        assert {judgement.response_format for judgement in ask(server, tmp_path)} == {"text"}


def test_only_the_named_key_is_sent_and_it_is_written_nowhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "saved")
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-of-the-judge")
    with serving() as server:
        ask(server, tmp_path, MESSAGES[:1])
        assert "authorization" not in server.headers[-1], "a saved token is no business of any server"
        ask(server, tmp_path, MESSAGES[:2], api_key_env="JUDGE_KEY")
        assert server.headers[-1]["authorization"] == "Bearer sk-secret-of-the-judge"
    with serving(lambda body: Refusal(401, "bad key sk-secret-of-the-judge")) as server:
        with pytest.raises(ServerError, match=r"bad key \*\*\*") as caught:
            ask(server, tmp_path, api_key_env="JUDGE_KEY")
        assert "secret" not in str(caught.value)
    with serving(lambda body: Refusal(401, 40 * "sk-secret-of-the-judge")) as server:  # one is where the text is cut
        with pytest.raises(ServerError, match=r"\*\*\*") as caught:
            ask(server, tmp_path, api_key_env="JUDGE_KEY")
        assert "sk-" not in str(caught.value)
        command = command_of(tmp_path, server.url, "--api-key-env", "JUDGE_KEY")
        assert main(command) == 2
    printed = capsys.readouterr()
    assert "secret" not in printed.out + printed.err
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_missing_key_or_offline_mode_stop_before_any_call(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setattr("llink.data.chat_client.get_token", lambda: None)
    with serving() as server:
        with pytest.raises(LlinkConfigError, match="NO_SUCH_KEY"):
            ask(server, tmp_path, api_key_env="NO_SUCH_KEY")
        with pytest.raises(LlinkConfigError, match="HF_TOKEN"):
            ask(server, tmp_path, judge_url=None)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(LlinkConfigError, match="HF_HUB_OFFLINE is set"):
            ask(server, tmp_path)
        assert not server.bodies
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"judge_model": ""}, "--judge-model"),
        ({"judge_url": "localhost:8000"}, "http://localhost:8000/v1"),
        ({"judge_url": "http://me:secret@host/v1"}, "api-key-env"),
        ({"attempts": 0}, "at least 1"),
        ({"concurrency": 0}, "at least 1"),
        ({"retries": -1}, "at least 0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"timeout": -1.0}, "timeout"),
        ({"response_format": "xml"}, "json_schema"),
    ],
)
def test_settings_out_of_range_are_refused(changed, words):
    with pytest.raises(LlinkConfigError, match=words) as caught:
        JudgeSettings(**{"judge_model": "judge", **changed})
    assert "secret" not in str(caught.value)


def test_a_notebook_awaits_it(tmp_path):
    with serving() as server:

        async def cell():
            return await ask_judge_async(MESSAGES, PROMPT, settings(server), tmp_path / "judgements.jsonl")

        assert tally(verdicts_of(asyncio.run(cell())))["wins"] == N * 3 // 4


def command_of(folder, url, *extra, systems=("long", "short"), model="judge"):
    for name in systems:
        write_outputs(folder / "outputs" / f"{name}.jsonl", outputs(name))
    files = [str(folder / "outputs" / f"{name}.jsonl") for name in systems]
    waits = ["--retry-wait", "0.01", "--retries", "1"]
    judge = ["--judge-url", url, "--judge-model", model]
    return ["eval", "judge", "--outputs", *files, *judge, *waits, "--output-dir", str(folder), *extra]


def test_the_command_writes_table_2(tmp_path, capsys):
    def biased(body):
        return prefers_longer(body) if "reference 1" in body["messages"][0]["content"] else always_a(body)

    with serving(biased) as server:
        assert main(command_of(tmp_path, server.url)) == 0
        printed = capsys.readouterr().out
        assert "long vs. short" in printed
        asked = len(server.bodies)
        assert main(command_of(tmp_path, server.url)) == 0
        assert len(server.bodies) == asked == 2 * N
    record = json.loads((tmp_path / "judge.json").read_text("utf-8"))
    groups = record["results"]["long vs. short"]
    assert groups["all"]["inconsistent"] == 9
    assert groups["all"]["n"] == N == groups["content understanding"]["n"] + groups["Q&A"]["n"]
    assert groups["task: title"]["n"] == N // 3
    assert record["results"]["judge"]["judgements"] == 2 * N
    assert record["results"]["judge"]["readable_at_once"] == 1
    assert record["results"]["judge"]["prompt_tokens"] == 100 * 2 * N
    assert record["arguments"]["judge_model"] == "judge"
    assert (tmp_path / "judge.png").read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in (tmp_path / "judge" / "examples.jsonl").read_text("utf-8").splitlines()]
    assert Counter(row["outcome"] for row in rows)["inconsistent"] == 9
    assert tally([(row["first_as_a"], row["second_as_a"]) for row in rows]) == groups["all"]


def test_one_system_against_several(tmp_path):
    with serving() as server:
        command = command_of(tmp_path, server.url, "--limit", "2", systems=("short", "long", "other"))
        assert main(command) == 0
        assert len(set(server.messages())) == len(server.bodies)
    results = json.loads((tmp_path / "judge.json").read_text("utf-8"))["results"]
    assert set(results) == {"judge", "short vs. long", "short vs. other"}
    assert all(results[name]["all"]["n"] == 4 for name in results if name != "judge")


def test_a_dry_run_asks_nothing_and_counts_what_is_missing(tmp_path, capsys):
    with serving() as server:
        prices = ["--price-per-million-input", "1", "--price-per-million-output", "2"]
        command = command_of(tmp_path, server.url, *prices)
        assert main([*command, "--dry-run"]) == 0
        printed = capsys.readouterr().out
        assert f"| {2 * N} " in printed
        assert "cost_at_most" in printed
        assert not (tmp_path / "judge").exists()
        assert not server.bodies
        assert main([*command, "--limit", "3"]) == 0
        asked = len(server.bodies)
        assert asked == 12, "two buckets, three examples, two orders"
        capsys.readouterr()
        assert main([*command, "--dry-run"]) == 0
        assert f"{asked} of {2 * N} judgements need no call" in capsys.readouterr().out
        assert len(server.bodies) == asked


def test_a_prompt_of_the_users_own(tmp_path):
    prompt = tmp_path / "mine.txt"
    prompt.write_text(
        "{{ prompt }} {{ english }} <answer_a>\n{{ answer_a }}\n</answer_a> <answer_b>\n{{ answer_b }}\n"
        '</answer_b> Say {"verdict": "A"}, "B" or "tie", please.',
        "utf-8",
    )
    with serving() as server:
        assert main(command_of(tmp_path, server.url, "--judge-prompt", str(prompt))) == 0
        assert all(message.endswith("please.") for message in server.messages())
        prompt.write_text("{{ prompt }} {{ answer_a }}")
        asked = len(server.bodies)
        assert main(command_of(tmp_path, server.url, "--judge-prompt", str(prompt))) == 2
        assert len(server.bodies) == asked


def test_bad_commands_ask_nothing(tmp_path, capsys):
    with serving() as server:
        command = command_of(tmp_path, server.url)
        files = command[3:5]
        lines = Path(files[1]).read_text("utf-8").splitlines(keepends=True)

        def changed(name, content):
            path = tmp_path / f"{name}.jsonl"
            path.write_text(content, "utf-8")
            return [files[0], str(path)]

        bad = {
            "shorter": (changed("shorter", "".join(lines[:-1])), "11"),
            "order": (changed("order", "".join(reversed(lines))), "differ in id"),
            "empty": (changed("empty", ""), "no outputs"),
            "broken": (changed("broken", lines[0] + "{\n"), "line 2"),
            "missing": ([files[0], str(tmp_path / "none.jsonl")], "none.jsonl"),
            "same file": ([files[0], files[0]], "twice"),
            "same answers": (changed("copy", Path(files[0]).read_text("utf-8")), "long and copy"),
            "one file": (files[:1], "two or more"),
            "one price": ([*files, "--price-per-million-input", "1"], "--price-per-million-output"),
        }
        for name, (given, words) in bad.items():
            assert main([*command[:3], *given, *command[5:]]) == 2, name
            error = capsys.readouterr().err
            assert words in error, (name, error)
        assert not server.bodies
        assert not (tmp_path / "judge").exists()


@pytest.mark.slow
def test_a_killed_command_goes_on(tmp_path):
    answers, killed = itertools.count(), threading.Event()

    def slow(body):
        if next(answers) >= 5:
            killed.wait(900)
        return prefers_longer(body)

    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
    file = tmp_path / "judge" / "judgements.jsonl"
    with serving(slow) as server:
        command = [sys.executable, "-m", "llink.cli", *command_of(tmp_path, server.url, "--concurrency", "2")]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=tmp_path)
        while not (file.is_file() and file.stat().st_size) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "vacuous unless it was killed under way"
        killed.set()
    kept = len(JudgementFile(file).records)
    assert 0 < kept < 2 * N
    with serving() as server:
        assert main(command_of(tmp_path, server.url)) == 0
        assert len(server.bodies) == 2 * N - kept
    results = json.loads((tmp_path / "judge.json").read_text("utf-8"))["results"]
    assert results["long vs. short"]["all"]["wins"] == N * 3 // 4


def test_guard_the_script_sees_the_answers():
    body = {"messages": [{"content": MESSAGES[0]}]}
    first, second = shown_answers(body)
    assert {len(first), len(second)} == {len(text) for text in PAIRS[QUESTIONS[0].pair].outputs}
    assert prefers_longer(body) in (verdict("A"), verdict("B"))
