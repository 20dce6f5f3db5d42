"""isal: decompresses gzip faster than zlib, and only decompresses."""

from __future__ import annotations

from bench.contenders.base import Job, Measures, read_through

NEEDS = "isal"


def from_gzip(job: Job) -> Measures:
    """All bytes of the file, a megabyte at a time."""
    from isal import igzip

    return read_through(job, igzip.open)
