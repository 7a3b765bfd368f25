"""Docstrings name things as [`Name`], which is no link in Markdown: the site shows the name without its brackets."""

import re


def on_page_content(html: str, page, **_) -> str:
    """Of the API's page."""
    return re.sub(r"\[(<code>[^<]*</code>)\]", r"\1", html) if page.file.src_uri == "api.md" else html
