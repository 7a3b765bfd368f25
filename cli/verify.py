"""`llink verify`: is a download the model that was pushed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..hub_cards.verify import findings_table, passed, verify
from ..modeling_llink.sources import check_folder
from .parsing import parse_arguments


@dataclass
class VerifyArguments:
    """Loads a model and compares it with the canary that was saved with it, naming what differs; exit code 1 if so."""

    model: str = field(metadata={"help": "Folder or repository."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit."})
    token: str | None = field(default=None, metadata={"help": "Token for a private or gated repository."})
    cache_dir: str | None = field(default=None, metadata={"help": "Cache of downloads."})
    fresh_process: bool = field(
        default=False,
        metadata={"help": "Run the folder's own code, offline, where llink cannot be imported. Only if you trust it."},
    )

    def __post_init__(self) -> None:
        check_folder(self.model)


OPTIONS = (VerifyArguments,)
POSITIONALS = ("model",)
EXAMPLE = "llink verify someone/Llama-km"


def run(argv: Sequence[str]) -> int:
    """Prints what is equal and what differs; 0 if it is the same model, 1 if not."""
    (args,) = parse_arguments("verify", argv, OPTIONS, positionals=POSITIONALS)
    findings = verify(args.model, args.revision, args.token, args.cache_dir, args.fresh_process)
    print(findings_table(findings))
    same = passed(findings)
    print("\nIt is the model that was saved." if same else "\nIt is NOT the model that was saved.")
    return 0 if same else 1
