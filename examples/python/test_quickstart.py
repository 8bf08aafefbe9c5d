"""The examples do what their README says, against a real cluster. HERDBOOK_BIN names the binary."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Makes the stubs by the README's own command, into a folder of the test."""
    folder = tmp_path_factory.mktemp("stubs")
    command = re.search(r"python (-m grpc_tools\.protoc .*)", (FOLDER / "README.md").read_text()).group(1)
    command = command.replace("examples/python/stubs", str(folder))
    subprocess.run(f"{sys.executable} {command}", shell=True, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """Runs a cluster on free ports; gives the addresses of its two replicas."""
    binary = os.environ.get("HERDBOOK_BIN")
    assert binary, "HERDBOOK_BIN must name the herdbook binary (`make test` sets it)"
    log = tmp_path_factory.mktemp("cluster") / "log"
    # What is set for the caller's own cluster is not meant for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HERDBOOK_")}
    with log.open("w") as stderr:
        command = [binary, "dev", "--port", "0", "--replicas", "2"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
    try:
        addresses = {}
        for line in server.stdout:
            name, *words = line.split()
            addresses |= {name: word.removeprefix("grpc=") for word in words if word.startswith("grpc=")}
            if name == "ready":
                break
        else:
            pytest.fail(f"the cluster did not get ready: {log.read_text()}")
        yield [addresses["replica-1"], addresses["replica-2"]]
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def lines(program, stubs, replicas):
    """Returns what a program prints."""
    environment = os.environ | {"PYTHONPATH": str(stubs)}
    command = [sys.executable, str(FOLDER / program), *replicas]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_quickstart_commits_watches_reads_and_shows_a_conflict(stubs, replicas):
    committed, *rest = lines("quickstart.py", stubs, replicas)
    assert re.fullmatch(r"committed at alice: [0-9a-f]{12}, LEVEL_DURABLE", committed)
    assert rest == [
        "seen at bob: buy milk",
        "read at bob: owner alice",
        "in conflict: owner, carol or dave",
    ]


def test_a_file_goes_up_at_one_replica_and_comes_down_at_the_other(stubs, replicas):
    assert lines("files.py", stubs, replicas) == ["downloaded at bob: 1048576 bytes, the same"]


def test_the_quick_start_is_as_short_as_the_readme_says():
    length = len((FOLDER / "quickstart.py").read_text().splitlines())
    assert f"in {length} lines" in (ROOT / "README.md").read_text()
