"""`llink synthesize` against real local servers, good and bad: nothing is lost, nothing doubled, every drop counted."""

import asyncio
import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from judge_server import Refusal, serving
from prepare_files import write_moses
from synthesis_server import asked_task, example_of, good, shown_text

from llink.cli import main
from llink.cli.parsing import parse_arguments
from llink.data.chat_client import ChatClient
from llink.data.demo_corpus import demo_pairs
from llink.data.errors import DataError, ServerError
from llink.data.instructions import read_instructions
from llink.data.journal import Journal
from llink.data.synthesis.asking import Answer
from llink.data.synthesis.config import SynthesisConfig, SynthesisServer
from llink.data.synthesis.pipeline import Synthesis
from llink.data.synthesis.tasks import TASK_TABLE

#: Seconds after which a command of a test has failed.
DEADLINE = 900
SPLITS = ("train=24", "held_out=6")
FORK = multiprocessing.get_context("fork")
WORK = ["--tasks", "translate_to_english=1", "qa_about_text=1", "paraphrase=1", "--max-repeats", "-1"]


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """huggingface_hub calls no server, a local one neither, while it is offline, as all tests are."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Line-aligned files of a hundred pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [(pair.english, pair.foreign) for pair in demo_pairs(120)]
    return [str(path) for path in write_moses(folder, "demo", rows)]


def command(pairs, url, output, *extra, splits=SPLITS):
    waits = ["--retry-wait", "0.01", "--retries", "3", "--timeout", "20"]
    place = ["--pairs", *pairs, "--language", "km", "--output-dir", str(output), "--splits", *splits]
    return ["synthesize", "--model", "judge", "--url", url, *place, *waits, *WORK, *extra]


def manifest_of(output):
    return json.loads((output / "manifest.json").read_text("utf-8"))


def answers_of(output):
    """The answers; the first of two attempts stands in a line of its own, too."""
    lines = (output / "answers.jsonl").read_text("utf-8").splitlines()
    return list({row["key"]: row for row in map(json.loads, lines)}.values())


def examples(output):
    return {name: (output / f"{name}.jsonl").read_bytes() for name in ("train", "held_out")}


def dropped(output):
    found = Counter()
    for row in manifest_of(output)["tasks"]:
        found.update(row["dropped"])
        assert row["kept"] + sum(row["dropped"].values()) == row["judged"], "every example is accounted for"
    return found


@pytest.fixture(scope="module")
def unbroken(pairs, tmp_path_factory):
    """The examples of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("unbroken") / "out"
    with pytest.MonkeyPatch.context() as patch, serving(good) as server:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        assert main(command(pairs, server.url, output)) == 0
    return output


def test_examples_of_a_good_server(unbroken, pairs):
    manifest = manifest_of(unbroken)
    assert manifest["complete"]
    assert {split["name"]: split["examples"] for split in manifest["splits"]} == {"train": 24, "held_out": 6}
    english = {}
    for name in ("train", "held_out"):
        rows = read_instructions(unbroken / f"{name}.jsonl")
        english[name] = set(rows["english"])
        for row in rows:
            assert row["prompt"].count("<foreign_emb>") == 1
            if row["task"] == "translate_to_english":
                assert row["completion"] == row["english"]
    assert not english["train"] & english["held_out"]
    tasks = Counter(json.loads(line)["task"] for line in examples(unbroken)["train"].splitlines())
    assert tasks == {"translate_to_english": 8, "qa_about_text": 8, "paraphrase": 8}
    assert len(answers_of(unbroken)) == 30, "no more is asked than is needed"
    assert manifest["spent"] == {"answers": 30, "prompt_tokens": 3000, "completion_tokens": 150}
    assert set(manifest["prompts"]) == set(tasks)
    assert "url" not in json.dumps(manifest), "a private address is nobody's business"


def test_every_task_and_its_schema(pairs, tmp_path):
    schemas = {}

    def model(body):
        form = body["response_format"]
        schemas[asked_task(body)] = (form.get("json_schema") or {}).get("schema") or form.get("value")
        return good(body)

    with serving(model) as server:
        extra = ["--tasks", *TASK_TABLE, "--examples-per-pair", "6"]
        assert main(command(pairs, server.url, tmp_path / "out", *extra)) == 0
    assert set(schemas) == set(TASK_TABLE)
    for task, schema in schemas.items():
        wanted = {"instruction"} if task == "translate_to_english" else {"instruction", "answer"}
        assert set(schema["properties"]) == set(schema["required"]) == wanted
    bullets = [row for row in read_instructions(tmp_path / "out" / "train.jsonl") if row["task"] == "bullet_pointify"]
    assert bullets
    assert all(len(row["completion"].splitlines()) == 2 for row in bullets)


def test_weak_answers_are_dropped_and_counted_by_reason(pairs, tmp_path, capsys):
    faults = {
        0: lambda body: "Well, it is hard to say.",
        1: lambda body: good(body).replace("<foreign_emb>", "the text"),
        2: lambda body: json.dumps(example_of(body) | {"instruction": "ប្រែ <foreign_emb>"}),
        3: lambda body: good(body).replace('"instruction": "', '"instruction": "As an AI, I ask: '),
        4: lambda body: json.dumps(example_of(body) | {"extra": "member"}),
        5: good,
        6: good,
    }

    def model(body):
        return faults[len(shown_text(body)) % 7](body)

    with serving(model) as server:
        assert main(command(pairs, server.url, tmp_path / "out", "--examples", splits=("train=-1", "held_out=3"))) == 0
    found = dropped(tmp_path / "out")
    assert {"unreadable", "placeholder", "leaked", "chatter"} <= set(found)
    printed = capsys.readouterr().out
    assert all(f"| {name} " in printed for name in found)
    assert "unreadable: {" in printed, "examples are shown"
    rows = read_instructions(tmp_path / "out" / "train.jsonl")
    assert {len(row["english"]) % 7 for row in rows} == {5, 6}
    unreadable = [row for row in answers_of(tmp_path / "out") if len(row["answers"]) == 2]
    assert {len(row["answers"][0]) > 0 for row in unreadable} == {True}
    again = [body for body in server.bodies if "Write only this JSON object" in body["messages"][-1]["content"]]
    assert len(again) == len(unreadable) == found["unreadable"], "asked once more, in other words"


class Bad:
    """Slow, 429, 500, dropped connections, cut JSON, and bodies that are no completion: each message once or twice.

    After `answers` more answers it holds every call, until it is let go.
    """

    def __init__(self):
        self.lock, self.seen, self.answered = threading.Lock(), Counter(), Counter()
        self.answers, self.let_go = 0, threading.Event()

    def may_answer(self, let_go):
        with self.lock:
            self.answers -= not let_go.is_set()
            if self.answers >= 0 and not let_go.is_set():
                return True
        let_go.wait(DEADLINE)
        return False

    def __call__(self, body):
        let_go = self.let_go  # of the run that called
        key = (asked_task(body), shown_text(body))
        with self.lock:
            self.seen[key] += 1
            times, kind = self.seen[key], len(shown_text(body)) % 8
        if times <= 1 + (kind == 1):
            if kind == 0:
                time.sleep(0.2)
            if kind in (1, 2):
                return Refusal((429, 500)[kind - 1], "busy", {"Retry-After": "0"})
            if kind == 3:
                return Refusal(
                    200, "", {"Content-Length": "9999", "Connection": "close"}
                )  # the connection drops in the middle
            if kind == 4:
                return Refusal(200, "not a completion")
            if kind == 5:
                # cut JSON: an answer, but not what was asked for
                return good(body)[:-5] if self.may_answer(let_go) else Refusal(500)
            if kind == 6:
                return {"text": good(body)}  # a wrong schema: the content is no text
        if not self.may_answer(let_go):
            return Refusal(500)
        with self.lock:
            self.answered[key] += 1
        return good(body)


def killed_after(answers, bad, arguments, output):
    """Runs a command until so many more answers are on disk, and kills it then."""
    before, bad.answers, bad.let_go = lines_of(output / "answers.jsonl"), answers, threading.Event()
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "llink.cli", *arguments], env=environment)
    try:
        end = time.monotonic() + DEADLINE
        while lines_of(output / "answers.jsonl") < before + answers:
            assert process.poll() is None, "vacuous unless it is killed under way"
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        assert process.wait(DEADLINE) == -signal.SIGKILL
        bad.let_go.set()
    assert lines_of(output / "answers.jsonl") == before + answers


@pytest.mark.slow
def test_a_bad_server_and_kills_in_the_middle_lose_nothing_and_double_nothing(pairs, unbroken, tmp_path):
    output, bad = tmp_path / "out", Bad()
    with serving(bad) as server:
        for answers in (4, 10):
            killed_after(answers, bad, command(pairs, server.url, output, "--concurrency", "3"), output)
            with (output / "answers.jsonl").open("ab") as file:
                file.write(b'{"key": "half-writ')  # what a kill in the middle of a line leaves
            assert not (output / "train.jsonl").exists()
        bad.answers, bad.let_go = 1000, threading.Event()
        assert main(command(pairs, server.url, output, "--concurrency", "3")) == 0
    assert examples(output) == examples(unbroken), "the very examples of a run that nothing disturbed"
    answers = answers_of(output)
    assert len({row["key"] for row in answers}) == len(answers) == 30
    assert set(bad.answered.values()) == {1}, "no answer is paid for twice"
    kinds = {len(text) % 8 for _, text in bad.seen}
    assert {1, 2, 3, 4, 5, 6} <= kinds, "vacuous unless it was bad in every way"
    asked = len(server.bodies)
    assert main(command(pairs, "http://localhost:9/v1", output)) == 0
    assert len(server.bodies) == asked, "a finished folder asks nobody"


def lines_of(path):
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def test_an_outage_stops_the_run_and_it_goes_on(pairs, unbroken, tmp_path, capsys):
    with serving(good, die_at=9) as server:
        assert main(command(pairs, server.url, tmp_path / "out", "--concurrency", "1")) == 2
    error = capsys.readouterr().err
    assert "did not answer (4 tries)" in error
    assert "8 answers are kept" in error
    assert not manifest_of(tmp_path / "out")["complete"]
    with serving(good) as server:
        assert main(command(pairs, server.url, tmp_path / "out")) == 0
        assert len(server.bodies) == 22
    assert examples(tmp_path / "out") == examples(unbroken)


def test_one_message_that_the_server_never_takes_is_dropped(pairs, unbroken, tmp_path):
    poison = json.loads(examples(unbroken)["train"].splitlines()[3])["english"]

    def model(body):
        return Refusal(400, "I will not say that") if shown_text(body) == poison else good(body)

    with serving(model) as server:
        assert main(command(pairs, server.url, tmp_path / "out", "--concurrency", "1")) == 0
    assert dropped(tmp_path / "out") == {"refused": 1}
    rows = read_instructions(tmp_path / "out" / "train.jsonl")
    assert len(rows) == 24
    assert poison not in rows["english"]


@pytest.mark.parametrize("trouble", [429, 500, "hangs"])
@pytest.mark.slow
def test_passing_trouble_with_one_message_is_no_refusal_and_is_asked_again(pairs, unbroken, tmp_path, capsys, trouble):
    poison, others = json.loads(examples(unbroken)["train"].splitlines()[3])["english"], threading.Semaphore(0)

    def model(body):
        if shown_text(body) != poison:
            others.release()
            return good(body)
        for _ in range(2):
            others.acquire(timeout=10)  # so that the others go on meanwhile
        return (time.sleep(2) or good(body)) if trouble == "hangs" else Refusal(trouble, "busy", {"Retry-After": "0"})

    with serving(model) as server:
        patience = ["--timeout", "1"] if trouble == "hangs" else []
        assert main(command(pairs, server.url, tmp_path / "out", "--concurrency", "2", *patience)) == 2
    assert "did not answer (4 tries)" in capsys.readouterr().err
    assert len(answers_of(tmp_path / "out")) > 4, "vacuous unless others went on"
    assert not any(answer["refused"] for answer in answers_of(tmp_path / "out"))
    with serving(good) as server:
        assert main(command(pairs, server.url, tmp_path / "out")) == 0
        assert poison in map(shown_text, server.bodies)
    assert examples(tmp_path / "out") == examples(unbroken)


def test_a_refusal_stops_at_once_and_a_key_is_written_nowhere(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODEL_KEY", "sk-secret-of-the-model")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with serving(lambda body: Refusal(401, "bad key sk-secret-of-the-model")) as server:
        extra = ["--api-key-env", "MODEL_KEY", "--concurrency", "1"]
        assert main(command(pairs, server.url, tmp_path / "out", *extra)) == 2
        assert len(server.bodies) == 1
        assert server.headers[0]["authorization"] == "Bearer sk-secret-of-the-model"
        assert main(command(pairs, server.url, tmp_path / "other", "--api-key-env", "NO_SUCH_KEY")) == 2
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert main(command(pairs, server.url, tmp_path / "other")) == 2
        assert len(server.bodies) == 1
    printed = capsys.readouterr()
    assert "NO_SUCH_KEY" in printed.err
    assert "HF_HUB_OFFLINE" in printed.err
    assert "secret" not in printed.out + printed.err
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not (tmp_path / "other").exists()


def test_a_token_budget_is_kept_and_can_be_raised(pairs, unbroken, tmp_path, capsys):
    small = ["--max-tokens", "20", "--attempts", "1", "--token-budget"]
    with serving(good) as server:
        assert main(command(pairs, server.url, tmp_path / "out", *small, "2000", "--concurrency", "4")) == 0
        assert "larger --token-budget" in capsys.readouterr().out
        manifest = manifest_of(tmp_path / "out")
        spent = manifest["spent"]["prompt_tokens"] + manifest["spent"]["completion_tokens"]
        assert 1000 < spent <= 2000
        assert not manifest["complete"]
        asked = len(server.bodies)
        assert main(command(pairs, server.url, tmp_path / "out", *small, "2000")) == 0
        assert len(server.bodies) == asked, "nothing more is affordable"
        assert main(command(pairs, server.url, tmp_path / "out", *small, "100000")) == 0
        assert len(server.bodies) == 30
    assert manifest_of(tmp_path / "out")["complete"]
    assert examples(tmp_path / "out") == examples(unbroken)


def test_an_unreadable_answer_is_kept_and_paid_for_when_the_server_then_dies(pairs, unbroken, tmp_path):
    output = tmp_path / "out"
    with serving(lambda body: "mumble", die_at=2) as server:
        assert main(command(pairs, server.url, output, "--concurrency", "1")) == 2
    (kept,) = answers_of(output)
    assert (kept["answers"], kept["prompt_tokens"], kept["completion_tokens"]) == (["mumble"], 100, 5)
    with serving(good) as server:
        assert main(command(pairs, server.url, output, "--token-budget", "100")) == 0
        assert not server.bodies, "nothing is affordable"
        assert manifest_of(output)["spent"] == {"answers": 1, "prompt_tokens": 100, "completion_tokens": 5}
        assert main(command(pairs, server.url, output)) == 0
        assert sorted(body["seed"] for body in server.bodies) == [*[0] * 29, 1], "it goes on with the second attempt"
    assert manifest_of(output)["spent"]["prompt_tokens"] == 3100
    assert examples(output) == examples(unbroken)


def test_a_budget_that_calls_under_way_might_pass_is_not_spent(pairs, unbroken, tmp_path, capsys):
    small = ["--max-tokens", "20", "--attempts", "1", "--concurrency", "8", "--token-budget", "3900"]
    lock, running, most = threading.Lock(), Counter(), []

    def model(body):
        with lock:
            running["now"] += 1
            most.append(running["now"])
        time.sleep(0.05)
        with lock:
            running["now"] -= 1
        return good(body)

    with serving(model) as server:
        assert main(command(pairs, server.url, tmp_path / "out", *small)) == 0
    assert max(most[-8:]) < max(most), "vacuous unless calls had to wait for others"
    assert "--token-budget" not in capsys.readouterr().out
    assert manifest_of(tmp_path / "out")["complete"]
    assert examples(tmp_path / "out") == examples(unbroken)


def test_answers_that_another_run_adds_meanwhile_are_counted(pairs, tmp_path):
    with serving(good) as server:
        words = command(pairs, server.url, tmp_path / "out")[1:]
        early = Synthesis(*parse_arguments("synthesize", words, (SynthesisConfig, SynthesisServer)))
        with serving(good, die_at=9) as other:
            assert main(command(pairs, other.url, tmp_path / "out", "--concurrency", "1")) == 2
        spent = early.run()["spent"]
        assert len(server.bodies) == 22
    assert spent == {"answers": 30, "prompt_tokens": 3000, "completion_tokens": 150}


def test_a_dry_run_asks_nothing(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    prices = ["--price-per-million-input", "1", "--price-per-million-output", "2"]
    with serving(good) as server:
        assert main([*command(pairs, server.url, tmp_path / "out", *prices), "--dry-run"]) == 0
        assert not server.bodies
    printed = capsys.readouterr().out
    assert "| calls                     | 30" in printed
    assert "cost_at_most" in printed
    assert not (tmp_path / "out").exists()


def test_cost_and_throughput_are_shown_while_it_runs(pairs, tmp_path, capsys):
    prices = ["--price-per-million-input", "1000", "--price-per-million-output", "2000"]
    with serving(good) as server:
        assert main(command(pairs, server.url, tmp_path / "out", *prices)) == 0
    printed = capsys.readouterr()
    assert "tokens/s=" in printed.err
    assert "cost=" in printed.err
    assert "30/30" in printed.err
    assert manifest_of(tmp_path / "out")["spent"]["cost"] == pytest.approx(3000 * 0.001 + 150 * 0.002)


def test_a_rate_limit_spaces_calls():
    times = []

    def model(body):
        times.append(time.monotonic())
        return "{}"

    async def ask(server):
        settings = SynthesisServer(model="judge", url=server.url, requests_per_minute=600)
        async with ChatClient(settings) as client:
            times.append(time.monotonic())
            await asyncio.gather(*(client.ask([{"role": "user", "content": "x"}], {"title": "t"}) for _ in range(4)))

    with serving(model) as server:
        asyncio.run(ask(server))
    began, *times = times
    assert len(times) == 4
    assert max(times) - began >= 0.29, "four calls begin, a tenth of a second apart"


def test_a_server_that_hangs_times_out():
    async def ask(server):
        settings = SynthesisServer(model="judge", url=server.url, timeout=0.1, retries=1, retry_wait=0)
        async with ChatClient(settings) as client:
            await client.ask([{"role": "user", "content": "x"}], {"title": "t"})

    with (
        serving(lambda body: time.sleep(0.5) or "{}") as server,
        pytest.raises(ServerError, match=r"did not answer \(2"),
    ):
        asyncio.run(ask(server))


def test_more_attempts_or_another_prompt_ask_again_and_only_then(pairs, tmp_path, capsys):
    with serving(lambda body: "mumble" if len(shown_text(body)) % 2 else good(body)) as server:
        first = command(pairs, server.url, tmp_path / "out", "--attempts", "1", splits=("train=-1", "held_out=2"))
        assert main(first) == 0
        asked, lost = len(server.bodies), dropped(tmp_path / "out")["unreadable"]
        assert lost > 5
        more = [word if word != "1" or first[n - 1] != "--attempts" else "2" for n, word in enumerate(first)]
        assert main(more) == 2
        assert "--attempts 1" in capsys.readouterr().err
        assert main([*more, "--overwrite"]) == 0
        assert len(server.bodies) == asked + dropped(tmp_path / "out")["unreadable"], "only what could not be read"


def test_answers_that_others_write_or_damaged_are_refused(pairs, tmp_path, capsys):
    output = tmp_path / "out"
    with serving(good, die_at=5) as server:
        assert main(command(pairs, server.url, output, "--concurrency", "1")) == 2
    with serving(good) as server:
        with Journal(output / "answers.jsonl", Answer):
            assert main(command(pairs, server.url, output)) == 2
            assert "Another run (process" in capsys.readouterr().err
        lines = (output / "answers.jsonl").read_bytes().splitlines(keepends=True)
        (output / "answers.jsonl").write_bytes(lines[0] + b"nonsense\n" + lines[1])
        assert main(command(pairs, server.url, output)) == 2
        assert "line 2" in capsys.readouterr().err
        assert not server.bodies


def test_a_finished_folder_that_another_run_writes_is_left_as_it_is(pairs, unbroken, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(unbroken, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    with serving(good) as server:
        with Journal(output / "answers.jsonl", Answer):
            assert main(command(pairs, server.url, output, "--overwrite", "--seed", "3")) == 2
        assert "Another run (process" in capsys.readouterr().err
        assert not server.bodies
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def run_with_a_full_disk(arguments, errors):
    """A limit on the size of files stands in for a full disk: writing fails in the middle of a line."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, resource.RLIM_INFINITY))
    sys.stdout = sys.stderr = io.StringIO()
    code = main(arguments)
    errors.send((code, sys.stderr.getvalue()))


def test_a_full_disk_is_told_and_the_run_goes_on_later(pairs, unbroken, tmp_path):
    output = tmp_path / "out"
    with serving(good) as server:
        receiver, sender = FORK.Pipe()
        arguments = command(pairs, server.url, output, "--concurrency", "2")
        process = FORK.Process(target=run_with_a_full_disk, args=[arguments, sender])
        process.start()
        assert receiver.poll(300)
        code, error = receiver.recv()
        process.join()
        assert code == 2
        assert "Cannot write" in error
        assert "the same command goes on" in error
        kept = lines_of(output / "answers.jsonl")
        assert 0 < kept < 30
        assert (output / "answers.jsonl").read_bytes().endswith(b"\n"), "no half of a line is left"
        assert main(command(pairs, server.url, output)) == 0
    assert examples(output) == examples(unbroken)


def test_an_interrupt_says_how_to_go_on(pairs, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("llink.data.synthesis.asking.Asker.fill", interrupted)
    assert main(command(pairs, "http://localhost:9/v1", tmp_path / "out")) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_journal_is_written_by_one_at_a_time(tmp_path):
    answer = Answer("k", "x", "title", ["{}"], "", "text", 1, 1)
    with Journal(tmp_path / "a.jsonl", Answer) as first:
        first.add(answer)
        with ThreadPoolExecutor(1) as pool, pytest.raises(DataError, match="Another run"):
            pool.submit(Journal(tmp_path / "a.jsonl", Answer).__enter__).result()
    assert Journal(tmp_path / "a.jsonl", Answer).records == {"k": answer}
