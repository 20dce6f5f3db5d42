"""What a command has loaded is no longer searched for garbage; that of other programs is."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from streams.memory import keep_loaded


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    yield
    gc.set_threshold(*threshold)
    if not frozen:
        gc.unfreeze()


def test_a_command_that_collects_seldom_keeps_what_is_loaded() -> None:
    gc.set_threshold(50_000)
    keep_loaded()
    assert gc.get_freeze_count() > 1000


def test_the_objects_of_another_program_are_left_as_they_are() -> None:
    gc.set_threshold(2000)  # as Python has it, or less
    before = gc.get_freeze_count()
    keep_loaded()
    assert gc.get_freeze_count() == before
