"""What the chart renders: valid for Kubernetes 1.30 to the newest known, sound in its references, and refused where values are wrong.
That the rendered command lines run is in `test_commands`."""

import copy
import json
import re
import tomllib

import kubernetes_validate
import pytest
import yaml

import pod_security
from conftest import CHART, ROOT, of_kind, pods

VALUES = {
    "defaults": {},
    "one replica, secrets given": {
        "replica": {"count": 1},
        "joinToken": {"existingSecret": "herd-token"},
        "coordinator": {"keys": {"existingSecret": "herd-keys"}},
    },
    "everything set": {
        "fullnameOverride": "book",
        "image": {"repository": "registry.example/herdbook", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "logLevel": "info,herdbook_sync=debug",
        "replica": {
            "count": 7,
            "partition": 6,
            "minReadySeconds": 0,
            "retention": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "persistence": {"size": "1Ti", "storageClassName": "fast"},
            "disruptionBudget": {"maxUnavailable": "25%"},
            "extraArgs": ["--a=b", "--quoted=x: y"],
            "podAnnotations": {"a": "1"},
            "podLabels": {"team": "herd"},
            "nodeSelector": {"disk": "nvme"},
            "tolerations": [{"key": "db", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "spread": "DoNotSchedule",
            "priorityClassName": "high",
        },
        "coordinator": {
            "persistence": {"storageClassName": "fast"},
            "extraArgs": ["--c"],
            "podAnnotations": {"b": "2"},
            "podLabels": {"team": "herd"},
            "nodeSelector": {"disk": "nvme"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "priorityClassName": "high",
        },
        "service": {"type": "LoadBalancer", "annotations": {"c": "3"}},
        "serviceAccount": {"annotations": {"d": "4"}},
        "networkPolicy": {
            "clients": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": "app"}}}],
            "monitoring": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        },
    },
    "fences off": {"networkPolicy": {"enabled": False}, "replica": {"disruptionBudget": {"enabled": False}}},
    "a load test": {"loadtest": {"enabled": True, "args": ["check", "--seconds=20"]}},
    "no clients, no monitoring": {"networkPolicy": {"clients": [], "monitoring": []}},
}
KUBERNETES = [f"1.{minor}.0" for minor in range(30, int(kubernetes_validate.latest_version().split(".")[1]) + 1)]


@pytest.fixture(params=VALUES.values(), ids=VALUES.keys())
def values(request):
    return copy.deepcopy(request.param)


@pytest.fixture
def objects(helm, values):
    return helm.render(values)


def test_lints(helm, values):
    done = helm.run("lint", "--strict", str(CHART), values=values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", KUBERNETES)
def test_is_valid_for_kubernetes(objects, version):
    assert len(objects) >= 9
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


def test_validation_sees_an_unknown_field(helm):
    workload = of_kind(helm.render(), "StatefulSet")["herd-herdbook-replica"]
    workload["spec"]["minReadySecondz"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(workload, KUBERNETES[-1], strict=True)


def test_refuses_an_older_kubernetes(helm):
    done = helm.run("template", "herd", str(CHART), "--kube-version", "1.29.0")
    assert done.returncode != 0 and "kubeVersion" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"replicas": 3}, "'replicas'"),
        ({"replica": {"cuont": 3}}, "'cuont'"),
        ({"replica": {"count": 0}}, "/replica/count"),
        ({"replica": {"count": "3"}}, "/replica/count"),
        ({"replica": {"retention": {"whenScaled": "Keep"}}}, "whenScaled"),
        ({"replica": {"disruptionBudget": {"maxUnavailable": 0}}}, "maxUnavailable"),
        ({"replica": {"podLabels": {"app.kubernetes.io/name": "x"}}}, "app.kubernetes.io/name"),
        ({"replica": {"extraArgs": ["replica"]}}, "extraArgs"),
        ({"coordinator": {"count": 2}}, "'count'"),
        ({"coordinator": {"persistence": {"size": "lots"}}}, "size"),
        ({"image": {"digest": "sha256:abc"}}, "digest"),
        ({"networkPolicy": {"clients": [{}]}}, "clients"),
        ({"joinToken": {"secret": "x"}}, "'secret'"),
    ],
)
def test_refuses_wrong_values(helm, wrong, named):
    assert named in helm.refusal(wrong)


def test_every_object_of_the_schema_is_closed():
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_on_purpose = {"global", "nodeAffinity", "podAffinity", "podAntiAffinity", "podSelector", "namespaceSelector"}

    def walk(name, part):
        if part.get("type") == "object" and name not in open_on_purpose:
            assert "additionalProperties" in part, name
        for key, inner in part.get("properties", {}).items():
            walk(key, inner)
        if "items" in part:
            walk(f"{name}[]", part["items"])

    walk("values", schema)


def test_every_pod_is_restricted(objects):
    found = pods(objects)
    # A load test runs beside them where it is asked for.
    assert len(found) == 3 + sum(item["kind"] == "Job" and "loadtest" in item["metadata"]["name"] for item in objects)
    for name, _, spec in found:
        assert pod_security.breaches(spec) == [], name
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["requests"] and container["resources"]["limits"], name


@pytest.mark.parametrize(
    ("breach", "change"),
    [
        ("hostNetwork is shared", lambda spec: spec.update(hostNetwork=True)),
        ("forbidden type: ['hostPath']", lambda spec: spec["volumes"].append({"name": "etc", "hostPath": {"path": "/etc"}})),
        ("may escalate privileges", lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation")),
        ("keeps capabilities", lambda spec: spec["containers"][0]["securityContext"]["capabilities"].update(drop=["NET_RAW"])),
        ("adds capabilities", lambda spec: spec["containers"][0]["securityContext"]["capabilities"].update(add=["SYS_ADMIN"])),
        ("has no seccomp profile", lambda spec: spec["securityContext"].pop("seccompProfile")),
        ("is privileged", lambda spec: spec["containers"][0]["securityContext"].update(privileged=True)),
        ("runs as root", lambda spec: spec["containers"][0]["securityContext"].update(runAsUser=0)),
        ("may run as root", lambda spec: [part.pop("runAsNonRoot") for part in (spec["securityContext"], spec["containers"][0]["securityContext"])]),
        ("takes a port of the host", lambda spec: spec["containers"][0]["ports"][0].update(hostPort=7710)),
    ],
)
def test_the_restriction_checker_sees(helm, breach, change):
    spec = of_kind(helm.render(), "StatefulSet")["herd-herdbook-replica"]["spec"]["template"]["spec"]
    change(spec)
    assert [found for found in pod_security.breaches(spec) if breach in found]


def matches(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


def test_selectors_find_their_component_and_no_other(objects):
    by_component = {metadata["labels"]["app.kubernetes.io/component"]: metadata["labels"] for _, metadata, _ in pods(objects)}
    assert set(by_component) == {"replica", "coordinator", "test"}
    selecting = 0
    for each in objects:
        spec = each.get("spec", {})
        selector = {
            "Service": lambda spec: spec["selector"],
            "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
        }.get(each["kind"])
        if selector is None:
            continue
        selecting += 1
        component = each["metadata"]["labels"]["app.kubernetes.io/component"]
        assert [name for name, labels in by_component.items() if matches(selector(spec), labels)] == [component], each["metadata"]["name"]
    assert selecting >= 6


def test_services_lead_to_ports_that_exist(objects):
    ports = {}
    for _, metadata, spec in pods(objects):
        component = metadata["labels"]["app.kubernetes.io/component"]
        ports[component] = {port["name"]: port["containerPort"] for container in spec["containers"] for port in container.get("ports", [])}
    for name, service in of_kind(objects, "Service").items():
        for port in service["spec"]["ports"]:
            assert ports[service["spec"]["selector"]["app.kubernetes.io/component"]][port["targetPort"]] == port["port"], name


def test_stateful_sets_stand_on_a_headless_service(objects):
    services = of_kind(objects, "Service")
    for name, workload in of_kind(objects, "StatefulSet").items():
        service = services[workload["spec"]["serviceName"]]["spec"]
        assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"] is True, name
        assert workload["spec"]["podManagementPolicy"] == "Parallel", name
        assert set(workload["spec"]["persistentVolumeClaimRetentionPolicy"]) == {"whenDeleted", "whenScaled"}, name


def test_a_load_test_works_on_each_replica_by_its_own_address(objects):
    services = of_kind(objects, "Service")
    jobs = [spec["containers"][0]["args"] for name, _, spec in pods(objects) if "loadtest" in name]
    for arguments in jobs:
        host, port = re.fullmatch(r"--target=dns:///(.+):(\d+)", arguments[-1]).groups()
        service = services[host]["spec"]
        assert service["clusterIP"] == "None" and not service.get("publishNotReadyAddresses")
        assert service["selector"]["app.kubernetes.io/component"] == "replica"
        assert int(port) in [port["port"] for port in service["ports"]]


def test_every_mount_has_its_volume(objects, values):
    secrets = set(of_kind(objects, "Secret"))
    secrets |= {values.get("joinToken", {}).get("existingSecret"), values.get("coordinator", {}).get("keys", {}).get("existingSecret")}
    for name, workload in of_kind(objects, "StatefulSet").items():
        spec = workload["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]} | {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
        assert {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]} == volumes, name
        for volume in spec["volumes"]:
            assert volume.get("secret", {}).get("secretName") in secrets | {None}, (name, volume)
        accounts = of_kind(objects, "ServiceAccount")
        assert accounts[spec["serviceAccountName"]]["automountServiceAccountToken"] is False, name


def test_probes_ask_for_three_different_services(objects):
    for name, workload in of_kind(objects, "StatefulSet").items():
        container = workload["spec"]["template"]["spec"]["containers"][0]
        probes = [container[f"{kind}Probe"]["grpc"] for kind in ("startup", "readiness", "liveness")]
        assert [probe["service"] for probe in probes] == ["", "herdbook.v1.DocumentService", "liveness"], name
        grpc = next(port["containerPort"] for port in container["ports"] if port["name"] == "grpc")
        assert {probe["port"] for probe in probes} == {grpc}, name


def test_join_token_is_shared_and_random(helm):
    def token(objects):
        return of_kind(objects, "Secret")["herd-herdbook-join-token"]["data"]["token"]

    first = helm.render()
    assert token(first) != token(helm.render())
    mounted = {
        volume["secret"]["secretName"] for _, _, spec in pods(first) for volume in spec.get("volumes", []) if volume["name"] == "token"
    }
    assert mounted == {"herd-herdbook-join-token"}


def test_given_secrets_replace_those_of_the_chart(helm):
    objects = helm.render(VALUES["one replica, secrets given"])
    assert of_kind(objects, "Secret") == {}
    coordinator = of_kind(objects, "StatefulSet")["herd-herdbook-coordinator"]["spec"]
    assert [claim["metadata"]["name"] for claim in coordinator["volumeClaimTemplates"]] == ["data"]
    keys = [mount for mount in coordinator["template"]["spec"]["containers"][0]["volumeMounts"] if mount["name"] == "keys"]
    assert keys == [{"name": "keys", "mountPath": "/keys", "readOnly": True}]


def test_longest_release_name_keeps_names_legal(helm):
    for each in helm.render(release="r" * 53):
        name = each["metadata"]["name"]
        # A pod adds "-999", a revision label a hash of ten digits.
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) and len(name) <= 63 - (11 if each["kind"] == "StatefulSet" else 0), name


def reachable(objects, source, target, port):
    """Does the policy let a pod labelled `source`, of the same namespace, connect to `target` at `port`? Only pod selectors are known here."""

    def admits(policy, direction, other):
        for rule in policy["spec"].get(direction, []):
            if "ports" in rule and not any(each["port"] == port for each in rule["ports"]):
                continue
            peers = rule.get("from" if direction == "ingress" else "to")
            if peers is None:
                return True
            for peer in peers:
                if set(peer) == {"podSelector"} and peer["podSelector"].get("matchLabels", {}).items() <= other.items():
                    return True
        return False

    for policy in of_kind(objects, "NetworkPolicy").values():
        selector = policy["spec"]["podSelector"]["matchLabels"]
        if matches(selector, target) and not admits(policy, "ingress", source):
            return False
        if matches(selector, source) and not admits(policy, "egress", target):
            return False
    return True


def test_network_policy_lets_in_the_herd_and_whom_it_names(helm):
    def labels(objects):
        found = {metadata["labels"]["app.kubernetes.io/component"]: metadata["labels"] for _, metadata, _ in pods(objects)}
        return found | {"app": {"role": "app"}, "stranger": {"role": "stranger"}}

    objects = helm.render({"networkPolicy": {"clients": [{"podSelector": {"matchLabels": {"role": "app"}}}], "monitoring": []}})
    who = labels(objects)
    paths = {
        (source, target, port): reachable(objects, who[source], who[target], port)
        for source in who
        for target in who
        for port in (7700, 7710, 7780, 7790, 443)
        if source != target or source == "replica"
    }
    inside = {source for (source, target, port), open_ in paths.items() if open_ and (target, port) == ("replica", 7710)}
    assert inside == {"replica", "coordinator", "test", "app"}
    authority = {source for (source, target, port), open_ in paths.items() if open_ and (target, port) == ("coordinator", 7700)}
    assert authority == {"replica", "test", "app"}
    assert not any(open_ for (_, target, port), open_ in paths.items() if open_ and target in ("replica", "coordinator") and port in (7780, 7790, 443))
    assert not any(open_ for (source, _, port), open_ in paths.items() if source in ("replica", "coordinator") and port == 443)

    everyone = helm.render()
    assert reachable(everyone, {"role": "stranger"}, labels(everyone)["replica"], 7710)


def test_readme_tells_every_value_and_its_default():
    rows = dict(re.findall(r"^\| `([A-Za-z.]+)` \| `(.*?)` \|", (CHART / "README.md").read_text(), re.MULTILINE))
    told = {key: json.loads(default) for key, default in rows.items()}

    def leaves(prefix, value):
        if isinstance(value, dict) and value and not prefix.endswith((".requests", ".limits")):
            return {key: leaf for name, inner in value.items() for key, leaf in leaves(f"{prefix}.{name}".lstrip("."), inner).items()}
        return {prefix: value}

    assert told == leaves("", yaml.safe_load((CHART / "values.yaml").read_text()))


def test_chart_carries_the_version_of_the_project():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert (chart["version"], chart["appVersion"]) == (project, project)
