"""What a program outside is: one file in this folder each.

Adding one is one file; nothing else is edited. The file's name is the contender's name. It defines

- ``METHOD``    a :class:`bench.comparison.method.Method`: what its rate and its penalty are called
- ``NEEDS``     the module without which it is skipped; ``PACKAGE``: the package that brings it
- ``MOST_ROWS`` it gets no more than the first so many events, because it takes its time
- ``NOTE``      a sentence on how it is run, for the report
- ``open_rows(rows, directory) -> run`` with ``run(settings) -> Run``; ``directory`` is its own

and runs in a process of its own. Every prediction it returns must come from before the event it
predicts was learned from; where a program cannot do that for every single event, NOTE says how far
apart they are. :class:`Skipped` is raised where it cannot take the rows.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

Settings = Mapping[str, float | str]
_SHARED = ("base", "process", "vw_text")


class Skipped(Exception):
    """A program cannot take part; the text says why."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Hashed rows in the order they are to be learned in.

    indptr int64[rows + 1], slots uint32[nnz] below n_slots, values float64[nnz] or None where all are
    1, labels float64[rows] of 0 and 1, importance float64[rows] or None where all are 1
    """

    indptr: NDArray[np.int64]
    slots: NDArray[np.uint32]
    values: NDArray[np.float64] | None
    labels: NDArray[np.float64]
    importance: NDArray[np.float64] | None
    n_slots: int

    @classmethod
    def load(cls, directory: Path, n_slots: int) -> Rows:
        """Read what :meth:`bench.comparison.events.Events.save` has written."""
        names = ("indptr", "slots", "values", "labels", "importance")
        indptr, slots, values, labels, importance = (np.load(directory / f"{name}.npy") for name in names)
        return cls(
            indptr,
            slots,
            None if bool((values == 1.0).all()) else values,
            labels,
            None if bool((importance == 1.0).all()) else importance,
            n_slots,
        )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Run:
    """margins float64[rows], the log-odds predicted; nonzeros at the end, the intercept not counted.

    curve  (events, non-zeros) on the way, where that costs nothing
    """

    margins: NDArray[np.float64]
    nonzeros: int
    curve: tuple[tuple[int, int], ...] = ()


Runner = Callable[[Settings], Run]


def program_names() -> list[str]:
    """The programs there are: one a file in this folder."""
    import bench.comparison.outside as package

    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in _SHARED)


def find_program(name: str) -> ModuleType:
    """The module of a program."""
    return importlib.import_module(f"bench.comparison.outside.{name}")


def missing(name: str) -> str | None:
    """Why a program cannot run here, as far as that is known without running it."""
    needs = find_program(name).NEEDS
    if importlib.util.find_spec(needs) is not None:
        return None
    return f"{needs} is not installed; pip install 'ftrl-engine[bench]'"


def version_of(name: str) -> str | None:
    """The installed version of the program."""
    try:
        return version(find_program(name).PACKAGE)
    except PackageNotFoundError:
        return None


def log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """The margins of probabilities; those that were rounded to 0 or 1 become the nearest that is not."""
    p = np.clip(probabilities, 1e-15, 1.0 - 1e-15)
    margins: NDArray[np.float64] = np.log(p) - np.log1p(-p)
    return margins
