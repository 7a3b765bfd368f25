"""Shared fixtures: tiny random bases on disk and models built on them; no network, one thread."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # for child processes too: each of pytest's two has a core, and threads would wait

import huggingface_hub
import pytest
import tiny
import torch
from hub_server import reload_here, tiny_hub
from hypothesis import HealthCheck, settings

from llink.hub_cards import publishing
from llink.modeling_llink import LlinkForCausalLM

torch.set_num_threads(1)
# CI tells of a change, not of luck; elsewhere examples are drawn anew. No machine is too slow.
settings.register_profile(
    "many",
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.register_profile("few", settings.get_profile("many"), max_examples=25)
settings.load_profile("many" if os.environ.get("LLINK_MANY_EXAMPLES") else "few")


def pytest_collection_modifyitems(items):
    """`slow(but=…)` does not hold for the named parameters, `matrix(only=…)` for these alone. Files with slow tests
    come first, the demo before all, so that no process ends with one alone (with `--no-loadscope-reorder`).
    """
    for item in items:
        name = item.callspec.id if hasattr(item, "callspec") else ""
        for mark in list(item.own_markers):
            if name in mark.kwargs.get("but", ()) or name not in mark.kwargs.get("only", (name,)):
                item.own_markers.remove(mark)
    first = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in first, item.path.name != "test_demo.py"))


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory):
    """A function (kind, family, **options) → folder of a tiny base, each made once."""
    root = tmp_path_factory.mktemp("bases")
    made = {}

    def folder(kind, family, **options):
        key = (kind, family, *sorted((name, str(value)) for name, value in options.items()))
        if key not in made:
            save = tiny.save_encoder if kind == "encoder" else tiny.save_decoder
            made[key] = save(family, root / f"{kind}-{len(made)}-{family}", **options)
        return made[key]

    return folder


@pytest.fixture(scope="session")
def make_model(base_folder):
    """A function that builds a fresh tiny model; `teacher_conditioning` is `none` unless given."""

    def make(encoder="xlm-roberta", decoder="llama", seed=0, awake=True, dtype=None, **config):
        options = {} if dtype is None else {"dtype": dtype}
        bases = base_folder("encoder", encoder, **options), base_folder("decoder", decoder, **options)
        torch.manual_seed(seed)  # after the bases, which are made on first use
        fixed = {} if config.get("slot_expander") == "tokens" else {"num_slots": 4}
        config = {"teacher_conditioning": "none", "stage": "inject", **fixed, **config}
        model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases, **config)
        return tiny.wake(model) if awake else model

    return make


@pytest.fixture(scope="session")
def shared_model(make_model):
    """A function (encoder, decoder) → a model that many tests read and none may change."""
    made = {}

    def get(encoder="xlm-roberta", decoder="llama"):
        if (encoder, decoder) not in made:
            made[encoder, decoder] = make_model(encoder, decoder)
        return made[encoder, decoder]

    return get


@pytest.fixture(scope="session")
def model(shared_model):
    """XLM-R and a tied Llama, K = 4, LoRA awake. Read only."""
    return shared_model()


@pytest.fixture
def hub(tmp_path, monkeypatch, base_folder):
    """A Hub server with the tiny bases on it, and a client that knows no other."""
    with tiny_hub(monkeypatch, tmp_path / "hf", base_folder) as server:
        yield server


@pytest.fixture
def quick(monkeypatch):
    """Compares with the canary in this process."""
    monkeypatch.setattr(publishing, "reload", reload_here)


@pytest.fixture
def impatient(monkeypatch):
    """The client's pauses between its attempts."""
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda _: None)
