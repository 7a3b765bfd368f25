"""`llink space`: the page of a model, as a Space on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..app.settings import page_settings
from ..app.space import push_space
from ..modeling_llink.sources import check_folder
from .parsing import check_positive, parse_arguments


@dataclass
class SpaceArguments:
    """Puts the page of `llink app` on the Hub as a Gradio Space, in one commit, after it has answered once here."""

    model: str = field(
        metadata={"help": "Folder of a model, which the Space then holds, or a model on the Hub, which it loads."}
    )
    repo: str = field(metadata={"help": "The Space, user/name; created when missing."})
    private: bool = field(default=False, metadata={"help": "Create it as a private Space."})
    revision: str | None = field(default=None, metadata={"help": "Branch; created from main when missing."})
    create_pr: bool = field(default=False, metadata={"help": "Open a pull request instead of committing."})
    self_contained: bool = field(default=False, metadata={"help": "Put the bases' weights of a folder into it, too."})
    trust_remote_code: bool = field(
        default=False,
        metadata={"help": "Run the code of a model on the Hub here, to try the Space. Only if you trust it."},
    )
    title: str | None = field(default=None, metadata={"help": "Heading of the page; the Space's name when not given."})
    sentences: str | None = field(
        default=None,
        metadata={"help": "File of English sentences, one a line, of which the nearest to the text are shown."},
    )
    examples: str | None = field(default=None, metadata={"help": "File of foreign texts to try, one a line."})
    max_new_tokens: int = field(default=256, metadata={"help": "Length of an answer at most."})
    message: str = field(default="Upload llink page", metadata={"help": "Of the commit."})
    token: str | None = field(default=None, metadata={"help": "Token with write access; the one logged in with else."})

    def __post_init__(self) -> None:
        check_folder(self.model)
        check_positive(self, "max_new_tokens")


OPTIONS = (SpaceArguments,)
POSITIONALS = ("model", "repo")
EXAMPLE = "llink space out/b someone/my-model-page"


def run(argv: Sequence[str]) -> None:
    """Pushes `llink space MODEL REPO`."""
    (args,) = parse_arguments("space", argv, OPTIONS, positionals=POSITIONALS)
    title = args.title or args.repo.rpartition("/")[2]
    commit = push_space(
        args.model,
        args.repo,
        page_settings(title, args.sentences, args.examples, args.max_new_tokens),
        self_contained=args.self_contained or None,
        message=args.message,
        private=args.private or None,
        token=args.token,
        revision=args.revision,
        create_pr=args.create_pr,
        trust_remote_code=args.trust_remote_code,
    )
    print(commit.pr_url or commit.commit_url)
