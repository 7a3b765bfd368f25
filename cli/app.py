"""`llink app`: a page to ask a model on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..app.page import build, launch, page_of
from ..app.settings import page_settings
from ..configuration_llink import LlinkConfigError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.sources import check_folder
from .loading import ModelLoading
from .parsing import check_free, check_positive, parse_arguments


@dataclass(kw_only=True)
class AppArguments(ModelLoading):
    """Serves a page: foreign text, a question, the answer as it grows, and whether it needed the text."""

    model: str = field(
        metadata={"help": "Folder or repository of an llink model, or the address of a running `llink serve`."}
    )
    api_key_env: str | None = field(
        default=None, metadata={"help": "Environment variable that holds the key of that server."}
    )
    port: int = field(default=7860, metadata={"help": "Port to listen on."})
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 lets other machines in."})
    title: str | None = field(default=None, metadata={"help": "Heading of the page; the model's name when not given."})
    sentences: str | None = field(
        default=None,
        metadata={"help": "File of English sentences, one a line, of which the nearest to the text are shown."},
    )
    examples: str | None = field(default=None, metadata={"help": "File of foreign texts to try, one a line."})
    max_new_tokens: int = field(default=256, metadata={"help": "Length of an answer at most."})

    def __post_init__(self) -> None:
        check_folder(self.model)
        check_positive(self, "max_new_tokens", "port")
        if self.api_key_env is not None and not self.on_server:
            raise LlinkConfigError("--api-key-env is of a server: give its address in MODEL's place.")
        if self.sentences is not None and self.on_server:
            raise LlinkConfigError("--sentences are compared by a model that runs here, and a server was given.")

    @property
    def on_server(self) -> bool:
        """Whether a server answers, and not a model here."""
        return self.model.startswith(("http://", "https://"))


OPTIONS = (AppArguments,)
POSITIONALS = ("model",)
EXAMPLE = "llink app out/b --sentences test.en"


def run(argv: Sequence[str]) -> None:
    """Serves `llink app MODEL` until it is interrupted."""
    (args,) = parse_arguments("app", argv, OPTIONS, positionals=POSITIONALS)
    check_free(args.host, args.port)
    title = Path(args.model).resolve().name if Path(args.model).is_dir() else args.model
    settings = page_settings(args.title or title, args.sentences, args.examples, args.max_new_tokens)
    if args.on_server:
        from ..app.remote import RemoteAsker, find_server  # with Gradio's httpx

        server = find_server(args.model, args.api_key_env, args.max_new_tokens)
        page = page_of(RemoteAsker(server), args.title or server.model, settings["examples"])
    else:
        page = build(LlinkForCausalLM.from_pretrained(args.model, **args.loading()), **settings)
    launch(page, args.host, args.port)
