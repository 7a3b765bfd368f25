"""URLs, e-mail addresses and codes: written in Latin letters and digits in texts of every language."""

from __future__ import annotations

import re

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
_TOP_LEVEL = "com|org|net|edu|gov|int|io|info|kh|mm|th|la|vn|jp|cn|in|bd|et|sa|ae|eg|uk|de|fr|eu"
_PATH = r"(?:[/?#][!-~]*)?"

EMAIL = re.compile(rf"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@{_HOST}\.[A-Za-z]{{2,}}(?![A-Za-z0-9])")
URL = re.compile(
    rf"(?<![A-Za-z0-9@.])(?:(?i:https?|ftp)://{_HOST}(?::\d+)?{_PATH}|(?i:www)\.{_HOST}{_PATH}"
    rf"|{_HOST}\.(?:{_TOP_LEVEL})(?![A-Za-z0-9.-]*[A-Za-z0-9]){_PATH})"
)
#: Letters and digits in one word (`TG584`, `H1N1`, `COVID-19`, `SARS-CoV-2`, `2AB-1234`); capitals before a hyphen.
CODE = re.compile(
    r"(?<![A-Za-z0-9])(?:(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]+(?:-[A-Z0-9]+)*|[A-Z][A-Za-z]*(?:-[A-Za-z]+)*-\d+"
    r"[A-Z0-9]*)(?![A-Za-z0-9])"
)
#: Digit strings that are no amounts: telephone numbers (+ or 0 first, or American), versions, leading zeros, accounts.
DIGIT_STRINGS = re.compile(
    r"(?<![A-Za-z0-9+])(?<![\d)][ -])(?<!\d[.,])(?:"
    r"\+\d{1,4}(?:[ -]?\(?\d{1,5}\)?){2,6}|\(?0\d{0,4}\)?(?:[ -]\d{2,5}){1,5}|(?:\(?\d{3}\)?[ -])?\d{3}-\d{4}"
    r"|\d+(?:\.\d+){2,}|\d+(?:-\d+){2,}|0\d{2,}|\d{9,})(?![A-Za-z0-9])(?![.,-]\d)"
)


def read_url(text: str) -> tuple[str, str]:
    """The address without the sentence's own punctuation, and its canonical form: scheme and host in lower case."""
    text = text.rstrip(".,;:!?'\"")
    for opening, closing in ("()", "[]", "{}", "<>"):
        while text.endswith(closing) and text.count(closing) > text.count(opening):
            text = text[:-1].rstrip(".,;:!?'\"")
    head = re.match(r"(?:[A-Za-z]+://)?[^/?#]*", text)[0]
    return text, (head.lower() + text[len(head) :]).rstrip("/")


def read_email(text: str) -> str:
    """The address with its host in lower case."""
    user, _, host = text.rpartition("@")
    return f"{user}@{host.lower()}"


def read_digits(text: str) -> str:
    """A telephone number or account without its separators; dotted numbers keep their points."""
    return text if "." in text else re.sub(r"[ ()-]", "", text)
