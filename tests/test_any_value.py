"""Every argument of everything that is public, given what is none: it works, or ends in one sentence of llink's own."""

import inspect
import signal

import pytest
from any_value import ANY_NAME, PASSED_ON, VALUES, World, calls, public

from llink import LlinkError

PUBLIC = dict(public())
#: Seconds that a call may take.
PATIENCE = 60


@pytest.fixture(scope="module")
def world(make_model, tmp_path_factory):
    return calls(World(make_model, tmp_path_factory.mktemp("world")))


def test_a_call_is_known_of_everything_public(world):
    assert len(PUBLIC) > 80, "vacuous unless there is much"
    assert sorted(set(PUBLIC) ^ set(world)) == [], "give what is new a call that works, in any_value.py"


@pytest.fixture
def patience():
    """An error in place of a call that hangs."""

    def late(*_):
        raise TimeoutError(f"it took {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    yield lambda: signal.alarm(PATIENCE)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PUBLIC)
def test_any_value_works_or_is_refused_in_a_sentence(name, world, patience, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a text may be taken for a folder
    call, arguments = world[name]
    parameters = inspect.signature(PUBLIC[name]).parameters
    named = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and n != "self"]
    broken = []
    for argument in [n for n in named if n not in ("cls", *PASSED_ON.get(name, ()))]:
        for kind, make in VALUES.items():
            value = make()
            if value is None and parameters[argument].default is None:
                continue
            patience()
            try:
                call(**{**arguments, argument: value})
            except LlinkError as error:
                if not str(error).strip():
                    broken.append(f"{argument}={kind}: it says nothing")
            except Exception as error:
                broken.append(f"{argument}={kind}: {type(error).__name__}: {str(error)[:120]}")
    assert not broken, f"{len(broken)} of {name}:\n" + "\n".join(broken)


NAMED = [name for name in PUBLIC if name not in ANY_NAME and not name.endswith("push_to_hub")]  # tests/hub_cards


@pytest.mark.parametrize("name", NAMED)
def test_a_wrong_name_of_an_argument_is_named(name, world, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    call, arguments = world[name]
    with pytest.raises((LlinkError, TypeError), match="no_such_argument"):
        call(**arguments, no_such_argument=1)
