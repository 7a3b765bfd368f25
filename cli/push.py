"""`llink push`: a checkpoint's folder onto the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..hub_cards.publishing import push_to_hub
from .parsing import parse_arguments


@dataclass
class PushArguments:
    """Puts a checkpoint with processor, code, card and run record on the Hub, in one commit, after reloading it."""

    folder: str = field(metadata={"help": "Folder that a trainer or save_pretrained wrote."})
    repo: str = field(metadata={"help": "Repository, user/name; created when missing."})
    private: bool = field(default=False, metadata={"help": "Create it as a private repository."})
    revision: str | None = field(default=None, metadata={"help": "Branch; created from main when missing."})
    create_pr: bool = field(default=False, metadata={"help": "Open a pull request instead of committing."})
    self_contained: bool = field(default=False, metadata={"help": "Push the bases' weights along."})
    evaluations: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders of `llink eval … --output-dir` for the card, besides FOLDER/evaluation."},
    )
    message: str = field(default="Upload llink model", metadata={"help": "Of the commit."})
    token: str | None = field(default=None, metadata={"help": "Token with write access; the one logged in with else."})


OPTIONS = (PushArguments,)
POSITIONALS = ("folder", "repo")
EXAMPLE = "llink push out/b someone/Llama-km --evaluations out/eval"


def run(argv: Sequence[str]) -> None:
    """Pushes `llink push DIR REPO`."""
    (args,) = parse_arguments("push", argv, OPTIONS, positionals=POSITIONALS)
    commit = push_to_hub(
        args.folder,
        args.repo,
        self_contained=args.self_contained or None,
        evaluations=args.evaluations,
        commit_message=args.message,
        private=args.private or None,
        token=args.token,
        revision=args.revision,
        create_pr=args.create_pr,
    )
    print(commit.pr_url or commit.commit_url)
