"""The same update in C, compiled here if there is a C compiler, and columns split byte by byte.

From gzip, isal decompresses in one thread while another splits and learns. Nothing is hashed: the rows
that are learned are hashed already.
"""

from __future__ import annotations

import ctypes
import queue
import shutil
import subprocess
import threading
import time
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.contenders.base import ALPHA, BETA, L1, L2, Job, Measures, Skipped
from bench.hashed_rows import FEATURES, HashedRows

COMPILERS = ("cc", "gcc", "clang")
# sqrt vectorises only where it need not set errno; no option here changes a rounding order but the sum's.
_OPTIONS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-shared",
    "-fPIC",
)
_COMPILE_SECONDS = 60.0
_HEAD_BYTES = 1 << 16
_PIECE_BYTES, _QUEUED = 1 << 20, 4


def learn_rows(job: Job) -> Measures:
    """Learn all rows once."""
    rows = HashedRows.load(job["hashed"], job["bits"])
    library = open_library(Path(job["hashed"]).parent)
    learn(library, rows.head(1000))
    margins, seconds = learn(library, rows)
    return {"rows_per_second": len(rows) / seconds, "log_loss": rows.log_loss(margins)}


def parse_tsv(job: Job) -> Measures:
    """Find the columns of all rows, which is a part of what ours does with them."""
    data = np.frombuffer(Path(job["file"]).read_bytes(), dtype=np.uint8)
    columns = 1 + bytes(data[:_HEAD_BYTES]).partition(b"\n")[0].count(b"\t")
    library, ends = open_library(Path(job["file"]).parent), np.empty(columns, dtype=np.int64)
    library.split(min(len(data), _HEAD_BYTES), data, columns, ends)
    started = time.perf_counter()
    rows = int(library.split(len(data), data, columns, ends))
    return {"rows": rows, "rows_per_second": rows / (time.perf_counter() - started)}


def from_gzip(job: Job) -> Measures:
    """Decompress the file; find the columns of all rows and learn as many that are hashed already.

    Each piece begins with a new intercept, which takes as long as the old one.
    """
    try:
        import isal.igzip  # noqa: F401, looked for before a thread needs it
    except ImportError:
        raise Skipped("isal is not installed") from None
    from ftrl_engine.learners.intercept import RATE

    rows = HashedRows.load(job["hashed"], job["bits"])
    library, pieces = open_library(Path(job["directory"])), queue.Queue[bytes](_QUEUED)
    state, margins = np.empty((1 << rows.bits, 2)), np.empty(len(rows))
    state.fill(0.0)  # touches every page before the clock starts
    ends, rate, learned = np.empty(1 + FEATURES, dtype=np.int64), float(RATE.default), 0
    started = time.perf_counter()
    reader = threading.Thread(target=_decompress, args=(job["file"], pieces), daemon=True)
    reader.start()
    while data := pieces.get():
        text = np.frombuffer(data, dtype=np.uint8)
        library.split(len(text), text, len(ends), ends)
        part = slice(learned, learned + data.count(b"\n"))
        labels = rows.labels[part]
        library.learn(len(labels), rows.slots[part], labels, state, ALPHA, BETA, L1, L2, rate, margins[part])
        learned += len(labels)
    if learned != job["rows"]:
        raise RuntimeError(f"{job['file']}: {learned} rows, not {job['rows']}")
    return {"rows": learned, "seconds": time.perf_counter() - started}


def _decompress(path: str, pieces: queue.Queue[bytes]) -> None:
    """Put a megabyte after another, and nothing at the end."""
    from isal import igzip

    try:
        with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
            while data := file.read(_PIECE_BYTES):
                pieces.put(data)
    finally:
        pieces.put(b"")


def learn(library: ctypes.CDLL, rows: HashedRows) -> tuple[NDArray[np.float64], float]:
    """(margins, seconds) of one pass from zeros."""
    from ftrl_engine.learners.intercept import RATE

    state, margins = np.empty((1 << rows.bits, 2)), np.empty(len(rows))
    state.fill(0.0)  # touches every page before the clock starts
    rate = float(RATE.default)
    started = time.perf_counter()
    library.learn(len(rows), rows.slots, rows.labels, state, ALPHA, BETA, L1, L2, rate, margins)
    return margins, time.perf_counter() - started


def open_library(directory: Path) -> ctypes.CDLL:
    """The compiled library; it is made in ``directory``, once."""
    library = ctypes.CDLL(str(_compile(directory)))
    array = np.ctypeslib.ndpointer
    slots, numbers = array(np.uint32, flags="C"), array(np.float64, flags="C")
    whole, text = array(np.int64, flags="C"), array(np.uint8, flags="C")
    library.split.restype = ctypes.c_int64
    library.split.argtypes = [ctypes.c_int64, text, ctypes.c_int64, whole]
    library.learn.restype = None
    library.learn.argtypes = [ctypes.c_int64, slots, numbers, numbers, *[ctypes.c_double] * 5, numbers]
    return library


def compiler() -> str | None:
    """The C compiler of this machine."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def _compile(directory: Path) -> Path:
    source = Path(__file__).with_name("c_reference.c")
    library = directory / f"c_reference-{zlib.crc32(source.read_bytes()):08x}.so"
    if library.exists():
        return library
    program = compiler()
    if program is None:
        raise Skipped("no C compiler")
    words = [program, *_OPTIONS, f"-DFEATURES={FEATURES}", str(source), "-o", str(library), "-lm"]
    try:
        done = subprocess.run(words, capture_output=True, timeout=_COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Skipped(f"the C compiler failed: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise Skipped(f"the C compiler failed: {lines[-1] if lines else done.returncode}")
    return library
