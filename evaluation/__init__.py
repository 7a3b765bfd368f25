"""Metrics (pure functions), the systems they are applied to, records and reports."""

from pathlib import Path

#: The paper, for the `evaluate` modules.
CITATION = """\
@misc{agarwal2025llink, title={Languages are Modalities: Cross-Lingual Alignment via Encoder Injection},
      author={Rajan Agarwal and Aarush Gupta}, year={2025}, eprint={2510.27254}, archivePrefix={arXiv}}
"""


def module_path(kind: str) -> str:
    """The folder of an `evaluate` module of ours: `evaluate.load(module_path("retrieval"))`.

    Raises:
        ValueError: If there is none of that name.
    """
    folder = Path(__file__).parent / "modules"
    kinds = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if kind not in kinds:
        raise ValueError(f"There is no evaluate module {kind!r}: choose one of {', '.join(kinds)}.")
    return str(folder / kind)
