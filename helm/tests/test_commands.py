"""Starts what the chart would start: the rendered command lines, on loopback, with addresses and folders replaced and nothing else. Needs
the built binary in HERDBOOK_BIN."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import grpc
import pytest

from conftest import of_kind

# Longest wait for a node to be ready; a broken one is told by its exit, long before.
PATIENCE = 120
SERVING = b"\x08\x01"

pytestmark = pytest.mark.skipif("HERDBOOK_BIN" not in os.environ, reason="HERDBOOK_BIN names no binary")


# Ports told already: the kernel may return one twice.
told = set()


def free_port():
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        if port not in told:
            told.add(port)
            return port


class Node:
    """One container of the chart as a process of this machine."""

    def __init__(self, container, folder, replacements):
        self.name = folder.name
        folder.mkdir()
        for mount in container["volumeMounts"]:
            inside = folder / mount["name"]
            inside.mkdir(exist_ok=True)
            replacements = {f"={mount['mountPath']}": f"={inside}"} | replacements
        (folder / "token" / "token").write_text("a-token-of-the-chart-test")
        self.log = folder / "log"
        self.ports = {port["containerPort"]: free_port() for port in container["ports"]}
        self.probes = [container[f"{kind}Probe"]["grpc"] for kind in ("startup", "readiness", "liveness")]
        self.http = self.ports[next(port["containerPort"] for port in container["ports"] if port["name"] == "http")]
        self.grpc = self.ports[next(port["containerPort"] for port in container["ports"] if port["name"] == "grpc")]
        replacements = {f"0.0.0.0:{inner}": f"127.0.0.1:{outer}" for inner, outer in self.ports.items()} | replacements
        # One pass, the longest match first, so that nothing is replaced in what was put in.
        pattern = re.compile("|".join(re.escape(old) for old in sorted(replacements, key=len, reverse=True)))
        put_in = {old: new.format(own=f"127.0.0.1:{self.grpc}") for old, new in replacements.items()}
        arguments = [pattern.sub(lambda found: put_in[found[0]], argument) for argument in container["args"]]
        assert container["command"] == ["herdbook"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        environment |= {each["name"]: each["value"] for each in container["env"] if "value" in each}
        self.process = subprocess.Popen(
            [os.environ["HERDBOOK_BIN"], *arguments], stdout=self.log.open("wb"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )

    def get(self, path):
        """Returns the HTTP status of a path, 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=5) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait_until_ready(self):
        give_up = time.monotonic() + PATIENCE
        while (status := self.get("/readyz")) != 200:
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.tail()}"
            assert time.monotonic() < give_up, f"{self.name} is not ready, /readyz answers {status}:\n{self.tail()}"
            time.sleep(0.1)

    def probe(self, service):
        """Asks grpc.health.v1 as the kubelet would; returns the answer's bytes."""
        name = service.encode()
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc}") as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            return check(b"\x0a" + bytes([len(name)]) + name if name else b"", timeout=10)

    def tail(self):
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self):
        """Ends the process as Kubernetes does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


@pytest.fixture
def herd(helm, tmp_path):
    """The coordinator and two replicas of a default release, ready, and the render they came from."""
    objects = helm.render()
    workloads = of_kind(objects, "StatefulSet")
    nodes = []

    def start(component, name, replacements):
        container = workloads[f"herd-herdbook-{component}"]["spec"]["template"]["spec"]["containers"][0]
        nodes.append(Node(container, tmp_path / name, replacements))
        return nodes[-1]

    try:
        coordinator = start("coordinator", "herd-herdbook-coordinator-0", {})
        for ordinal in range(2):
            name = f"herd-herdbook-replica-{ordinal}"
            start(
                "replica",
                name,
                {
                    "http://$(POD_NAME).herd-herdbook-replica-headless:7710": "http://{own}",
                    "http://herd-herdbook-coordinator:7700": f"http://127.0.0.1:{coordinator.grpc}",
                    "$(POD_NAME)": name,
                },
            )
        for node in nodes:
            node.wait_until_ready()
        yield objects, nodes
    finally:
        for node in nodes:
            node.stop()


def test_rendered_command_lines_make_a_herd(herd):
    objects, nodes = herd
    for node in nodes:
        assert [node.probe(probe["service"]) for probe in node.probes] == [SERVING] * 3, node.name
        assert [node.get(path) for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3, node.name

    container = of_kind(objects, "Pod")["herd-herdbook-test"]["spec"]["containers"][0]
    for replica in nodes[1:]:
        arguments = [argument.replace("herd-herdbook:7710", f"127.0.0.1:{replica.grpc}") for argument in container["args"]]
        done = subprocess.run([os.environ["HERDBOOK_BIN"], *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    assert [node.stop() for node in reversed(nodes)] == [0, 0, 0], [node.tail() for node in nodes]


def test_the_binary_is_there():
    assert pathlib.Path(os.environ["HERDBOOK_BIN"]).is_file(), "HERDBOOK_BIN names no file: build it first"
