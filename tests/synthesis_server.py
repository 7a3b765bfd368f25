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
    return re.match(r"Text: (.*)", body["messages"][-1]["content"]).group(1)


def asked_task(body):
    """The task of a default prompt."""
    signs = {
        "English translation": "translate_to_english",
        "English summary": "summarize_in_english",
        "English list": "bullet_pointify",
        "one English question": "qa_about_text",
        "in other words": "paraphrase",
        "English title": "title",
    }
    rules = " ".join(body["messages"][0]["content"].split())
    return next(task for sign, task in signs.items() if sign in rules)


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
