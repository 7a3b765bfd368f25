"""The page, with Gradio: a text, a question, the answer as it grows, and what it cost and needed.

This file travels with a Space, where llink is not installed: of llink it imports only `asking.py`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..data.errors import DataError
from .asking import Asker, Reply

if TYPE_CHECKING:
    import gradio as gr

#: Gap, in nats a token, from which a text counts as needed: without it, each token is a tenth less likely.
#: Begins the line that tells the address.
STARTED = "The page is at"
NEEDED = 0.1
#: What stands in the slots' place → its loss in `usage_metrics`.
LOSSES = {"this text": "loss", "no text": "zeroed_loss", "other texts": "shuffled_loss"}
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")  # of the reader's machine: nothing is fetched
MONO = ("ui-monospace", "monospace")
ABOUT = (
    "A frozen multilingual encoder reads the text once and hands it to the decoder as a few soft slots. Answers keep "
    "the topic and lose details: do not rely on numbers and names."
)
UNTRAINED = "This model's decoder has not learned to read slots yet: its answers are not about the text."
CSS = """
.gradio-container { max-width: 1080px !important; margin: 0 auto !important; }
#grid { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); grid-template-rows: auto 1fr; gap: 1.2em; }
#out { grid-column: 2; grid-row: 1 / span 2; }
@media (max-width: 720px) {
  #grid { grid-template-columns: minmax(0, 1fr); }
  #out { grid-column: 1; grid-row: 2; }
}
textarea { unicode-bidi: plaintext; }
.llink { padding: .2em .1em .8em; }
.llink.note { border-left: 3px solid var(--error-border-color, #c33); padding: .5em .8em; }
.llink h4 { margin: 0 0 .4em; font-weight: 600; }
.llink p { margin: .4em 0; }
.llink .bar { display: grid; grid-template-columns: 6.5em 1fr 3em; gap: .6em; align-items: center; margin: .25em 0; }
.llink .bar i { display: block; height: .5em; border-radius: .25em; background: var(--color-accent); min-width: 2px; }
.llink .bar i.other { background: currentColor; opacity: .2; }
.llink b.number { text-align: right; font-variant-numeric: tabular-nums; font-weight: 400; }
.llink .quiet { opacity: .65; font-size: .9em; }
.llink ol { list-style: none; padding: 0; margin: 0; }
.llink li { display: grid; grid-template-columns: 1fr 3em; gap: .6em; padding: .2em 0; }
"""


def build(
    model: Any,
    title: str,
    sentences: Sequence[str],
    examples: Sequence[str],
    max_new_tokens: int = 256,
) -> gr.Blocks:
    """The page of a model.

    Args:
        model: An llink model, as the Auto classes load it.
        title: The heading.
        sentences: English sentences, among which the nearest to a text are shown.
        examples: Foreign texts to try, at least two.
        max_new_tokens: Length of an answer at most.

    Raises:
        DataError: If there are fewer than two distinct examples.
    """
    return page_of(Asker(model, sentences, examples, max_new_tokens), title, examples)


def page_of(asker: Any, title: str, examples: Sequence[str]) -> gr.Blocks:
    """The page of whatever answers; programs ask it as `/ask` and get plain JSON.

    Args:
        asker: An [`Asker`], or what has its `answers`, `default_question` and `ask`.
        title: The heading.
        examples: Foreign texts to try.
    """
    import gradio as gr

    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.Markdown(f"# {html.escape(title)}\n\n{ABOUT if asker.answers else UNTRAINED}")
        with gr.Row(elem_id="grid"):
            with gr.Column(elem_id="in"):
                text = gr.Textbox(label="Foreign text", lines=4, max_lines=12, elem_id="text")
                question = gr.Textbox(label="Question", placeholder=asker.default_question, elem_id="question")
                with_base = gr.Checkbox(label="Also ask the base decoder, which reads the text itself", elem_id="both")
                with gr.Row():
                    button = gr.Button("Ask", variant="primary", elem_id="ask", min_width=120, scale=3)
                    stop = gr.Button("Stop", elem_id="stop", min_width=80, scale=1)
            with gr.Column(elem_id="out"):
                note = gr.HTML(visible=False, elem_id="note")
                answer = gr.Textbox(label="Answer", lines=3, max_lines=12, buttons=["copy"], elem_id="answer")
                base = gr.Textbox(label="The base decoder’s answer", max_lines=6, visible=False, elem_id="base")
                usage, tokens, nearest = (gr.HTML(elem_id=name) for name in ("usage", "tokens", "nearest"))
            with gr.Column(elem_id="examples"):
                gr.Examples([[example] for example in examples], text, examples_per_page=20)

        def respond(text: str, question: str, with_base: bool) -> Iterator[tuple[Any, ...]]:
            """Yields what the page shows after each step."""
            try:
                for reply in asker.ask(text or "", question or "", with_base):
                    shown = gr.update(value=reply.base or "", visible=with_base)
                    yield gr.update(visible=False), reply.answer, shown, *fragments(reply)
            except DataError as error:
                message = f'<div class="llink note" role="alert">{html.escape(str(error))}</div>'
                yield gr.update(value=message, visible=True), "", gr.update(visible=False), *fragments(Reply())

        outputs = [note, answer, base, usage, tokens, nearest]
        asking, turn = [text, question, with_base], "one at a time"
        asked = gr.on(
            [button.click, question.submit], respond, asking, outputs, api_visibility="private", concurrency_id=turn
        )
        stop.click(None, cancels=[asked], api_visibility="private")
        gr.api(answering(asker), api_name="ask", concurrency_id=turn)
    return page.queue(max_size=32)


def answering(asker: Any) -> Callable[[str, str, bool], dict[str, Any]]:
    """What a program is answered."""

    def ask(text: str, question: str = "", with_base: bool = False) -> dict[str, Any]:
        """Answers a question about a foreign text, with what the page shows beside it."""
        import gradio as gr

        try:
            *_, reply = asker.ask(text or "", question or "", with_base)
        except DataError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return asdict(reply)

    return ask


def launch(page: gr.Blocks, host: str | None = None, port: int | None = None) -> None:
    """Serves a page until it is interrupted; prints its address when it can be asked.

    Args:
        page: From [`build`].
        host: Address to listen on; `GRADIO_SERVER_NAME` or this machine only when not given.
        port: Port; `GRADIO_SERVER_PORT` or the first free one from 7860 on when not given.
    """
    import gradio as gr

    theme = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=FONTS, font_mono=MONO)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        theme=theme,
        css=CSS,
        footer_links=["api"],
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    print(STARTED, address, flush=True)
    page.block_thread()


# ------------------------------------------------------------------ what stands beside the answer


def fragments(reply: Reply) -> tuple[str, str, str]:
    """HTML of the usage meter, the prompt's tokens and the nearest sentences; empty where nothing is known yet."""
    return _usage(reply), _tokens(reply), _nearest(reply)


def _usage(reply: Reply) -> str:
    if reply.usage is None:
        return ""
    losses = {name: reply.usage[key] for name, key in LOSSES.items()}
    most = max(losses.values())
    bars = [_bar(name, value, most, f"{value:.2f}", name == "this text") for name, value in losses.items()]
    return _section(
        "Did the answer need the text?",
        f"<p>{verdict(reply.usage)}</p>{''.join(bars)}"
        '<p class="quiet">Loss of this answer in nats a token, with other things in the slots’ place: what it depends '
        "on, not whether it is right.</p>",
    )


def verdict(usage: dict[str, float]) -> str:
    """What the gaps say, in one sentence."""
    zeroed, shuffled = usage["zeroed_gap"], usage["shuffled_gap"]
    if min(zeroed, shuffled) >= NEEDED:
        return (
            f"<b>Yes.</b> Without the text each token would on average be {math.exp(zeroed):.1f} times less likely "
            f"({zeroed:+.2f} nats), with other texts in its place {math.exp(shuffled):.1f} times ({shuffled:+.2f})."
        )
    if zeroed >= NEEDED:
        return (
            f"<b>Hardly.</b> It needed some text ({zeroed:+.2f} nats a token without any), but others would have done "
            f"as well ({shuffled:+.2f})."
        )
    return f"<b>No.</b> It is about as likely without the text ({zeroed:+.2f} nats a token; others: {shuffled:+.2f})."


def _tokens(reply: Reply) -> str:
    if reply.raw_tokens is None or reply.slot_tokens is None:
        return ""
    most = max(reply.raw_tokens, reply.slot_tokens)
    bars = [
        _bar("with slots", reply.slot_tokens, most, str(reply.slot_tokens), True),
        _bar("as raw text", reply.raw_tokens, most, str(reply.raw_tokens), False),
    ]
    ratio = reply.raw_tokens / reply.slot_tokens
    return _section(
        "The prompt in the decoder’s tokens",
        f"{''.join(bars)}<p class='quiet'>Written out it is {ratio:.1f} times as long.</p>",
    )


def _nearest(reply: Reply) -> str:
    if not reply.nearest:
        return ""
    rows = [f"<li><span>{html.escape(text)}</span>{_number(f'{cosine:.2f}')}</li>" for cosine, text in reply.nearest]
    return _section(
        "The nearest English sentences",
        f"<ol>{''.join(rows)}</ol><p class='quiet'>Cosine of the text’s vector and the decoder’s own.</p>",
    )


def _section(title: str, body: str) -> str:
    return f'<div class="llink"><h4>{title}</h4>{body}</div>'


def _bar(name: str, value: float, most: float, shown: str, own: bool) -> str:
    width = 100 * max(value, 0) / most if most > 0 else 0
    style = "" if own else ' class="other"'
    return f'<div class="bar"><span>{name}</span><i{style} style="width:{width:.1f}%"></i>{_number(shown)}</div>'


def _number(shown: str) -> str:
    return f'<b class="number">{shown}</b>'
