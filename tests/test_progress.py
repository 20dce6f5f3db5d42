"""What is shown on a terminal is the text itself."""

from __future__ import annotations

import io
import sys

import pytest

from streams.progress import ProgressLine, plain_console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", ["model: m[red]x", "model: q[/b]", ":smile: [link=x]y"])
def test_no_text_is_markup(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    shown, printed = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdout", printed)
    with ProgressLine() as progress:
        progress.show(text, 0.5)
        progress.say(text)
    assert text in shown.getvalue()
    table = Table(title=text)
    table.add_row(text)
    plain_console().print(table)
    assert printed.getvalue().count(text) == 2
