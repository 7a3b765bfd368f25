"""`llink serve`: a model behind OpenAI's protocol."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..configuration_llink import LlinkConfigError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.sources import check_folder
from ..serving.engine import Engine
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
    cache_mb: int = field(
        default=64,
        metadata={"help": "MiB for slots of passages that come again, as many for shared beginnings; 0: none."},
    )
    store: str | None = field(default=None, metadata={"help": "A store of this model, asked at /v1/ask."})
    engine: str = field(
        default="transformers",
        metadata={"help": "What runs the decoder: transformers, in this process, or vllm, started beside it."},
    )
    engine_url: str | None = field(
        default=None,
        metadata={"help": "A running vLLM that serves what `llink export` wrote, with --enable-prompt-embeds."},
    )
    engine_python: str | None = field(
        default=None, metadata={"help": "Interpreter of the environment that has vLLM; this one when not given."}
    )
    engine_options: str = field(
        default="", metadata={"help": "More options of vLLM, in quotes: '--tensor-parallel-size 2'."}
    )

    def __post_init__(self) -> None:
        check_folder(self.model)
        check_positive(self, "port", "max_waiting", "max_batch", "max_tokens")
        check_positive(self, "cache_mb", least=0)
        if self.engine not in ENGINES:
            raise LlinkConfigError(f"--engine {self.engine} is not one of {', '.join(ENGINES)}.")
        if self.engine_url is not None and not self.engine_url.startswith(("http://", "https://")):
            raise LlinkConfigError(f"--engine-url {self.engine_url} is no address: http://127.0.0.1:8000 would be one.")
        own = self.engine == "vllm" and self.engine_url is None
        if (self.engine_python is not None or self.engine_options) and not own:
            raise LlinkConfigError(
                "--engine-python and --engine-options are of a vLLM that is started here: give --engine vllm, and no "
                "--engine-url."
            )


ENGINES = ("transformers", "vllm")
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

    name = Path(args.model).resolve().name if Path(args.model).is_dir() else args.model
    with _engine(args) as engine:
        app = build(engine, name, key, int(time.time()))
        serve(app, args.host, args.port, lambda: print(f"{SERVED} http://{args.host}:{args.port}/v1", flush=True))


@contextlib.contextmanager
def _engine(args: ServeArguments) -> Iterator[Engine]:
    """The engine that was asked for; a vLLM that is started for it ends with the block."""
    from ..serving.engine import Limits
    from ..serving.transformers_engine import TransformersEngine
    from ..serving.vllm_engine import VllmEngine

    limits = Limits(
        max_waiting=args.max_waiting,
        max_batch=args.max_batch,
        max_tokens=args.max_tokens,
        cache_bytes=args.cache_mb * 2**20,
    )
    with contextlib.ExitStack() as stack:
        url = args.engine_url
        if args.engine == "vllm" and url is None:
            url = stack.enter_context(_vllm(args))
        model = LlinkForCausalLM.from_pretrained(args.model, **args.loading())
        store = None if args.store is None else SlotStore.load(args.store, model)
        yield TransformersEngine(model, limits, store) if url is None else VllmEngine(model, url, limits, store)


@contextlib.contextmanager
def _vllm(args: ServeArguments) -> Iterator[str]:
    """The address of a vLLM that is started with the model's decoder."""
    from ..serving.export import export_decoder
    from ..serving.vllm_process import check_vllm, vllm_running

    python = args.engine_python or sys.executable
    check_vllm(python)
    with contextlib.ExitStack() as stack:
        # uvicorn stops in order and then lets the signal do what it did before: it must not skip the end of vLLM.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        stack.callback(signal.signal, signal.SIGTERM, before)
        with tempfile.TemporaryDirectory(prefix="llink-decoder-") as place:
            model = LlinkForCausalLM.from_pretrained(args.model, **args.loading())
            export_decoder(model, Path(place) / "decoder")
            dtype = str(model.decoder.dtype).removeprefix("torch.")
            del model  # vLLM may need its place
            options = ["--dtype", dtype, *shlex.split(args.engine_options)]
            url = stack.enter_context(vllm_running(Path(place) / "decoder", python, options))
        yield url


def _key(variable: str | None) -> str | None:
    key = None if variable is None else os.environ.get(variable, "").strip()
    if key == "":
        raise LlinkConfigError(f"--api-key-env {variable}: this variable is empty or not set. Put the key into it.")
    return key
