"""A judge for tests: a real HTTP server that speaks OpenAI's chat completions, in a thread, with a scripted judge."""

import json
import re
from dataclasses import dataclass, field

from local_server import LocalServer

FIELDS = {"model", "messages", "max_tokens", "response_format", "seed", "temperature", "stream"}


@dataclass
class Refusal:
    """What a scripted judge returns for an error: a status, and headers of the response."""

    status: int
    text: str = "refused"
    headers: dict = field(default_factory=dict)


def shown_answers(body):
    """Answers A and B as the judge reads them in the default prompt."""
    message = body["messages"][-1]["content"]
    return [re.search(rf"<answer_{x}>\n(.*?)\n</answer_{x}>", message, re.DOTALL).group(1) for x in "ab"]


def verdict(name):
    return json.dumps({"verdict": name})


def prefers_longer(body):
    first, second = map(len, shown_answers(body))
    return verdict("A" if first > second else "B" if second > first else "tie")


def always_a(body):
    return verdict("A")


class JudgeServer(LocalServer):
    """Answers with `judge(body)`: a text, or a [`Refusal`]. Keeps every request and its headers.

    Args:
        judge: The script.
        die_at: The call, from 1, that gets no answer any more; the server is gone then.
        model: The only one that it knows.
    """

    def __init__(self, judge=prefers_longer, die_at=None, model="judge"):
        super().__init__()
        self.judge, self.die_at, self.model = judge, die_at, model
        self.bodies, self.headers = [], []
        self.url += "/v1"

    def handle(self, request):
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self.lock:
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            number = len(self.bodies)
        if self.die_at is not None and number >= self.die_at:
            request.close_connection = True
            self.stop()
            return
        answer = self.reply(request.path, body)
        if isinstance(answer, Refusal):
            self.send(request, answer.status, {"error": {"message": answer.text}}, answer.headers)
            return
        usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}
        message = {"role": "assistant", "content": answer}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        content = {"id": "x", "object": "chat.completion", "created": 0, "model": self.model}
        self.send(request, 200, content | {"choices": choices, "usage": usage})

    def reply(self, path, body):
        if path != "/v1/chat/completions":
            return Refusal(404, f"no {path}")
        if unknown := set(body) - FIELDS:
            return Refusal(422, f"unknown fields {unknown}")
        if body["model"] != self.model:
            return Refusal(404, f"no model {body['model']}")
        return self.judge(body)

    def messages(self):
        """What was asked, in the order of arrival."""
        return [body["messages"][-1]["content"] for body in self.bodies]


def serving(judge=prefers_longer, **options):
    """A [`JudgeServer`] that answers while the block runs."""
    return JudgeServer(judge, **options).running()
