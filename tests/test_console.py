"""What is printed through rich is text and no markup: `ftrl-engine[bench]` must not lose its end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams.progress import plain_console

ROOT = Path(__file__).parents[1]


def test_every_console_is_made_in_one_place() -> None:
    calls: dict[str, list[str]] = {}
    for folder in ("bench", "serving", "streams", "ftrl_engine"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for call in re.findall(r"\b(?:plain_console|Console)\(", path.read_text(encoding="utf-8")):
                calls.setdefault(call, []).append(path.relative_to(ROOT).as_posix())
    assert calls["Console("] == ["streams/progress.py"]
    assert len(calls["plain_console("]) > 5  # the definition and those who print


@pytest.mark.parametrize("stderr", [False, True])
def test_it_takes_text_as_it_is(stderr: bool, capsys: pytest.CaptureFixture[str]) -> None:
    plain_console(stderr=stderr).print("pip install 'ftrl-engine[bench]' [bold]:smile:")
    printed = capsys.readouterr()
    assert (printed.err if stderr else printed.out) == "pip install 'ftrl-engine[bench]' [bold]:smile:\n"
