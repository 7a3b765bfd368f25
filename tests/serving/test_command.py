"""`llink serve` as a user starts it, and what it refuses before the model is loaded."""

import importlib.util
import signal
import socket

import httpx
import pytest
from page_server import model_running

from llink.cli import main


@pytest.fixture(scope="module")
def folder(make_model, tmp_path_factory):
    """A trained model's folder."""
    place = tmp_path_factory.mktemp("served") / "tiny"
    make_model().save_pretrained(place, self_contained=True)
    return str(place)


@pytest.mark.slow
def test_the_command_serves_and_stops(folder, monkeypatch):
    monkeypatch.setenv("LLINK_KEY", "secret")
    with model_running(folder, "--api-key-env", "LLINK_KEY", "--max-tokens", "4") as (address, process):
        assert httpx.get(f"{address}/models").status_code == 401
        with httpx.Client(headers={"Authorization": "Bearer secret"}, timeout=60) as http:
            assert http.get(f"{address}/models").json()["data"][0]["id"] == "tiny"
            content = [{"type": "foreign_text", "text": "ក្មេងទៅសាលា"}]
            body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
            answer = http.post(f"{address}/chat/completions", json=body).json()
        assert 1 <= answer["usage"]["completion_tokens"] <= 4
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.mark.slow
def test_one_that_is_killed_starts_again_at_its_address(folder):
    content = [{"type": "foreign_text", "text": "ក្មេងទៅសាលា"}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 300}
    with model_running(folder) as (address, process), httpx.Client(timeout=60) as http:
        whole = http.post(f"{address}/chat/completions", json=body).json()["choices"][0]
        assert whole["finish_reason"] == "length", "vacuous unless there is time to kill it"
        with http.stream("POST", f"{address}/chat/completions", json={**body, "stream": True}) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.kill()
            with pytest.raises(httpx.HTTPError):
                list(lines)
        process.wait(20)
    with model_running(folder, port=int(address.rpartition(":")[2].removesuffix("/v1"))) as (again, _):
        assert again == address
        assert httpx.post(f"{again}/chat/completions", json=body, timeout=60).json()["choices"][0] == whole


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--max-batch", "0"], "--max-batch 0 must be 1 or more"),
        (["--port", "70000"], "--port 70000 cannot be listened on"),
        (["--api-key-env", "NOT_SET_ANYWHERE"], "--api-key-env NOT_SET_ANYWHERE: this variable is empty or not set"),
    ],
)
def test_what_cannot_work_is_said_first(folder, options, told, capsys):
    assert main(["serve", folder, *options]) == 2
    assert told in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_first(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", folder, "--port", port]) == 2
    assert f"--port {port} cannot be listened on" in capsys.readouterr().err


def test_without_its_libraries_it_names_the_extra(folder, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "uvicorn" else find(name, *a))
    assert main(["serve", folder]) == 2
    assert "pip install 'llink[serve]'" in capsys.readouterr().err
