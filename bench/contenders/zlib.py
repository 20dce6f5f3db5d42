"""zlib, as in the standard library and the gzip command: only decompresses."""

from __future__ import annotations

import gzip

from bench.contenders.base import Job, Measures, read_through


def from_gzip(job: Job) -> Measures:
    """All bytes of the file, a megabyte at a time."""
    return read_through(job, gzip.open)
