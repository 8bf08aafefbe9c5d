"""The Pod Security standard "restricted", as a function from a pod's spec to its breaches. Rules after the standard's own table."""

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
PROFILES = {"RuntimeDefault", "Localhost"}


def breaches(spec):
    """Returns one line for each rule that the pod breaks."""
    found = []
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            found.append(f"{field} is shared")
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            found.append(f"volume {volume['name']} is of a forbidden type: {sorted(kinds - VOLUMES)}")
    pod = spec.get("securityContext", {})
    if pod.get("sysctls"):
        found.append("sysctls are set")
    if pod.get("runAsUser") == 0:
        found.append("pod runs as root")
    for container in spec.get("initContainers", []) + spec["containers"]:
        found += [f"container {container['name']}: {breach}" for breach in _container_breaches(container, pod)]
    return found


def _container_breaches(container, pod):
    own = container.get("securityContext", {})
    if own.get("privileged"):
        yield "is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may escalate privileges"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "may run as root"
    if own.get("runAsUser") == 0:
        yield "runs as root"
    if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in PROFILES:
        yield "has no seccomp profile"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "keeps capabilities"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if own.get("procMount", "Default") != "Default":
        yield "unmasks /proc"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "takes a port of the host"
