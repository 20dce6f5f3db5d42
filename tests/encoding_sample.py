"""A sample of everything from bytes to slots, as plain data: equal however it is run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ftrl_engine import Batch, FeatureHasher
from ftrl_engine.hashing import as_buffer, hash_bytes
from ftrl_engine.numbers import log_bucket, parse_number, scan_number
from streams.codecs.base import open_codec
from tests.codec_lines import BITS, FORMATS, LINES, NUMBERS, OTHER_TEXTS, SCHEMA, rows_of


def sample() -> dict[str, Any]:
    """Hashes, numbers, one line or two of every format, an event, a frame and a batch."""
    texts = [text.encode() for text in (*NUMBERS, *OTHER_TEXTS)]
    buffers = [(as_buffer(text, padding=8), len(text)) for text in texts]
    lines = {name: [LINES[name][1].encode(), LINES[name][2].encode(), b"\xff"] for name in FORMATS}
    event = {
        "click": 1,
        "user": "u",
        "item": 7,
        "tags": ["a", 2.5],
        "price": -1.5,
        "raw": 0.1,
        "x": {"y": True},
    }
    frame = pd.DataFrame([{name: value for name, value in event.items() if name != "x"}])
    batches = [
        FeatureHasher(SCHEMA, BITS).transform([event]),
        SCHEMA.encode(frame, BITS),
        Batch([0, 3], [5, 1, 5], [0.5, 2.0, 0.25], n_slots=8),
    ]
    return {
        "hashes": [hash_bytes(b"x" * length, seed) for length in range(70) for seed in (0, 2**64 - 1)],
        "scans": [int(scan_number(data, 0, length)) for data, length in buffers],
        "numbers": [repr(float(parse_number(data, 0, length))) for data, length in buffers],
        "buckets": [int(log_bucket(x)) for x in (0.0, -0.0, 1.0, -2.0, 2.5, -1e300, 0.3, -0.3, 5e-324, 1e5)],
        "rows": {
            name: [str(row) for row in rows_of(open_codec(name, SCHEMA, BITS), lines[name])]
            for name in FORMATS
        },
        "batches": [[np.asarray(part).tolist() for part in (b.indptr, b.slots, b.values)] for b in batches],
    }
