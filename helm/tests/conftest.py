"""Renders the chart with the Helm that `scripts/setup.sh` put into the cache. A render is a list of plain objects, in Helm's order."""

import os
import pathlib
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "herdbook"
CACHE = pathlib.Path(
    os.environ.get("HERDBOOK_CACHE") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "herdbook"
)


class Helm:
    """The real program, and what it makes of the chart."""

    def __init__(self, program):
        self.program = program

    def run(self, *arguments, values=None):
        """Runs `helm ARGUMENTS`, with `values` (a dictionary) as a values file; returns the finished process."""
        command = [self.program, *arguments]
        if values is not None:
            command += ["--values", "-"]
        return subprocess.run(command, input=yaml.safe_dump(values or {}), capture_output=True, text=True, timeout=60)

    def render(self, values=None, release="herd"):
        """Returns the objects of the chart under `values`; fails if Helm refuses."""
        done = self.run("template", release, str(CHART), "--namespace", "farm", values=values)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    def refusal(self, values):
        """Returns what Helm says against `values`; fails if it takes them."""
        done = self.run("template", "herd", str(CHART), values=values)
        assert done.returncode != 0, f"accepted: {values}"
        return done.stderr


@pytest.fixture(scope="session")
def helm():
    program = shutil.which("helm", path=os.pathsep.join([str(CACHE / "tools" / "bin"), os.environ.get("PATH", "")]))
    assert program, "no helm: run scripts/setup.sh test"
    return Helm(program)


def of_kind(objects, kind):
    """Returns the objects of one kind by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects):
    """Returns (name, metadata, spec) of every pod that the objects would make."""
    found = []
    for each in objects:
        if each["kind"] == "Pod":
            found.append((each["metadata"]["name"], each["metadata"], each["spec"]))
        elif each["kind"] in ("StatefulSet", "Deployment", "DaemonSet", "Job"):
            template = each["spec"]["template"]
            found.append((each["metadata"]["name"], template["metadata"], template["spec"]))
        elif each["kind"] == "CronJob":
            template = each["spec"]["jobTemplate"]["spec"]["template"]
            found.append((each["metadata"]["name"], template["metadata"], template["spec"]))
    return found
