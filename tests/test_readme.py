"""Every example of the README is run, as a reader would."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from tests.kafka_broker import Broker

README = Path(__file__).parents[1] / "README.md"
FTRL = f"{shlex.quote(sys.executable)} -m ftrl_engine"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[str]:
    lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    return [line.partition("   #")[0].rstrip() for line in lines]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Reader:
    """Types the commands; what does not end by itself runs on beside the others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.running: list[subprocess.Popen[bytes]] = []

    def type(self, command: str) -> None:
        words = command
        if command.startswith("ftrl serve"):
            self.port = free_port()
            words = f"{command.replace('--port 8000', '')} --port {self.port}"
        words = words.replace("localhost:8000", f"127.0.0.1:{self.port}")
        script = re.sub(r"^ftrl ", f"{FTRL} ", words)
        if command.startswith("ftrl serve") or "--follow" in command or "--rate" in command:
            self.running.append(subprocess.Popen(["bash", "-c", f"exec {script}"], cwd=self.folder))
            self._wait_until_it_works(command)
            return
        done = subprocess.run(["bash", "-c", script], cwd=self.folder, capture_output=True, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stderr.decode()}"
        if command.startswith("curl"):
            assert b'"scores"' in done.stdout, done.stdout

    def _wait_until_it_works(self, command: str) -> None:
        deadline = time.monotonic() + 240
        while not self._works(command):
            assert self.running[-1].poll() is None, f"{command} ended"
            assert time.monotonic() < deadline, f"{command} does nothing"
            time.sleep(0.05)

    def _works(self, command: str) -> bool:
        if command.startswith("ftrl serve"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:  # not listening yet, or no model yet (503)
                return False
        if "--follow" in command:
            return any((self.folder / "live" / "snapshots").glob("*.safetensors"))
        return any((self.folder / "events").glob("*.jsonl"))

    def stop(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            assert process.wait(timeout=60) in (0, 130)
        self.running.clear()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    for process in reader.running:
        process.kill()
        process.wait()


def prepare_own_data(folder: Path) -> None:
    """The files that "your own data" stands for."""
    make = [sys.executable, "-m", "ftrl_engine", "simulate", "--quiet", "--rows", "2000"]
    for day in (1, 2):
        path = folder / f"day-{day}.tsv.gz"
        subprocess.run([*make, "--format", "criteo", "--to", str(path), "--seed", str(day)], check=True)
    (toml,) = blocks("toml")
    (folder / "my.toml").write_text(toml)
    (folder / "events.csv").write_text(
        "click,time,request_id,user_segment,category,user_id,tags,price,age\n"
        + "".join(
            f'{n % 5 == 0:d},{n},r{n},s{n % 3},c{n % 7},u{n % 50},"a,b",{n % 90}.5,{n % 80}\n'
            for n in range(500)
        )
    )


def test_the_tour(reader: Reader) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed, and the README uses it")
    prepare_own_data(reader.folder)
    typed = [command for command in commands() if "kafka" not in command]
    assert len(typed) >= 10
    for command in typed:
        reader.type(command)
        if command.startswith("ftrl serve --model live") or command.startswith("curl"):
            reader.stop()


@pytest.fixture
def made_broker(kafka_broker: Broker) -> Iterator[str]:
    """The address that `make kafka` prints; the broker of the other tests shows that one can be started."""
    words = [sys.executable, "-m", "bench.kafka_broker", "--topic", "four:4", "--port", str(free_port())]
    broker = subprocess.Popen(words, cwd=README.parent, stdout=subprocess.PIPE, text=True)
    assert broker.stdout is not None
    try:
        yield broker.stdout.readline().strip()
    finally:
        broker.terminate()
        assert broker.wait(60) in (0, 130)
        broker.stdout.close()


@pytest.mark.kafka
def test_the_kafka_tour(reader: Reader, made_broker: str) -> None:
    assert re.fullmatch(r"127\.0\.0\.1:\d+", made_broker)
    typed = [command for command in commands() if "kafka" in command]
    assert len(typed) == 3
    for command in typed:
        reader.type(command.replace("127.0.0.1:9092", made_broker))
    assert (reader.folder / "fromkafka" / "checkpoints" / "100000.safetensors").is_file()
    with KafkaAdminClient(bootstrap_servers=made_broker) as admin:
        (topic,) = admin.describe_topics(["four"])
    assert len(topic["partitions"]) == 4


def test_the_python_example() -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["margins"]) == 2  # type: ignore[arg-type]


def test_the_make_targets_exist() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target
