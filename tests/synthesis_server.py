"""A model for tests of `llink synthesize`: reads the default prompts and answers as they ask, or badly."""

import json
import re

WORDINGS = {
    "translate_to_english": ("Put this into English.", "Translate the text, please.", "Say it in English."),
    "summarize_in_english": ("Sum this up in English.", "What is the gist of this, in English?"),
    "bullet_pointify": ("List its points in English.", "Turn this into an English list."),
    "qa_about_text": ("How does it begin?", "What are the first words, in English?"),
    "paraphrase": ("Say this in other English words.", "Reword it in English."),
    "title": ("Find an English title.", "How would you head this text?"),
}


def shown_text(body):
    """The English side as the model reads it."""
    return re.search(r"<text>\n(.*?)\n</text>", body["messages"][-1]["content"], re.DOTALL).group(1)


def asked_task(body):
    """The task of a default prompt."""
    message = body["messages"][-1]["content"]
    signs = {
        "translation into English": "translate_to_english",
        "a summary in English": "summarize_in_english",
        "points as a list": "bullet_pointify",
        "one question": "qa_about_text",
        "in other words": "paraphrase",
        "an English title": "title",
    }
    return next(task for sign, task in signs.items() if sign in message)


def example_of(body):
    """A good example: every word of the answer stands in the text."""
    text, task = shown_text(body), asked_task(body)
    words = text.rstrip(".").split()
    choices = WORDINGS[task]
    instruction = f"{choices[len(text) % len(choices)]}\n<foreign_emb>"
    answers = {
        "summarize_in_english": " ".join(words[: len(words) // 2]) + ".",
        "bullet_pointify": [" ".join(words[:4]), " ".join(words[4:8])],
        "qa_about_text": " ".join(words[:2]),
        "paraphrase": " ".join([*words[1:], words[0]]) + ".",
        "title": " ".join(words[:5]).title(),
    }
    return {"instruction": instruction} | ({"answer": answers[task]} if task in answers else {})


def good(body):
    """The scripted model."""
    return json.dumps(example_of(body))
