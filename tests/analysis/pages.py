"""What tests of reports share: a page as a parser reads it."""

from __future__ import annotations

import html.parser


class Page(html.parser.HTMLParser):
    """What stands in a page: its tags, attributes, headings, tables and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: dict[str, list[str]] = {"h1": [], "h2": [], "h3": []}
        self.tables: dict[str, list[list[str]]] = {}
        self.drawings: list[dict[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        self._open.append(tag)
        if tag == "svg":
            self.drawings.append(dict(attributes))
        if tag in self.headings:
            self.headings[tag].append("")
        if tag == "caption":
            self._caption = ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("th", "td"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self._open.pop()

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass
        if tag == "table":
            self.tables[f"{self.headings['h2'][-1]}: {self._caption}{self._run()}"] = self._rows
            self._rows = []

    def handle_data(self, data):
        if not data.strip():
            return
        tag = self._open[-1] if self._open else ""
        if tag in self.headings:
            self.headings[tag][-1] += data
        elif tag == "caption":
            self._caption += data
        elif tag in ("th", "td"):
            self._rows[-1][-1] += data
        elif tag not in ("style", "text"):
            self.words.append(data)

    def _run(self) -> str:
        return f" of {self.headings['h3'][-1]}" if self.headings["h3"] else ""

    @property
    def text(self) -> str:
        """Everything outside of tables and figures."""
        return "\n".join(self.words)
