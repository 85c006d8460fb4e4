"""What runs it as a service is accepted by those who will read it, and fits the program."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from streamer.__main__ import EXIT_CODES, cli
from streamer.config.schema import load
from streamer.config.sources import ConfigError
from streamer.log import PermanentError
from streamer.ops.systemd import Systemd

DEPLOY = Path(__file__).parents[1] / "deploy"
UNIT = DEPLOY / "systemd" / "streamer.service"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
WORKLOADS = {  # the role of each
    "streamer": "forecaster",
    "streamer-trainer": "trainer",
    "streamer-notifier": "notifier",
    "streamer-console": "console",
    "streamer-rekeyer": "rekeyer",
}
BINDS = {  # the section and the key of each role's address
    "forecaster": ("http", "bind"),
    "trainer": ("http", "trainer_bind"),
    "notifier": ("http", "notifier_bind"),
    "rekeyer": ("http", "rekeyer_bind"),
    "console": ("console", "bind"),
}
HTTP_PORT = 9464


def unit() -> dict[str, dict[str, list[str]]]:
    """The unit's sections, each key with all of its values."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters="=")
    parser.optionxform = str
    parser.read(UNIT)
    return {name: dict(parser[name]) for name in parser.sections()}


def manifest(kind: str) -> dict:
    """The one manifest of that kind."""
    (found,) = (m for path in MANIFESTS for m in yaml.safe_load_all(path.read_text())
                if m["kind"] == kind)  # fmt: skip
    return found


def workload(name: str) -> dict:
    """The workload of that name."""
    every = manifests("StatefulSet") + manifests("Deployment")
    (found,) = (each for each in every if each["metadata"]["name"] == name)
    return found


def test_the_unit_is_clean(tmp_path):
    """`systemd-analyze verify` reports nothing; if it is missing, the keys are checked."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        service = unit()["Service"]
        assert service["Type"] == "notify"
        assert re.fullmatch(r"\d+s", service["WatchdogSec"])
        assert all(line == "" or line[0] in "#[" or "=" in line for line in lines(UNIT))
        return
    program = re.search(r"^ExecStart=(\S+)", UNIT.read_text(), re.MULTILINE)[1]
    copy = tmp_path / UNIT.name  # with a program that is there: verify looks for it
    copy.write_text(UNIT.read_text().replace(program, sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines()]


def test_the_unit_runs_a_command_that_exists():
    """Its arguments are understood by the program of today."""
    _, *arguments = unit()["Service"]["ExecStart"].split()
    done = CliRunner().invoke(cli, [*arguments, "--help"])
    assert done.exit_code == 0, done.output


def test_what_waiting_does_not_mend_is_not_tried_again():
    """The codes for a wrong setting and for refused credentials stop the restarts."""
    stop = {int(code) for code in unit()["Service"]["RestartPreventExitStatus"].split()}
    assert stop == {EXIT_CODES[ConfigError], EXIT_CODES[PermanentError]}


def test_the_watchdog_is_notified_in_time():
    """Waiting for a log pings oftener than the unit asks for."""
    watchdog_s = int(unit()["Service"]["WatchdogSec"].removesuffix("s"))
    systemd = Systemd({"WATCHDOG_USEC": str(watchdog_s * 10**6)})
    assert systemd.ping_s == watchdog_s / 2


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_one(path):
    """Kubernetes' own schemas, without a cluster; a kustomization is none of its kinds."""
    for each in yaml.safe_load_all(path.read_text()):
        if each["kind"] == "Kustomization":
            assert sorted(each["resources"]) == [p.name for p in MANIFESTS if p != path]
            continue
        kubernetes_validate.validate(each, "1.31", strict=True)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_pods_meet_the_restricted_profile(name):
    """No root, no new rights, no capabilities, the system's own call filter."""
    pod = workload(name)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"]
        assert rights["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(("name", "role"), WORKLOADS.items())
def test_each_workload_has_its_role(name, role):
    """Forecasters don't start trainers of their own where a workload of its own learns."""
    (container,) = workload(name)["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == ["run", "--role", role]
    done = CliRunner().invoke(cli, [*container["args"], "--help"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pods_name_is_its_instance(name):
    """The environment that the manifest sets is one that the program reads."""
    (container,) = workload(name)["spec"]["template"]["spec"]["containers"]
    by_name = {variable["name"]: variable for variable in container["env"]}
    pod_name = by_name["STREAMER__INSTANCE"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert pod_name == "metadata.name"
    assert load(None, (), {"STREAMER__INSTANCE": "streamer-1"}).instance_name == "streamer-1"


@pytest.mark.parametrize("name", WORKLOADS)
def test_probes_ask_the_port_that_the_settings_open(name):
    """Alive is not ready; no probe starts a program, and none asks for a token."""
    (container,) = workload(name)["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert (port["name"], port["containerPort"]) == ("http", HTTP_PORT)
    for probe, path in (("startup", "livez"), ("liveness", "livez"), ("readiness", "readyz")):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert asked == {"path": f"/{path}", "port": "http"}
    (text,) = manifest("ConfigMap")["data"].values()
    section, key = BINDS[WORKLOADS[name]]
    assert yaml.safe_load(text)[section][key] == f"0.0.0.0:{HTTP_PORT}"


def test_the_image_is_checked_where_its_settings_listen():
    """An array, without a shell, at the default of http.bind."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    check = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", text, re.MULTILINE)
    program, *arguments = yaml.safe_load(check[1])
    assert program == "python"
    assert f"http://{load(None).http.bind}/livez" in arguments[-1]
    compile(arguments[-1], "HEALTHCHECK", "exec")


def manifests(kind: str) -> list[dict]:
    every = (m for path in MANIFESTS for m in yaml.safe_load_all(path.read_text()))
    return [each for each in every if each["kind"] == kind]


def pod_labels(name: str) -> dict[str, str]:
    return workload(name)["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_takes_no_more_than_it_may(name):
    """Neither processor time, memory nor disk; and nothing that it did not ask for."""
    pod = workload(name)["spec"]["template"]["spec"]
    for container in pod["containers"]:
        limits, requests = (container["resources"][name] for name in ("limits", "requests"))
        assert limits.keys() == requests.keys() == {"cpu", "memory", "ephemeral-storage"}
        assert limits["memory"] == requests["memory"]  # or it may be killed by its neighbours
    for volume in pod["volumes"]:
        assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_replicas_keep_apart_and_leave_one_at_a_time(name):
    """One machine is no single point of failure, and a drain takes one pod after the other."""
    spec = workload(name)["spec"]["template"]["spec"]
    (rule,) = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    term = rule["podAffinityTerm"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"]["matchLabels"] == pod_labels(name)
    (budget,) = (
        each["spec"]
        for each in manifests("PodDisruptionBudget")
        if each["spec"]["selector"]["matchLabels"] == pod_labels(name)
    )
    assert budget["maxUnavailable"] == 1


def test_pods_reach_kafka_and_names_and_are_reached_by_prometheus_alone():
    """The ports of the settings that the manifests come with are among those allowed."""
    policy = manifest("NetworkPolicy")["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    (entry,) = policy["ingress"]
    assert entry["ports"] == [{"protocol": "TCP", "port": HTTP_PORT}]
    (peer,) = entry["from"]
    assert peer["namespaceSelector"]["matchLabels"]
    (chosen,) = policy["podSelector"]["matchExpressions"]
    names = {pod_labels(name)["app.kubernetes.io/name"] for name in WORKLOADS}
    assert (chosen["key"], set(chosen["values"])) == ("app.kubernetes.io/name", names)
    ports = {(p["protocol"], p["port"]) for rule in policy["egress"] for p in rule["ports"]}
    (text,) = manifest("ConfigMap")["data"].values()
    broker = int(yaml.safe_load(text)["log"].rsplit(":", 1)[1])
    assert {("UDP", 53), ("TCP", 53), ("TCP", broker)} <= ports


def test_the_service_is_confined(tmp_path):
    """What `systemd-analyze security` still finds open stays open for a reason in the unit."""
    service = unit()["Service"]
    assert service["PrivateMounts"] == "yes"
    assert service["IPAddressDeny"] == "any"
    assert {"localhost", "10.0.0.0/8"} <= set(service["IPAddressAllow"].split())
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text())
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", "--threshold=12", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_settings_in_the_manifest_are_right(tmp_path):
    """An error in an example must not show first in a crashing pod."""
    for name, text in manifest("ConfigMap")["data"].items():
        path = tmp_path / name
        path.write_text(text)
        assert load(path).log == "kafka://kafka:9092"


def test_a_role_that_the_settings_do_not_turn_on_has_no_replica():
    """A notifier without receivers and a rekeyer without its topic would exit again and again."""
    (text,) = manifest("ConfigMap")["data"].values()
    given = yaml.safe_load(text)
    assert "notify" not in given
    assert "rekeyed" not in given["input"]
    replicas = {name: workload(name)["spec"]["replicas"] for name in WORKLOADS}
    assert {name for name, number in replicas.items() if not number} == {
        "streamer-notifier",
        "streamer-rekeyer",
    }


def test_the_image_starts_the_program_itself():
    """An array, so that SIGTERM reaches it; and never as root."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    entry = yaml.safe_load(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])
    command = yaml.safe_load(re.search(r"^CMD (.*)$", text, re.MULTILINE)[1])
    assert entry == ["streamer"]
    assert CliRunner().invoke(cli, [*command, "--help"]).exit_code == 0
    user = re.search(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
    assert int(user[1]) > 0
