"""A server with vLLM's addresses, which answers prompts' embeddings by transformers, token by token."""

import argparse
import asyncio
import base64
import io
import json
from contextlib import contextmanager

import torch
import uvicorn
from fastapi import FastAPI
from served import in_thread
from starlette.responses import JSONResponse, StreamingResponse
from transformers import AutoModelForCausalLM, AutoTokenizer


class FakeVllm:
    """What vLLM does with an exported folder.

    Attributes:
        app: To be served.
        seconds: Between two tokens.
        bodies: Requests so far, without their embeddings.
        open: Requests that are answered now.
        steps: Tokens of streams so far.
    """

    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.ends = self.model.generation_config.eos_token_id
        self.ends = {self.ends} if isinstance(self.ends, int) else set(self.ends)
        self.seconds, self.bodies, self.open, self.steps = 0.0, [], 0, 0
        self.app = FastAPI()
        self.app.add_api_route("/health", lambda: None, methods=["GET"])
        self.app.add_api_route("/v1/completions", self.complete, methods=["POST"])

    async def complete(self, body: dict):
        file = io.BytesIO(base64.b64decode(body.pop("prompt_embeds"), validate=True))
        embeds = torch.load(file, weights_only=True)
        assert embeds.dim() == 2
        self.bodies.append(body)
        positions = self.model.config.max_position_embeddings
        if len(embeds) + body["max_tokens"] > positions:
            told = f"This model's maximum context length is {positions} tokens."
            return JSONResponse({"error": {"message": told, "code": 400}}, 400)
        if body.get("stream"):
            return StreamingResponse(self.events(embeds, body), media_type="text/event-stream")
        made = list(self.tokens(embeds, body, 0))
        logs = {"tokens": [f"{token}" for token, _ in made], "token_logprobs": [log for _, log in made]}
        choice = {"index": 0, "text": "", "token_ids": [token for token, _ in made], "finish_reason": "length"}
        return {"choices": [choice | {"logprobs": logs}]}

    @torch.no_grad()
    def tokens(self, embeds, body, index):
        """Each token with its log-probability; one that ends the answer too."""
        draw = torch.Generator().manual_seed((body.get("seed") or 0) + index)
        given, cache = {"inputs_embeds": embeds[None].to(self.model.dtype)}, None
        for _ in range(body["max_tokens"]):
            output = self.model(**given, past_key_values=cache, use_cache=True)
            logs, cache = output.logits[0, -1].float().log_softmax(-1), output.past_key_values
            if body["temperature"]:
                token = int(torch.multinomial((logs / body["temperature"]).softmax(-1), 1, generator=draw))
            else:
                token = int(logs.argmax())
            yield token, float(logs[token])
            if token in self.ends and not body.get("ignore_eos"):
                return
            given = {"input_ids": torch.tensor([[token]])}

    async def events(self, embeds, body):
        self.open += 1
        try:
            for index in range(body["n"]):
                made, ended = 0, False
                for token, _ in self.tokens(embeds, body, index):
                    await asyncio.sleep(self.seconds)
                    made, ended = made + 1, token in self.ends
                    self.steps += 1
                    finish = "stop" if ended else "length" if made == body["max_tokens"] else None
                    choice = {"index": index, "text": "", "token_ids": [token], "finish_reason": finish}
                    yield f"data: {json.dumps({'choices': [choice]})}\n\n"
            yield "data: [DONE]\n\n"
        finally:
            self.open -= 1


@contextmanager
def fake_vllm(folder, port=0):
    """The address of a server of it in a thread of this process, and what it serves."""
    fake = FakeVllm(folder)
    with in_thread(fake.app, port) as address:
        yield address, fake


if __name__ == "__main__":  # as `python -m vllm.entrypoints.openai.api_server`
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--enable-prompt-embeds", action="store_true", required=True)
    given = parser.parse_args()
    uvicorn.run(FakeVllm(given.model).app, host=given.host, port=given.port, log_level="error")
