"""torch.compile of decoding: one graph, compiled once for all steps, with the answers of the uncompiled model."""

import functools

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

KHMER = ["ក្មេងទៅសាលា", "គាត់មានសៀវភៅ ២"]


@pytest.fixture
def compiled(monkeypatch):
    """A function (model) → the counter of its decode steps' graphs; prompts are read uncompiled."""
    torch._dynamo.reset()

    def compile_steps(model):
        forward, counter = model.forward, CompileCounterWithBackend("eager")
        step = torch.compile(forward, backend=counter, fullgraph=True)

        @functools.wraps(forward)  # generate reads its arguments' names
        def by_length(*args, **kwargs):
            return (step if kwargs["input_ids"].shape[1] == 1 else forward)(*args, **kwargs)

        monkeypatch.setattr(model, "forward", by_length)
        return counter

    yield compile_steps
    torch._dynamo.reset()


@pytest.mark.slow(but=["every-row-tokens"])
@pytest.mark.parametrize("slots", ["mlp", "tokens"])
@pytest.mark.parametrize("foreign", [[KHMER[0], KHMER[1]], [KHMER[0], []]], ids=["every-row", "mixed-rows"])
def test_every_step_of_an_answer_is_one_and_the_same_graph(make_model, compiled, slots, foreign):
    model = make_model(slot_expander=slots).eval()
    asked = dict(foreign_text=foreign, prompt="Translate to English.", max_new_tokens=12, min_new_tokens=12)
    asked |= dict(do_sample=False, cache_implementation="static", return_dict_in_generate=True, output_logits=True)
    plain = model.generate(**asked)
    counter = compiled(model)
    found = model.generate(**asked)
    assert counter.op_count > 50, "vacuous unless the decoder's layers were compiled"
    assert counter.frame_count == 1, "a graph break, or a compilation for a single step"
    assert len(found.logits) == 12
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(plain.logits))
