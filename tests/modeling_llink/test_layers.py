"""One layer's hidden states: the library's own, without running what lies above."""

import threading

import pytest
import tiny
import torch
from torch import nn
from transformers import AutoModel

from llink.modeling_llink.bases import build_base
from llink.modeling_llink.layers import _blocks, hidden_states

LAYERS = 3
FAMILIES = [("encoder", name) for name in tiny.ENCODERS] + [("decoder", name) for name in tiny.DECODERS]


def base(kind, family):
    """A base of three layers without its head: T5's blocks are lists of two modules themselves."""
    tokenizer = getattr(tiny, f"{kind}_tokenizer")(family)
    config = getattr(tiny, f"{kind}_config")(family, tokenizer)
    depth = {config.attribute_map.get("num_hidden_layers", "num_hidden_layers"): LAYERS}
    config = type(config)(**{k: v for k, v in config.to_dict().items() if k != "layer_types"} | depth)
    torch.manual_seed(0)
    return build_base("encoder", config).eval() if kind == "encoder" else AutoModel.from_config(config).eval()


def inputs():
    mask = torch.ones(2, 5, dtype=torch.int64)
    mask[1, 3:] = 0
    return {"input_ids": torch.arange(10).view(2, 5) + 5, "attention_mask": mask}


@torch.no_grad()
@pytest.mark.parametrize(("kind", "family"), FAMILIES)
def test_every_layer_is_the_librarys_and_none_above_it_runs(kind, family):
    model, ran = base(kind, family), []
    blocks = _blocks(model)
    assert len(blocks) == LAYERS
    for number, block in enumerate(blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    expected = model(**inputs(), output_hidden_states=True)
    assert ran == [0, 1, 2]
    assert len(expected.hidden_states) == LAYERS + 1
    for layer in range(-LAYERS - 1, LAYERS + 1):
        ran.clear()
        (found,) = hidden_states(model, [layer], **inputs())
        wanted = expected.last_hidden_state if layer == -1 else expected.hidden_states[layer]
        assert torch.equal(found, wanted), layer
        assert ran == list(range(layer % (LAYERS + 1))), layer
    for layers in ([1, 0, 1], [0, LAYERS], [-1, 2]):
        ran.clear()
        found = hidden_states(model, layers, **inputs())
        for layer, states in zip(layers, found, strict=True):
            assert torch.equal(states, expected.hidden_states[layer]), layers
        assert ran == list(range(max(layer % (LAYERS + 1) for layer in layers))), "one pass for all"
    assert torch.equal(model(**inputs()).last_hidden_state, expected.last_hidden_state), "no hook is left behind"


@torch.no_grad()
def test_a_model_whose_blocks_are_unclear_is_run_whole():
    model = base("encoder", "xlm-roberta")
    expected = model(**inputs(), output_hidden_states=True).hidden_states
    model.spare = nn.ModuleList(nn.Identity() for _ in range(LAYERS))
    assert _blocks(model) == []
    for layer in (0, 1, LAYERS, -2, -LAYERS - 1):
        assert torch.equal(hidden_states(model, [layer], **inputs())[0], expected[layer])


@torch.no_grad()
def test_another_thread_may_run_the_whole_model_meanwhile():
    model = base("decoder", "llama")
    expected = model(**inputs()).last_hidden_state
    inside, done, found = threading.Event(), threading.Event(), []

    def wait(*_):
        if threading.current_thread() is stopping:
            inside.set()
            done.wait(60)

    model.embed_tokens.register_forward_hook(wait)
    stopping = threading.Thread(target=lambda: found.extend(hidden_states(model, [1], **inputs())))
    stopping.start()
    assert inside.wait(60)
    whole = model(**inputs()).last_hidden_state  # the other thread's hook is in place
    assert next(iter(_blocks(model)[1]._forward_pre_hooks.values()), None) is not None, "vacuous without it"
    done.set()
    stopping.join()
    assert torch.equal(whole, expected)
    assert torch.equal(found[0], model(**inputs(), output_hidden_states=True).hidden_states[1])
