"""A real Apache Kafka broker for tests, measurements and `make kafka`: one node, KRaft, no Docker.

Its jars come through Maven once and are kept outside the tree in the user's cache directory.
Run as a program it starts a broker, prints its address and serves until it is interrupted.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

VERSION = "4.1.1"
LOG4J = "2.24.3"
START_SECONDS = 90.0
CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"  # any 22 characters of base64
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
USER, PASSWORD = "learner", "correct-horse-battery"

_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>tests</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>{}</dependencies>
<build><plugins><plugin><groupId>org.apache.maven.plugins</groupId>
<artifactId>maven-dependency-plugin</artifactId><version>3.8.1</version></plugin></plugins></build>
</project>
"""
_LOG4J = """<Configuration status="ERROR"><Appenders><Console name="out">
<PatternLayout pattern="%d %p %m (%c)%n"/></Console></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="out"/></Root>
<Logger name="kafka.server.KafkaRaftServer" level="INFO"/></Loggers></Configuration>
"""
_JAAS = (
    'org.apache.kafka.common.security.{module} required username="{user}" '
    'password="{password}" user_{user}="{password}";'
)


class NoBrokerError(Exception):
    """What is missing to start a broker here."""


def jars() -> Path:
    """The directory of Kafka's jars, fetched when they are not there yet."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "ftrl-engine-kafka" / f"{VERSION}-{LOG4J}"
    if directory.is_dir():
        return directory
    if shutil.which("mvn") is None:
        raise NoBrokerError("there is no mvn to fetch Apache Kafka with; on Debian: apt-get install maven")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        pom, found = Path(name) / "pom.xml", Path(name) / "jars"
        dependencies = [("org.apache.kafka", "kafka_2.13", VERSION)]
        dependencies += [
            ("org.apache.logging.log4j", part, LOG4J)
            for part in ("log4j-api", "log4j-core", "log4j-slf4j-impl")
        ]
        pom.write_text(_POM.format("".join(_DEPENDENCY.format(*each) for each in dependencies)))
        words = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        words += ["-DincludeScope=runtime", f"-DoutputDirectory={found}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise NoBrokerError(
                f"Maven could not fetch Apache Kafka: {done.stdout[-2000:]}{done.stderr[-500:]}"
            )
        try:
            found.replace(directory)
        except OSError:
            if not directory.is_dir():  # another run was faster otherwise
                raise
    return directory


class Broker:
    """One broker process; its address and data stay the same when it is started again.

    secure      adds a SASL_PLAINTEXT listener (PLAIN, SCRAM-SHA-256) and a SASL_SSL listener with a
                certificate whose authority is in ``ca_file``
    properties  more of server.properties
    port        where clients connect; a free one unless it is given
    """

    def __init__(
        self,
        directory: Path,
        secure: bool = False,
        properties: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        if shutil.which("java") is None:
            raise NoBrokerError("there is no Java; on Debian: apt-get install default-jre-headless")
        self.directory = directory
        self._jars = jars()
        self._secure = secure
        self._process: subprocess.Popen[bytes] | None = None
        free, controller, sasl, tls = _free_ports(4)
        port = port or free
        self.address = f"127.0.0.1:{port}"
        self.sasl_address, self.tls_address = f"127.0.0.1:{sasl}", f"localhost:{tls}"
        self.ca_file = directory / "ca.pem"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "log4j2.xml").write_text(_LOG4J)
        lines = self._lines(port, controller, sasl, tls) | dict(properties or {})
        (directory / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        self._format()

    def _lines(self, port: int, controller: int, sasl: int, tls: int) -> dict[str, str]:
        listeners = [f"PLAINTEXT://127.0.0.1:{port}"]
        protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.directory / "data"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.dedupe.buffer.size": "4194304",
            "log.retention.check.interval.ms": "1000",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "num.network.threads": "2",
            "num.io.threads": "4",
        }
        for kind in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            lines[f"{kind}.replication.factor"] = "1"
        for kind in ("transaction.state.log", "share.coordinator.state.topic"):
            lines[f"{kind}.min.isr"] = "1"
        if self._secure:
            store = self._certificates()
            listeners += [f"LOGIN://127.0.0.1:{sasl}", f"TLS://localhost:{tls}"]
            protocols += ["LOGIN:SASL_PLAINTEXT", "TLS:SASL_SSL"]
            lines |= {
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
                "ssl.keystore.location": str(store),
                "ssl.keystore.password": PASSWORD,
                "ssl.keystore.type": "PKCS12",
            }
            for listener in ("login", "tls"):
                for mechanism, module in (
                    ("plain", "plain.PlainLoginModule"),
                    ("scram-sha-256", "scram.ScramLoginModule"),
                ):
                    jaas = _JAAS.format(module=module, user=USER, password=PASSWORD)
                    if mechanism != "plain":
                        jaas = jaas.replace(f' user_{USER}="{PASSWORD}"', "")
                    lines[f"listener.name.{listener}.{mechanism}.sasl.jaas.config"] = jaas
        lines["listeners"] = ",".join([*listeners, f"CONTROLLER://127.0.0.1:{controller}"])
        lines["advertised.listeners"] = ",".join(listeners)
        lines["listener.security.protocol.map"] = ",".join(protocols)
        return lines

    def _certificates(self) -> Path:
        """A key for localhost; its self-signed certificate is the authority too."""
        store = self.directory / "server.p12"
        secret = ["-keystore", str(store), "-storepass", PASSWORD, "-alias", "broker"]
        new = ["-genkeypair", "-keyalg", "RSA", "-keysize", "2048", "-storetype", "PKCS12", "-validity", "30"]
        _run(["keytool", *new, *secret, "-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1",
              "-ext", "BC=ca:true"])  # fmt: skip
        _run(["keytool", "-exportcert", "-rfc", *secret, "-file", str(self.ca_file)])
        return store

    def _format(self) -> None:
        words = ["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER_ID]
        words += ["-c", str(self.directory / "server.properties")]
        if self._secure:
            words += ["--add-scram", f"SCRAM-SHA-256=[name={USER},password={PASSWORD}]"]
        _run([*self._java("128m"), *words])

    def _java(self, heap: str) -> list[str]:
        config = f"-Dlog4j2.configurationFile={self.directory / 'log4j2.xml'}"
        flags = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Xmx{heap}", config]
        return ["java", *flags, "-cp", f"{self._jars}/*"]

    def start(self) -> None:
        """Start it and wait until it serves; on Linux it ends when the thread that calls this ends."""
        log = self.directory / "broker.log"
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            words = [*self._java("512m"), "kafka.Kafka", str(self.directory / "server.properties")]
            # In a group of its own, an interrupt at the keyboard does not reach it before us.
            self._process = subprocess.Popen(
                words, stdout=file, stderr=file, start_new_session=True, preexec_fn=end_with_parent()
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            text = log.read_bytes()[before:]
            if b"Kafka Server started" in text and self._answers():
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        self.kill()
        raise NoBrokerError(
            f"the broker did not start: {log.read_bytes()[before:][-3000:].decode(errors='replace')}"
        )

    def _answers(self) -> bool:
        host, _, port = self.address.partition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it without warning, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)
        self._process = None


def end_with_parent() -> Callable[[], None] | None:
    """For ``preexec_fn``: the child is killed when its parent ends, in whatever way (Linux; else None)."""
    if not sys.platform.startswith("linux"):
        return None
    library, parent = ctypes.CDLL(None), os.getpid()  # looked up here: the child may do as little as possible

    def ask() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return ask


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise NoBrokerError(f"{words[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def main() -> int:
    """`make kafka`: a broker until Ctrl-C, with topics if they are named."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--directory", type=Path, help="keep the data here (default: a temporary directory)")
    parser.add_argument(
        "--topic", action="append", default=[], metavar="NAME[:PARTITIONS]", help="make a topic"
    )
    parser.add_argument("--port", type=int, default=9092, metavar="N", help="where to listen (9092)")
    args = parser.parse_args()
    with socket.socket() as taken:
        if taken.connect_ex(("127.0.0.1", args.port)) == 0:
            print(f"make kafka: port {args.port} is in use; ARGS='--port N' names another", file=sys.stderr)
            return 1
    with tempfile.TemporaryDirectory(prefix="ftrl-kafka-") as name:
        try:
            properties = {"auto.create.topics.enable": "true"}
            broker = Broker(args.directory or Path(name), properties=properties, port=args.port)
            print("starting Apache Kafka ...", file=sys.stderr, flush=True)
            broker.start()
        except NoBrokerError as error:
            print(f"make kafka: {error}", file=sys.stderr)
            return 1
        try:
            if args.topic:
                from kafka import KafkaAdminClient

                with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
                    for topic in args.topic:
                        title, _, partitions = topic.partition(":")
                        admin.create_topics(
                            {title: {"num_partitions": int(partitions or 1), "replication_factor": 1}}
                        )
            print(broker.address, flush=True)
            print("Ctrl-C stops it; the data goes with it unless --directory was given", file=sys.stderr)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
        finally:
            broker.stop()
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    sys.exit(main())
