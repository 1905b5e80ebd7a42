"""Starts a real Druid 33 (ZooKeeper and four JVMs) in a private directory on free ports, and stops it.
It must never touch a server that it did not start, and leaves nothing behind but its logs when it failed."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zipfile

VERSION = "33.0.0"
HERE = pathlib.Path(__file__).resolve().parent

# How long a role may take on a busy machine; a healthy one is there after half a minute.
PATIENCE_S = 300

JVM = [
    "-Xms64m",
    "-XX:MaxDirectMemorySize=256m",
    "-XX:+UseSerialGC",
    "-Duser.timezone=UTC",
    "-Dfile.encoding=UTF-8",
    "-Djava.util.logging.manager=org.apache.logging.log4j.jul.LogManager",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
]

LOG4J = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN"><Appenders><Console name="Console" target="SYSTEM_OUT">
<PatternLayout pattern="%d{ISO8601} %p [%t] %c - %m%n"/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="Console"/></Root></Loggers></Configuration>
"""


def free_ports(count):
    """Ports that are free now, all different."""
    held = []
    for _ in range(count):
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        held.append(s)
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def jars(cache):
    """The directory of Druid's jars, fetched once with Maven into the cache: whole or not there."""
    lib = pathlib.Path(cache) / f"druid-{VERSION}"
    if lib.is_dir():
        return lib
    lib.parent.mkdir(parents=True, exist_ok=True)
    home = next(
        line.split(":", 1)[1].strip()
        for line in subprocess.run(["mvn", "-v"], capture_output=True, text=True, check=True).stdout.splitlines()
        if "Maven home" in line
    )
    # Druid's poms name a repository that is gone: everything comes from the one that Maven itself knows.
    central = None
    for jar in sorted(pathlib.Path(home, "lib").glob("maven-model-builder-*.jar")):
        with zipfile.ZipFile(jar) as z:
            super_pom = z.read("org/apache/maven/model/pom-4.0.0.xml").decode()
        central = super_pom.split("<url>", 1)[1].split("</url>", 1)[0]
    if central is None:
        raise SystemExit("Maven's own list of repositories was not found; is Maven complete?")
    with tempfile.TemporaryDirectory(dir=lib.parent) as half:
        settings = pathlib.Path(half, "settings.xml")
        settings.write_text(
            "<settings><mirrors><mirror><id>one-for-all</id><mirrorOf>*</mirrorOf>"
            f"<url>{central}</url></mirror></mirrors></settings>"
        )
        shutil.copy(HERE / "pom.xml", half)
        out = pathlib.Path(half, "lib")
        subprocess.run(
            ["mvn", "-q", "-B", "-s", str(settings), "dependency:copy-dependencies",
             f"-DoutputDirectory={out}", "-DincludeScope=runtime"],
            cwd=half, check=True,
        )
        os.rename(out, lib)
    return lib


class Kafka:
    """A running Kafka of one node, from the jars that script/setup-servers fetched; use it as a context."""

    def __init__(self, directory):
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        self.jars = cache / "seckill" / "servers" / "kafka-4.3.1" / "lib"
        if not self.jars.is_dir():
            raise SystemExit("Kafka is not there; run script/setup-servers first")
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        port, controller = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        (self.dir / "server.properties").write_text(
            "process.roles=broker,controller\nnode.id=1\n"
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n"
            f"listeners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAINTEXT://{self.address}\n"
            "controller.listener.names=CONTROLLER\n"
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
            f"log.dirs={self.dir / 'data'}\noffsets.topic.replication.factor=1\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
        )

    def _java(self, *main):
        return ["nice", "-n", "10", "java", "-Xmx384m", "-XX:+UseSerialGC", "-cp", f"{self.jars}/*", *main]

    def __enter__(self):
        properties = str(self.dir / "server.properties")
        quiet = {"stdout": open(self.dir / "kafka.log", "wb"), "stderr": subprocess.STDOUT}
        subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", "c2Vja2lsbC10ZXN0LWthZg", "-c", properties),
            check=True, **quiet)
        self.child = subprocess.Popen(self._java("kafka.Kafka", properties), start_new_session=True, **quiet)
        host, port = self.address.split(":")
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.child.poll() is None:
            try:
                socket.create_connection((host, int(port)), 1).close()
                return self
            except OSError:
                time.sleep(0.2)
        self.__exit__()
        raise SystemExit(f"Kafka did not start; its log is {self.dir}/kafka.log")

    def produce(self, topic, lines):
        subprocess.run(
            self._java("org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", self.address, "--topic", topic),
            input="\n".join(lines).encode() + b"\n", check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __exit__(self, *_):
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGTERM)
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
                self.child.wait()


class Druid:
    """A running Druid; use it as a context."""

    def __init__(self, cache, keep=None):
        self.lib = jars(cache)
        self.dir = pathlib.Path(keep or tempfile.mkdtemp(prefix="druid-"))
        self.dir.mkdir(parents=True, exist_ok=True)
        self.children = []
        names = ["zookeeper", "derby", "coordinator", "broker", "historical", "indexer"]
        self.port = dict(zip(names, free_ports(len(names))))
        self.failed = True

    def __enter__(self):
        try:
            self._zookeeper()
            self._configure()
            # The coordinator first: it makes the tables of the metadata store.
            self._role("coordinator", "-Xmx320m")
            self.wait("coordinator")
            for role in ["broker", "historical", "indexer"]:
                # A join's or window's intermediate result is materialised in a frame of 200 MB, whatever its size.
                self._role(role, "-Xmx384m" if role == "indexer" else "-Xmx768m")
            for role in ["broker", "historical", "indexer"]:
                self.wait(role)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind, _value, _trace):
        self.failed = kind is not None
        self.stop()

    def _java(self, name, heap, classpath, main):
        log = open(self.dir / f"{name}.log", "wb")
        command = ["nice", "-n", "10", "java", heap, *JVM, f"-Djava.io.tmpdir={self.dir / 'tmp'}", "-cp", classpath, *main]
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.dir, start_new_session=True)
        self.children.append((name, child))

    def _zookeeper(self):
        (self.dir / "tmp").mkdir(exist_ok=True)
        conf = self.dir / "conf" / "common"
        conf.mkdir(parents=True, exist_ok=True)
        (conf / "log4j2.xml").write_text(LOG4J)
        zoo = self.dir / "zoo.cfg"
        zoo.write_text(
            f"tickTime=2000\ndataDir={self.dir / 'zk'}\nclientPort={self.port['zookeeper']}\n"
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
        )
        self._java("zookeeper", "-Xmx128m", f"{conf}:{self.lib}/*",
                   ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(zoo)])
        self.until("ZooKeeper", lambda: socket.create_connection(("127.0.0.1", self.port["zookeeper"]), 1).close() or True)

    def _configure(self):
        d, port = self.dir, self.port
        common = {
            "druid.extensions.loadList": "[]",
            "druid.host": "127.0.0.1",
            "druid.zk.service.host": f"127.0.0.1:{port['zookeeper']}",
            "druid.metadata.storage.type": "derby",
            "druid.metadata.storage.connector.connectURI":
                f"jdbc:derby://127.0.0.1:{port['derby']}/{d}/metadata;create=true",
            "druid.metadata.storage.connector.host": "127.0.0.1",
            "druid.metadata.storage.connector.port": port["derby"],
            "druid.storage.type": "local",
            "druid.storage.storageDirectory": d / "segments",
            "druid.indexer.logs.type": "file",
            "druid.indexer.logs.directory": d / "task-logs",
            "druid.processing.buffer.sizeBytes": "25MiB",
            "druid.processing.numThreads": 1,
            "druid.processing.numMergeBuffers": 2,
            "druid.server.http.numThreads": 12,
            "druid.lookup.enableLookupSyncOnStartup": "false",
            "druid.selectors.indexing.serviceName": "druid/overlord",
            "druid.selectors.coordinator.serviceName": "druid/coordinator",
            "druid.serverview.type": "http",
            "druid.coordinator.loadqueuepeon.type": "http",
        }
        roles = {
            "coordinator": {
                "druid.coordinator.asOverlord.enabled": "true",
                "druid.coordinator.asOverlord.overlordService": "druid/overlord",
                "druid.coordinator.startDelay": "PT2S",
                "druid.coordinator.period": "PT2S",
                "druid.coordinator.period.indexingPeriod": "PT5S",
                "druid.manager.segments.pollDuration": "PT2S",
                "druid.indexer.queue.startDelay": "PT1S",
                "druid.indexer.runner.type": "httpRemote",
                "druid.indexer.storage.type": "metadata",
            },
            "broker": {
                "druid.broker.http.numConnections": 5,
                "druid.sql.enable": "true",
                "druid.sql.planner.metadataRefreshPeriod": "PT2S",
                "druid.sql.planner.enableSysQueriesTable": "false",
            },
            "historical": {"druid.segmentCache.locations": json.dumps([{"path": f"{d}/cache", "maxSize": "2g"}])},
            "indexer": {
                "druid.worker.capacity": 4,
                "druid.worker.baseTaskDirs": json.dumps([f"{d}/task"]),
                "druid.indexer.task.baseDir": d / "task",
            },
        }
        write = lambda path, values: path.write_text("".join(f"{k}={v}\n" for k, v in values.items()))
        write(d / "conf" / "common" / "common.runtime.properties", common)
        for role, values in roles.items():
            conf = d / "conf" / role
            conf.mkdir(parents=True, exist_ok=True)
            write(conf / "runtime.properties",
                  {"druid.service": f"druid/{role}", "druid.plaintextPort": port[role], **values})

    def _role(self, role, heap):
        self._java(role, heap, f"{self.dir}/conf/common:{self.dir}/conf/{role}:{self.lib}/*",
                   ["org.apache.druid.cli.Main", "server", role])

    def wait(self, role):
        self.until(role, lambda: self.get(role, "/status/health") is True)

    def until(self, what, holds):
        end = time.monotonic() + PATIENCE_S
        last = None
        while time.monotonic() < end:
            for name, child in self.children:
                if child.poll() is not None:
                    raise SystemExit(f"{name} ended with {child.returncode}; its log is {self.dir}/{name}.log")
            try:
                if holds():
                    return
            except (OSError, urllib.error.URLError, ValueError) as error:
                last = error
            time.sleep(0.2)
        raise SystemExit(f"{what} did not come true in {PATIENCE_S} s ({last}); logs are in {self.dir}")

    def url(self, role):
        return f"http://127.0.0.1:{self.port[role]}"

    def get(self, role, path):
        with urllib.request.urlopen(self.url(role) + path, timeout=10) as answer:
            return json.load(answer)

    def post(self, role, path, body):
        request = urllib.request.Request(
            self.url(role) + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def ingest(self, spec, rows):
        """Runs a batch task and waits until the broker counts `rows` rows of its table."""
        task = self.post("coordinator", "/druid/indexer/v1/task", spec)["task"]
        def done():
            state = self.get("coordinator", f"/druid/indexer/v1/task/{task}/status")["status"]
            if state["status"] == "FAILED":
                raise SystemExit(f"the task failed: {state.get('errorMsg')}; logs are in {self.dir}")
            return state["status"] == "SUCCESS"
        self.until("the batch task", done)
        self.until_rows(spec["spec"]["dataSchema"]["dataSource"], "COUNT(*)", rows)

    def until_rows(self, table, count, rows):
        """Waits until the broker's count is `rows`."""
        self.until(f"{rows} rows of {table}", lambda: self.post(
            "broker", "/druid/v2/sql", {"query": f'SELECT {count} AS n FROM "{table}"', "resultFormat": "array"},
        ) == [[rows]])

    def stop(self):
        """ZooKeeper last: the others say good-bye to it."""
        for name, child in reversed(self.children):
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
                try:
                    child.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        if not self.failed:
            shutil.rmtree(self.dir, ignore_errors=True)
