"""The package's shape: its list, its rooms, the code that travels, the house rules that can be checked."""

import ast
import configparser
import functools
import importlib
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import llink
from llink.hub_cards.staging import CODE_FILES

ROOT = Path(llink.__file__).parent
PACKAGES = (
    "modeling_llink",
    "baselines",
    "data",
    "evaluation",
    "hub_cards",
    "store",
    "serving",
    "app",
    "trainers",
    "cli",
    "assets",
)
#: A room imports only itself and the rooms before it; `demo` and `cli` share one.
ROOMS = (
    "_version",
    "errors_llink",
    "characters_llink",
    "arguments_llink",
    "numerals_llink",
    "configuration_bases",
    "configuration_llink",
    "modeling_llink",
    "encoder_settings",
    "base_checks",
    "building",
    "baselines",
    "data",
    "evaluation",
    "hub_cards",
    "store",
    "serving",
    "app",
    "trainers",
    "top",
)
#: Files of the root that travel with every checkpoint.
TRAVELLING_ROOT = {f"{name}.py" for name in ROOMS[1:7]}
LONGEST = 400
#: Files that may be longer, and why.
JUSTIFIED: dict[str, str] = {}


def sources() -> list[Path]:
    files = [p for name in PACKAGES for p in (ROOT / name).rglob("*.py")]
    return sorted([*files, *ROOT.glob("*.py")])


def scripts() -> list[Path]:
    return sorted(p for name in ("examples", "benchmarks") for p in (ROOT / name).rglob("*.py"))


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def module_of(path: Path) -> str:
    parts = ("llink", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, lazily too, by its absolute name."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            front = base == "llink"  # `from . import demo` names modules
            modules = {alias.name for alias in node.names if (ROOT / f"{alias.name}.py").is_file()} if front else set()
            found |= {f"llink.{name}" for name in modules}
            if len(modules) < len(node.names):
                found.add(base)
    return found


def room_of(module: str) -> int:
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "top"
    return ROOMS.index(name) if name in ROOMS else ROOMS.index("top")


def test_the_package_list_names_every_folder_of_code():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    listed = config["options"]["packages"].split()
    ignored = {"tests", "examples", "benchmarks", "build", "dist", "runs"}
    folders = {
        module_of(path)
        for path in ROOT.rglob("__init__.py")
        if not any(p.startswith(".") or p in ignored for p in path.relative_to(ROOT).parts)
    }
    assert set(listed) == folders
    assert len(listed) == len(set(listed))
    assert not (ROOT / "tests" / "__init__.py").exists(), "pytest would import the root a second time"


def test_guard_the_walk_sees_the_package():
    assert len(sources()) > 30
    assert "llink.configuration_llink" in imports(ROOT / "modeling_llink" / "modeling_llink.py")


def test_imports_point_down():
    for path in sources():
        room = room_of(module_of(path))
        inner = {name for name in imports(path) if name == "llink" or name.startswith("llink.")}
        assert not sorted(name for name in inner if room_of(name) > room), path
        if path != ROOT / "__init__.py":
            assert "llink" not in inner, f"{path}: the package's front is for users"


def test_the_code_that_travels_is_all_of_the_model():
    files = {path.name for path in (ROOT / "modeling_llink").rglob("*.py")} - {"__init__.py"}
    assert set(CODE_FILES) == files | TRAVELLING_ROOT
    assert len(CODE_FILES) == len(set(CODE_FILES))


def test_the_code_that_travels_needs_only_what_a_user_of_it_has():
    allowed = {"transformers", "torch", "peft", "safetensors", "huggingface_hub", "jinja2", "tqdm", "regex"}
    own = {f"llink.modeling_llink.{Path(file).stem}" for file in CODE_FILES}
    own |= {f"llink.{Path(file).stem}" for file in TRAVELLING_ROOT}
    for name in CODE_FILES:
        path = ROOT / name if name in TRAVELLING_ROOT else ROOT / "modeling_llink" / name
        for module in imports(path):
            if module.startswith("llink"):
                assert module in own, (name, module)
            else:
                assert module.partition(".")[0] in allowed | sys.stdlib_module_names, (name, module)
        assert "from . import" not in path.read_text("utf-8"), f"{name}: transformers does not follow it"


def test_no_assert_outside_tests():
    for path in sources() + scripts():
        assert not [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)], path


def test_every_exception_of_ours_is_raised():
    defined, raised = {}, set()
    for path in sources():
        for node in ast.walk(tree(path)):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if any(base.endswith(("Error", "Exception", "Warning")) for base in bases):
                defined[node.name] = path
            if isinstance(node, ast.Raise) and node.exc is not None:
                raised |= {child.id for child in ast.walk(node.exc) if isinstance(child, ast.Name)}
            if isinstance(node, ast.Return) and node.value:  # made in a helper, raised by its caller
                raised |= {child.id for child in ast.walk(node.value) if isinstance(child, ast.Name)}
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("check_"):  # raised by the check
                raised |= {argument.id for argument in node.args if isinstance(argument, ast.Name)}
    assert len(defined) > 10, "vacuous unless they are found"
    assert set(defined) - raised == {"LlinkError"}, "the root itself says nothing"


def test_no_file_is_too_long():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in sources() + scripts()}
    assert {name: n for name, n in lengths.items() if n > LONGEST and name not in JUSTIFIED} == {}
    assert all(lengths.get(name, 0) > LONGEST for name in JUSTIFIED), "an exception that is no longer needed"


def test_public_things_are_documented():
    for path in sources():
        module = tree(path)
        assert ast.get_docstring(module) or not module.body, path
        for node in module.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), (path, node.name)


def test_the_front_exports_what_it_names():
    for name in llink.__all__:
        assert getattr(llink, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = llink.nothing_of_the_kind
    assert set(llink.__all__) <= set(dir(llink))


def test_subpackages_are_there_without_importing_them():
    script = "import llink; print(llink.evaluation.module_path('retrieval'))"
    done = subprocess.run([sys.executable, "-c", script], cwd="/", capture_output=True, text=True, check=False)
    assert Path(done.stdout.strip()).exists(), done.stderr


def test_importing_llink_costs_nothing():
    script = "import sys, llink; assert 'torch' not in sys.modules; assert 'transformers' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], cwd="/", check=False).returncode == 0


def test_there_is_one_copy_of_every_class():
    module = importlib.import_module("llink.modeling_llink")
    names = [name for name, m in sys.modules.items() if getattr(m, "__file__", None) == module.__file__]
    assert names == ["llink.modeling_llink"]


def test_what_is_exported_is_typed():
    """The lazy names, and what type checkers and editors are shown in their place."""
    block = next(node for node in tree(ROOT / "__init__.py").body if isinstance(node, ast.If))
    shown = {
        alias.asname: f".{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert shown == llink._EXPORTS


#: What is large and not asked about: whatever comes from these is of any type.
MYPY = """[mypy]
ignore_missing_imports = True
follow_imports = silent
[mypy-torch.*,transformers.*,datasets.*,numpy.*,matplotlib.*,huggingface_hub.*,peft.*,accelerate.*,gradio.*]
follow_imports = skip
"""


ALONE = """
import importlib.metadata, json, sys
from pathlib import Path
import llink
from llink.evaluation import module_path
from llink.cli import main

root = Path(llink.__file__).parent
assert "site-packages" in str(root), root
assert llink.__version__ == importlib.metadata.version("llink")
model = llink.LlinkForCausalLM.from_encoder_decoder_pretrained(root / "assets/encoder", root / "assets/decoder")
model.save_pretrained("model", self_contained=True)
assert main(["generate", "--model", "model", "--foreign-text", "ចាស។", "--max-new-tokens", "2"]) == 0
assert Path(module_path("retrieval"), "retrieval.py").is_file()
assert main(["synthesize", "--write-prompts", "prompts"]) == 0
print(json.dumps(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())))
"""


def copy_of_the_clone(folder: Path) -> Path:
    """The tracked files of the package and what builds it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "benchmarks/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
def test_a_wheel_works_alone(tmp_path):
    """Installed where the repository is not: everything that the package reads is in it, and nothing else."""
    clone = copy_of_the_clone(tmp_path / "clone")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path / "dist"]
    subprocess.run([*pip, "wheel", *options, clone], check=True)
    (wheel,) = (tmp_path / "dist").glob("llink-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
    (packages / "others.pth").write_text(str(Path(pytest.__file__).parent.parent), "utf-8")
    done = subprocess.run([python, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    installed = {name for name in json.loads(done.stdout.splitlines()[-1]) if not name.endswith(".pyc")}
    folders = tuple(f"{name}/" for name in PACKAGES)
    known = {path.relative_to(clone).as_posix() for path in clone.rglob("*") if path.is_file()}
    wanted = {name for name in known if name.startswith(folders) or (name.count("/") == 0 and name.endswith(".py"))}
    assert installed == (wanted | {"py.typed"}), installed ^ wanted
    assert (tmp_path / "venv" / "bin" / "llink").is_file()


@pytest.mark.slow
def test_an_editable_install_is_typed_when_it_is_strict(tmp_path):
    """setuptools' import hook shows type checkers nothing; `editable_mode=strict` puts a folder on the path instead."""
    assert "--config-settings editable_mode=strict" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    copy_of_the_clone(tmp_path / "clone")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    # Beside the one that is installed, which pip would otherwise take away first.
    strict = ["--config-settings", "editable_mode=strict", "--ignore-installed", "--prefix", tmp_path / "prefix"]
    subprocess.run([*pip, *strict, "--editable", tmp_path / "clone"], check=True)
    venv.create(tmp_path / "venv", with_pip=False)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (path,) = (tmp_path / "prefix").rglob("*llink*.pth")
    shutil.copy(path, packages)
    (packages / "others.pth").write_text(str(Path(pytest.__file__).parent.parent), "utf-8")
    (tmp_path / "mypy.ini").write_text(MYPY, "utf-8")
    (tmp_path / "asks.py").write_text("import llink\nreveal_type(llink.LlinkForCausalLM)\n", "utf-8")
    options = ["--config-file", "mypy.ini", "--python-executable", tmp_path / "venv" / "bin" / "python"]
    mypy = [sys.executable, "-m", "mypy", *options, "asks.py"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "-> llink.modeling_llink.modeling_llink.LlinkForCausalLM" in done.stdout, done.stdout + done.stderr
