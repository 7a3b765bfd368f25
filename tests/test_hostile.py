"""A sample of the damaged checkpoints of `benchmarks/hostile.py`: a working model or one sentence, and nothing runs."""

import importlib.util
import sys

import pytest

import llink

PATH = f"{llink.__path__[0]}/benchmarks/hostile.py"


def hostile():
    spec = importlib.util.spec_from_file_location("hostile", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_a_sample_of_damaged_checkpoints_ends_in_a_model_or_a_sentence():
    found = hostile().measure(every=67, first=5, show=False)
    assert found["loads"] > 40, "vacuous unless there are many"
    assert min(found["ok"], found["refused"]) > 3, "vacuous unless some load and some do not"
    assert found["faults"] == []
