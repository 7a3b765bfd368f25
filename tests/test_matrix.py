"""The versions that are installed are those that are meant: the oldest that setup.cfg allows, or the newest."""

import configparser
import importlib.metadata
import os
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def pinned(name: str) -> dict[str, Version]:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines()]
    pins = [line.split("==") for line in lines if line]
    return {package.lower().replace("_", "-"): Version(version) for package, version in pins}


def required() -> dict[str, Requirement]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    found = [Requirement(line) for line in config["options"]["install_requires"].split("\n") if line]
    return {requirement.name.lower(): requirement for requirement in found}


def test_both_ends_of_the_bounds_are_tested():
    """Every lower bound stands in constraints-oldest.txt, and every newest version is allowed."""
    oldest, newest = pinned("constraints-oldest.txt"), pinned("constraints.txt")
    assert [name for name, requirement in required().items() if newest[name] not in requirement.specifier] == []
    bounds = {
        name: Version(bound.version)
        for name, requirement in required().items()
        for bound in requirement.specifier
        if bound.operator == ">="
    }
    assert {"transformers", "peft", "huggingface-hub"} < set(bounds)
    bounds.pop("torch")  # one build for both: others are gigabytes
    assert {name: oldest.get(name) for name in bounds} == bounds


@pytest.mark.matrix
def test_the_installed_versions_are_those_that_are_meant():
    """Vacuous matrix unless they are the ones that are imported."""
    end = os.environ.get("LLINK_LIBRARIES")
    expected = pinned("constraints-oldest.txt" if end == "oldest" else "constraints.txt")
    names = set(required()) & set(expected)
    found = {name: Version(importlib.metadata.version(name)) for name in names}
    assert len(names) > 8
    if end == "newest":
        assert {name: found[name] for name in names if found[name] < expected[name]} == {}
    else:
        assert {name: version.public for name, version in found.items()} == {n: expected[n].public for n in names}
