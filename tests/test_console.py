"""What is printed through rich is text and no markup: `ftrl-engine[bench]` must not lose its end."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_console_takes_text_as_it_is() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {call}"
        for folder in ("bench", "serving", "streams", "ftrl_engine")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for call in re.findall(r"\bConsole\([^)]*\)", path.read_text(encoding="utf-8"))
    ]
    assert len(found) >= 5
    assert [call for call in found if "markup=False" not in call] == []
