"""The rule of the floors that the import linter cannot say: a wildcard there replaces whole names only."""

from __future__ import annotations

from itertools import permutations

import grimp


def test_sources_do_not_know_each_other() -> None:
    graph = grimp.build_graph("streams", cache_dir=None)
    sources = [name for name in graph.find_children("streams") if name.endswith("_source")]
    assert "streams.file_source" in sources
    arrows = [
        (one, other)
        for one, other in permutations(sources, 2)
        if other in graph.find_modules_directly_imported_by(one)
    ]
    assert arrows == []
