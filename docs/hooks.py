"""Docstrings name things as [`Name`], which is no link in Markdown: the API's page shows the name alone."""

import re


def on_page_content(html: str, page, **_) -> str:
    """Takes brackets and marks away that Markdown does not read."""
    if page.file.src_uri != "api.md":
        return html
    html = re.sub(r"\[(<code>[^<]*</code>)\]", r"\1", html)
    # Types as transformers writes them, `str`, *optional*, stand in code already.
    return re.sub(r"<code>([^<]*`[^<]*)</code>", lambda match: f"<code>{re.sub('[`*]', '', match[1])}</code>", html)
