"""One measurement in a process of its own: ``python -m bench.worker CONTENDER FUNCTION JOB``.

Prints one JSON line: ``{"measures": {...}}`` or ``{"skipped": reason}``, with the peak memory
and the processor time of the process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from bench.contenders.base import Skipped, find_contender


def main() -> int:
    """Run ``FUNCTION(JOB)`` of the contender."""
    name, function, job = sys.argv[1:]
    reply: dict[str, Any]
    try:
        reply = {"measures": getattr(find_contender(name), function)(json.loads(job))}
    except Skipped as reason:
        reply = {"skipped": str(reason)}
    except ImportError as error:
        reply = {"skipped": f"{name} cannot be imported: {error}"}
    print("\n" + json.dumps(reply | {"peak_mb": peak_mb(), "cpu_seconds": cpu_seconds()}), flush=True)
    return 0


def peak_mb() -> float:
    """The largest resident memory of this process so far, in 10^6 bytes; 0 where it is not known."""
    try:
        # Unlike getrusage, this forgets the process that started this one.
        with open("/proc/self/status", encoding="ascii") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    except (OSError, KeyError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def cpu_seconds() -> float:
    """Processor time of all threads of this process."""
    import time

    return time.process_time()


if __name__ == "__main__":
    sys.exit(main())
