"""The Space: the same page, complete, checked where llink cannot be imported, and in one commit."""

import ast
import json
from importlib.metadata import version
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_server import DECODER, ENCODER, TOKEN, Fault, build, reload_here
from huggingface_hub import SpaceCard

from llink.app import space
from llink.app.space import CODE, PAGE_FILES, ROOT, push_space
from llink.cli import main
from llink.hub_cards import publishing
from llink.hub_cards.publishing import push_to_hub
from llink.hub_cards.upload import LlinkPushError

MODEL, SPACE = "someone/Llama-khmer", "someone/Llama-page"
OWN = {"app.py", "requirements.txt", "page.json", "README.md", *(f"{CODE}/{name}" for name in PAGE_FILES)}
SETTINGS = {"title": "Ask", "sentences": ["the cat", "a dog"], "examples": ["ក្មេងទៅសាលា", "the cat"]}
SETTINGS |= {"max_new_tokens": 8}


@pytest.fixture
def quick(monkeypatch):
    """Compares with the canary in this process, and takes the Space's answer for granted."""
    monkeypatch.setattr(publishing, "reload", reload_here)
    monkeypatch.setattr(space, "check_space", lambda *_, **__: "an answer")


@pytest.fixture
def files(tmp_path):
    """Options of the command: few sentences and examples."""
    (tmp_path / "en.txt").write_text("\n".join(SETTINGS["sentences"]), "utf-8")
    (tmp_path / "km.txt").write_text("\n".join(SETTINGS["examples"]), "utf-8")
    texts = ["--sentences", str(tmp_path / "en.txt"), "--examples", str(tmp_path / "km.txt")]
    return [*texts, "--max-new-tokens", "8", "--title", "Ask"]


def pushed(hub, branch="main"):
    return {name: data for name, data in hub.files(f"spaces/{SPACE}", branch).items() if name != ".gitattributes"}


def commits(hub):
    return [message for _, message, _ in hub.repos[f"spaces/{SPACE}"].log][1:]


@pytest.mark.slow
def test_a_model_on_the_hub_gets_a_space_that_answers(hub, monkeypatch, files, capsys):
    """With the real check: the Space's own app, started where llink cannot be imported."""
    monkeypatch.setattr(publishing, "reload", reload_here)
    push_to_hub(build(), MODEL)
    commit = hub.repos[MODEL].heads["main"]
    answers = []
    check = space.check_space
    monkeypatch.setattr(space, "check_space", lambda *a, **k: answers.append(check(*a, **k)))
    assert main(["space", MODEL, SPACE, "--private", "--trust_remote_code", *files]) == 0, capsys.readouterr().err
    assert f"spaces/{SPACE}" in capsys.readouterr().out
    assert len(answers) == 1
    assert answers[0]
    assert commits(hub) == ["Upload llink page"]
    assert hub.repos[f"spaces/{SPACE}"].private
    found = pushed(hub)
    assert set(found) == OWN
    assert f"{MODEL!r}, revision={commit!r}, trust_remote_code=True" in found["app.py"].decode()
    assert json.loads(found["page.json"]) == SETTINGS
    for name in PAGE_FILES:
        assert found[f"{CODE}/{name}"] == (ROOT / name).read_bytes(), "the page has one implementation"
    pins = dict(line.split("==") for line in found["requirements.txt"].decode().split())
    assert pins["transformers"] == version("transformers")
    assert not any("+" in pin for pin in pins.values())
    card = SpaceCard(found["README.md"].decode()).data
    assert (card.sdk, card.sdk_version, card.app_file) == ("gradio", version("gradio"), "app.py")
    assert (card.models, card.license, card.title) == ([MODEL], "llama3.2", "Ask")


@pytest.mark.slow
def test_a_folder_travels_with_its_space(hub, monkeypatch, tmp_path, files, capsys):
    """With the real check, offline: the model that the Space holds is all that it needs."""
    monkeypatch.setattr(publishing, "reload", reload_here)
    build().save_pretrained(tmp_path / "out", self_contained=True)
    for name, value in (("HF_HUB_OFFLINE", "1"), ("HF_HUB_CACHE", str(tmp_path / "empty"))):
        monkeypatch.setenv(name, value)  # of the Space's process only
    assert not huggingface_hub.constants.HF_HUB_OFFLINE, "vacuous if this process could not push"
    assert main(["space", str(tmp_path / "out"), SPACE, *files]) == 0, capsys.readouterr().err
    found = pushed(hub)
    assert set(found) > OWN
    inner = {name.removeprefix("model/") for name in found if name.startswith("model/")}
    assert {"config.json", "model.safetensors", "modeling_llink.py", "NOTICE", "encoder/model.safetensors"} <= inner
    assert "README.md" not in inner, "its example would load the Space"
    assert 'HERE / "model"' in found["app.py"].decode()
    assert str(tmp_path).encode() not in b"".join(data for name, data in found.items() if "safetensors" not in name)
    assert SpaceCard(found["README.md"].decode()).data.models == [ENCODER, DECODER]


@pytest.mark.slow
def test_a_second_push_keeps_what_is_the_owners(hub, quick, tmp_path):
    build().save_pretrained(tmp_path / "out", self_contained=True)
    push_space(tmp_path / "out", SPACE, SETTINGS)
    first = pushed(hub)
    card = first["README.md"].decode().replace("emoji: 🌏", "emoji: 🐘").replace("title: Ask", "title: Elephants")
    card = card.replace("survives every push. -->\n", "survives every push. -->\n## Thanks\n")
    changed = {"README.md": card.encode(), "model/old.safetensors": b"x", "notes.txt": b"mine"}
    hub.repos[f"spaces/{SPACE}"].commit(first | changed, message="by hand")
    push_space(tmp_path / "out", SPACE, SETTINGS)
    assert set(pushed(hub)) == set(first) | {"notes.txt"}
    again = pushed(hub)["README.md"].decode()
    assert again.count("## Thanks") == 1
    assert "emoji: 🐘" in again
    assert SpaceCard(again).data.title == "Elephants"
    push_space(tmp_path / "out", SPACE, SETTINGS, revision="v2", message="on a branch")
    assert pushed(hub, "v2") == pushed(hub)


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("raise SystemExit('it is broken')", "does not start without llink: it is broken"),
        ("import llink", "does not start without llink: .*llink"),
    ],
)
@pytest.mark.slow
def test_a_space_that_does_not_answer_never_leaves(hub, monkeypatch, tmp_path, app, words):
    monkeypatch.setattr(publishing, "reload", reload_here)
    monkeypatch.setattr(space, "APP", app)
    build().save_pretrained(tmp_path / "out", self_contained=True)
    with pytest.raises(LlinkPushError, match=words):
        push_space(tmp_path / "out", SPACE, SETTINGS)
    assert f"spaces/{SPACE}" not in hub.repos


def test_code_from_the_hub_runs_only_where_it_is_trusted(hub, tmp_path, capsys):
    asked = len(hub.requests)
    assert main(["space", MODEL, SPACE]) == 2
    assert "--trust_remote_code" in capsys.readouterr().err
    assert len(hub.requests) == asked, "nothing was asked for"


@pytest.mark.parametrize(("private", "gated"), [(False, False), (True, False), (False, True)])
@pytest.mark.slow
def test_a_models_code_gets_a_token_only_if_it_cannot_be_read_without(hub, monkeypatch, private, gated):
    monkeypatch.setattr(publishing, "reload", reload_here)
    push_to_hub(build(), MODEL)
    hub.repos[MODEL].private, hub.repos[MODEL].gated = private, gated
    say = "from huggingface_hub import get_token\nraise SystemExit('its token: ' + str(get_token()))"
    monkeypatch.setattr(space, "APP", say)
    with pytest.raises(LlinkPushError, match=f"its token: {TOKEN if private or gated else None}"):
        push_space(MODEL, SPACE, SETTINGS, token=TOKEN, trust_remote_code=True)


@pytest.mark.parametrize("closed", [(), (MODEL,), (DECODER,), (MODEL, ENCODER)], ids=str)
@pytest.mark.slow
def test_a_space_that_needs_a_secret_says_so(hub, quick, tmp_path, caplog, closed):
    push_to_hub(build(), MODEL)
    for name in closed:
        hub.repos[name].private, hub.repos[name].gated = name == MODEL, name != MODEL
    push_space(MODEL, SPACE, SETTINGS, trust_remote_code=True)
    told = [record.message for record in caplog.records if "secret HF_TOKEN" in record.message]
    readme = pushed(hub)["README.md"].decode()
    assert len(told) == bool(closed)
    assert ("set the secret HF_TOKEN in the Space's settings" in readme) == bool(closed)
    for text in (readme, *told):
        assert not closed or f"read {' and '.join(closed)}: set" in text
    build().save_pretrained(tmp_path / "whole", self_contained=True)
    push_space(tmp_path / "whole", SPACE, SETTINGS)
    assert "secret HF_TOKEN" not in pushed(hub)["README.md"].decode(), "it holds all that it needs"


def test_what_cannot_be_a_space_is_refused(hub, quick, tmp_path, capsys):
    build().save_pretrained(tmp_path / "out", self_contained=True)
    (tmp_path / "empty").mkdir()
    out = str(tmp_path / "out")
    for model, repo, words in (
        ("someone/nothing", SPACE, "no model that can be read"),
        (ENCODER, SPACE, "holds no llink model"),
        (str(tmp_path / "empty"), SPACE, "holds no llink model"),
        (out, "a/b/c", "no name of a Space"),
        (out, "someone/page", "must begin with 'Llama'"),
        (out, "someone-else/Llama-page", "someone-else/Llama-page"),
    ):
        assert main(["space", model, repo, "--trust_remote_code"]) == 2
        assert words in capsys.readouterr().err
    assert not [name for name in hub.repos if name.startswith("spaces/")]


def test_a_failed_push_changes_nothing(hub, quick, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    build().save_pretrained(tmp_path / "out", self_contained=True)
    push_space(tmp_path / "out", SPACE, SETTINGS, message="good")
    hub.faults.append(Fault("POST", "/commit/", 500, times=99))
    with pytest.raises(LlinkPushError, match=r"was not pushed.*Nothing was changed"):
        push_space(tmp_path / "out", SPACE, SETTINGS | {"title": "Other"})
    assert commits(hub) == ["good"]


@pytest.mark.parametrize("name", PAGE_FILES)
def test_the_pages_files_need_only_each_other(name):
    """And Gradio, numpy and what a model's own code needs."""
    allowed = {"gradio", "numpy", "torch", "transformers", "html", "math", "warnings", "threading"}
    allowed |= {"collections", "concurrent", "dataclasses", "typing", "__future__"}
    found = set()
    for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module.partition(".")[0] in allowed
        elif isinstance(node, ast.ImportFrom):
            folder = (Path(name).parent / Path(*[".."] * (node.level - 1))).as_posix()
            path = (ROOT / folder / (node.module.replace(".", "/") + ".py")).resolve()
            found.add(path.relative_to(ROOT.resolve()).as_posix())
    assert found <= set(PAGE_FILES)
    assert found or name == "errors_llink.py", "vacuous unless the imports are found"
