"""Memory while a backlog is learned: it must not depend on the length of the backlog.

    python -m bench.kafka_memory --rows 5000000

Prints the resident memory of the learner at every tenth of the way.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.kafka_speed import broker_address, fill, make_topic


def main() -> None:
    """One JSON line: rows, seconds, MB at each tenth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--client", choices=("kafka-python", "confluent"), default="kafka-python")
    parser.add_argument("--pack", type=int, default=1, help="events a message")
    args = parser.parse_args()
    with broker_address() as servers, tempfile.TemporaryDirectory(prefix="ftrl-kafka-") as name:
        topic = make_topic(servers)
        fill(f"kafka://{servers}/{topic}?pack={args.pack}", args.rows)
        words = ["learn", f"kafka://{servers}/{topic}?client={args.client}", "--schema", "clicks"]
        words += ["--model", f"{name}/model", "--quiet", "--checkpoint-every", f"{args.rows // 20}rows"]
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "ftrl_engine", *words])
        tenths: dict[int, float] = {}
        while process.poll() is None:
            time.sleep(0.2)
            done = _rows(Path(name) / "model") * 10 // args.rows
            if done not in tenths and (megabytes := _megabytes(process.pid)):
                tenths[done] = megabytes
        seconds = round(time.monotonic() - started, 1)
    result = {"rows": args.rows, "client": args.client, "pack": args.pack, "seconds": seconds}
    print(json.dumps(result | {"mb_at_tenths": [tenths[key] for key in sorted(tenths)]}))
    sys.exit(process.returncode)


def _rows(model: Path) -> int:
    folder = model / "checkpoints"
    found = folder.glob("*.safetensors") if folder.is_dir() else ()
    return max((int(path.stem) for path in found), default=0)


def _megabytes(process: int) -> float:
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in text.splitlines() if line.startswith("VmRSS")]
    return round(int(lines[0].split()[1]) / 1024, 1) if lines else 0.0


if __name__ == "__main__":
    main()
