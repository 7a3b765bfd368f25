"""`llink serve`: a model behind OpenAI's protocol."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..configuration_llink import LlinkConfigError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.sources import check_folder
from ..store.slot_store import SlotStore
from .loading import ModelLoading
from .parsing import check_free, check_positive, parse_arguments


@dataclass(kw_only=True)
class ServeArguments(ModelLoading):
    """Answers OpenAI's protocol: chats with foreign text, as they grow or whole, and vectors."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 lets other machines in."})
    port: int = field(default=8000, metadata={"help": "Port to listen on."})
    api_key_env: str | None = field(
        default=None, metadata={"help": "Environment variable that holds the key that requests must bring."}
    )
    max_waiting: int = field(default=64, metadata={"help": "Requests that wait; one more is told to come again."})
    max_batch: int = field(default=16, metadata={"help": "Answers that are generated together."})
    max_tokens: int = field(default=512, metadata={"help": "Length of an answer at most, and where none is asked for."})
    store: str | None = field(default=None, metadata={"help": "A store of this model, asked at /v1/ask."})

    def __post_init__(self) -> None:
        check_folder(self.model)
        check_positive(self, "port", "max_waiting", "max_batch", "max_tokens")


OPTIONS = (ServeArguments,)
POSITIONALS = ("model",)
#: What stands before the address when it can be asked.
SERVED = "llink serves at"
EXAMPLE = "llink serve out/b --port 8000"


def run(argv: Sequence[str]) -> None:
    """Serves `llink serve MODEL` until it is interrupted."""
    (args,) = parse_arguments("serve", argv, OPTIONS, positionals=POSITIONALS)
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise LlinkConfigError(
            f"The server is made with {' and '.join(missing)}, which is not installed: pip install 'llink[serve]'."
        )
    key = _key(args.api_key_env)
    check_free(args.host, args.port)
    from ..serving.app import build, serve
    from ..serving.engine import Limits
    from ..serving.transformers_engine import TransformersEngine

    model = LlinkForCausalLM.from_pretrained(args.model, **args.loading())
    store = None if args.store is None else SlotStore.load(args.store, model)
    name = Path(args.model).resolve().name if Path(args.model).is_dir() else args.model
    limits = Limits(max_waiting=args.max_waiting, max_batch=args.max_batch, max_tokens=args.max_tokens)
    app = build(TransformersEngine(model, limits, store), name, key, int(time.time()))
    serve(app, args.host, args.port, lambda: print(f"{SERVED} http://{args.host}:{args.port}/v1", flush=True))


def _key(variable: str | None) -> str | None:
    key = None if variable is None else os.environ.get(variable, "").strip()
    if key == "":
        raise LlinkConfigError(f"--api-key-env {variable}: this variable is empty or not set. Put the key into it.")
    return key
