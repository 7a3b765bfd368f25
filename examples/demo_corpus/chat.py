"""Small talk and short questions without a text, for the English-only decoder."""

from __future__ import annotations

__all__ = ["CHAT"]

_DIALOGUES = """
    Hello! | Hello! How can I help you?
    Hello. | Hello! How can I help you?
    Good morning! | Good morning! How can I help you?
    Good evening! | Good evening! How can I help you?
    How are you? | I am well, thank you.
    How are you today? | I am well, thank you. How are you?
    Thank you! | You are welcome.
    Thank you very much. | You are welcome.
    Goodbye! | Goodbye!
    Good night. | Good night!
    Who are you? | I am a small language model.
    What is your name? | I am a small language model.
    What can you do? | I can translate, summarize, list points and answer questions.
    Can you help me? | Yes. What do you need?
    Please help me. | Yes. What do you need?
    Can you translate? | Yes. Please give me the text.
    Translate to English. | Please give me the text.
    Summarize in English. | Please give me the text.
    List the main points. | Please give me the text.
    What is the capital of Cambodia? | Phnom Penh.
    Which language do people speak in Cambodia? | Khmer.
    Which language do people speak in France? | French.
    Which language do people speak in Japan? | Japanese.
    How many days are there in a week? | 7 days.
    How many months are there in a year? | 12 months.
    How many hours are there in a day? | 24 hours.
    How many minutes are there in an hour? | 60 minutes.
    How many metres are there in a kilometre? | 1,000 metres.
    What day comes after Monday? | Tuesday.
    What day comes after Tuesday? | Wednesday.
    What day comes after Wednesday? | Thursday.
    What day comes after Thursday? | Friday.
    What day comes after Friday? | Saturday.
    What day comes after Saturday? | Sunday.
    What day comes after Sunday? | Monday.
    What month comes after January? | February.
    What month comes after March? | April.
    What month comes after June? | July.
    What month comes after December? | January.
    Where do students study? | At school.
    Where do doctors work? | At the hospital.
    Where can I buy bread? | At the bakery.
    Where can I buy fish? | At the market.
    Where can I read books? | In the library.
"""
CHAT: tuple[tuple[str, str], ...] = tuple(
    (prompt.strip(), completion.strip())
    for prompt, _, completion in (line.partition(" | ") for line in _DIALOGUES.strip().splitlines())
)
"""(prompt, completion) of each dialogue."""
