"""One layer's hidden states: transformers' own, without running what lies above; and the teacher's space."""

import threading

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModel

from llink.building import fit_teacher_space
from llink.modeling_llink.bases import build_base
from llink.modeling_llink.errors import NotFittedError
from llink.modeling_llink.layers import TeacherSpace, _blocks, hidden_states

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
def test_every_layer_is_transformers_own_and_none_above_it_runs(kind, family):
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


# ---------------------------------------------------------------------- the teacher's space


def inverse(space, conditioned):
    """Conditioned vectors (…, d) → the decoder's own space (…, d): exact on what `forward` keeps."""
    if space.conditioning == "none":
        return conditioned
    if space.conditioning == "whiten":
        gain = space._gain()
        conditioned = (conditioned @ space.basis * torch.where(gain > 0, 1 / gain, 0.0)) @ space.basis.T
    return conditioned + space.mean


@settings(max_examples=25)
@given(
    conditioning=st.sampled_from(["none", "center", "whiten"]),
    power=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_conditioning_loses_nothing_that_it_keeps(conditioning, power, seed):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(60, 12, generator=generator) * torch.linspace(0.5, 3, 12) + 5
    space = TeacherSpace(12, conditioning, 12, power)
    fit_teacher_space(space, states)
    assert torch.allclose(inverse(space, space(states)), states, atol=1e-2)


def test_whitening_gives_unit_variance_and_drops_the_rest():
    torch.manual_seed(0)
    states = torch.randn(4000, 10) * torch.tensor([9.0, 5, 4, 3, 2, 1, 1, 1, 1, 1]) + 7
    space = TeacherSpace(10, "whiten", 4, 1.0)
    fit_teacher_space(space, states)
    conditioned = space(states)
    assert conditioned.shape == states.shape
    assert torch.allclose(conditioned.mean(dim=0), torch.zeros(10), atol=1e-4)
    variances = torch.linalg.eigvalsh(torch.cov(conditioned.T))
    assert torch.allclose(variances[-4:], torch.ones(4), atol=1e-3)
    assert torch.allclose(variances[:-4], torch.zeros(6), atol=1e-4)


def test_fewer_states_than_components_gives_no_nan():
    torch.manual_seed(0)
    states = torch.randn(3, 10)
    space = TeacherSpace(10, "whiten", 8, 1.0)
    fit_teacher_space(space, states)
    assert torch.isfinite(space(states)).all()
    assert torch.isfinite(inverse(space, space(states))).all()
    assert torch.allclose(inverse(space, space(states)), states, atol=1e-3)


def test_unfitted_and_unusable_states_are_refused():
    space = TeacherSpace(4, "whiten", 4, 1.0)
    with pytest.raises(NotFittedError, match="fit"):
        space(torch.zeros(2, 4))
    with pytest.raises(NotFittedError, match="NaN"):
        fit_teacher_space(space, torch.tensor([[1.0, 2, 3, float("nan")], [1, 2, 3, 4]]))
    with pytest.raises(NotFittedError, match="1 states"):
        fit_teacher_space(space, torch.ones(1, 4))
    assert not space.fitted


def test_the_space_travels_with_the_checkpoint(make_model, tmp_path):
    model = make_model(teacher_conditioning="whiten", teacher_components=3)
    with pytest.raises(NotFittedError):
        model.get_teacher_features(tiny.SENTENCES)
    fit_teacher_space(model.teacher_space, torch.randn(40, model.config.hidden_size))
    before = model.get_teacher_features(tiny.SENTENCES)
    model.save_pretrained(tmp_path)
    assert torch.equal(type(model).from_pretrained(tmp_path).get_teacher_features(tiny.SENTENCES), before)
