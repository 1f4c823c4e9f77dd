"""The Kubernetes manifests and the Helm chart: valid, of least rights, and in step with one another."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from carbonmon import __version__
from carbonmon.cli import options
from carbonmon.cli.daemon import command as daemon_command
from carbonmon.cli.pods import command as pods_command
from carbonmon.cli.run import command as run_command
from carbonmon.client.protocol import RUN_VARIABLE, SOCKET_VARIABLE
from carbonmon.client.rendezvous import NODE_SOCKET
from carbonmon.service.kubernetes.pod import NODES_ANNOTATION, RUN_ANNOTATION
from tests.support.rows import for_each_row

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CHART = KUBERNETES / "chart"
OLDEST = "1.25"
"""The oldest Kubernetes that is meant, as Chart.yaml says."""

HELM_LABELS = ("app.kubernetes.io/managed-by", "helm.sh/chart")
FULL = {
    "nvidia": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "stack"}, "endpoint": {"scheme": "https"}},
    "options": {"region": "FR", "pue": 1.2, "no-dram-estimate": True, "retain": 604800},
    "env": [{"name": "PROXY", "value": "x"}],
    "envFrom": [{"secretRef": {"name": "keys"}}],
    "webConfigSecret": "web",
    "image": {"repository": "registry.example/carbonmon", "tag": "1"},
    "imagePullSecrets": [{"name": "pull"}],
    "priorityClassName": "monitoring",
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "port": 9900,
    "serviceAccount": {"annotations": {"e": "f"}},
}

Document = dict[str, Any]


def documents(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def rendered(values: Document | None = None, name: str = "carbonmon") -> list[Document]:
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values or {}, name=name, namespace="carbonmon")
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def by_kind(found: list[Document], kind: str) -> list[Document]:
    return [document for document in found if document["kind"] == kind]


def objects(path: Path) -> list[Document]:
    """The documents of a folder that are the API server's, and not kustomize's own."""
    own = [file for file in sorted(path.glob("*.yaml")) if file.name not in ("kustomization.yaml",)]
    return [document for file in own for document in documents(file)]


PLAIN = [path for folder in ("manifests", "operator", "examples") for path in (KUBERNETES / folder).glob("*")]
PLAIN = sorted([*PLAIN, KUBERNETES / "nvidia/daemonset.yaml"])
FILES = [path for path in PLAIN if path.name != "kustomization.yaml"]


def check(document: Document) -> None:
    """Every field is one that Kubernetes knows; raises `ValidationError`."""
    if document["apiVersion"].startswith("monitoring.coreos.com/"):
        return  # not Kubernetes' own: see `test_prometheus_is_led_to_the_pods`
    for version in (OLDEST, kubernetes_validate.latest_version()):
        kubernetes_validate.validate(document, version, strict=True)


def pod_templates(found: list[Document]) -> Iterator[tuple[str, Document]]:
    for document in found:
        if document["kind"] in ("DaemonSet", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]


# ---- valid ----


def test_all_yaml_is_of_one_style():
    done = subprocess.run(
        [sys.executable, "-m", "yamllint", "--strict", "--config-file", DEPLOY / ".yamllint", DEPLOY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_field_of_a_manifest_is_one_that_kubernetes_knows(path: Path):
    found = documents(path)
    assert found
    for document in found:
        check(document)


def test_a_field_that_kubernetes_does_not_know_is_found():
    (daemonset,) = documents(KUBERNETES / "manifests/daemonset.yaml")
    daemonset["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostPid"):
        check(daemonset)


@pytest.mark.parametrize("values", [{}, FULL, {"pods": {"enabled": False}, "rbac": {"create": False}}])
def test_what_the_chart_renders_is_valid(values: Document):
    for document in rendered(values):
        check(document)


@pytest.mark.parametrize("values", [{}, FULL])
def test_helm_finds_nothing_to_complain_about(values: Document):
    report = helm.lint(CHART, values, strict=True, kube_version=f"v{OLDEST}.0")
    assert report["errors"] == []
    assert [found["error"] for found in report["messages"]] == ["icon is recommended"]


# ---- in step ----


def without_helm(document: Document) -> Document:
    """Without what only a chart's objects carry."""
    places = [document["metadata"]]
    if "template" in document.get("spec", {}):
        places.append(document["spec"]["template"]["metadata"])
    for place in places:
        for label in HELM_LABELS:
            place["labels"].pop(label)
    return document


def named(found: list[Document]) -> dict[tuple[str, str], Document]:
    return {(document["kind"], document["metadata"]["name"]): document for document in found}


def test_the_manifests_are_what_the_chart_renders_with_its_defaults():
    plain = named(objects(KUBERNETES / "manifests"))
    assert plain.pop(("Namespace", "carbonmon"))
    assert plain == named([without_helm(document) for document in rendered()])


def test_those_for_gpus_and_for_the_operator_are_what_the_chart_renders_with_them():
    values = {"nvidia": {"enabled": True}, "serviceMonitor": {"enabled": True}}
    chart = named([without_helm(document) for document in rendered(values)])
    key = ("DaemonSet", "carbonmon-nvidia")
    assert named(documents(KUBERNETES / "nvidia/daemonset.yaml")) == {key: chart[key]}
    key = ("ServiceMonitor", "carbonmon")
    assert named(documents(KUBERNETES / "operator/servicemonitor.yaml")) == {key: chart[key]}
    (patch,) = documents(KUBERNETES / "nvidia/without-gpus.yaml")
    spec = chart[("DaemonSet", "carbonmon")]["spec"]["template"]["spec"]
    assert patch["spec"]["template"]["spec"] == {"affinity": spec["affinity"]}


@pytest.mark.parametrize("folder", ["manifests", "operator", "nvidia"])
def test_a_kustomization_names_every_file_beside_it(folder: str):
    (found,) = documents(KUBERNETES / folder / "kustomization.yaml")
    named_there = {*found["resources"], *(patch["path"] for patch in found.get("patches", ()))}
    beside = {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert named_there - {"../manifests"} == beside


def test_the_chart_installs_the_version_that_this_is():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    (kustomization,) = documents(KUBERNETES / "manifests/kustomization.yaml")
    assert kustomization["images"][0]["newTag"] == __version__


# ---- least rights ----

TEMPLATES = [
    *pod_templates([document for path in FILES for document in documents(path)]),
    *pod_templates(rendered(FULL)),
]


@for_each_row(("name", "template"), TEMPLATES)
def test_no_container_may_do_more_than_it_needs(name: str, template: Document):
    spec = template["spec"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.get("hostNetwork")
    assert not spec.get("hostIPC")
    for container in spec["containers"]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert not rights.get("privileged")
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("values", [{}, FULL])
def test_a_monitor_of_nodes_writes_only_where_it_must_and_has_a_token_only_where_it_asks(values: Document):
    for document in by_kind(rendered(values), "DaemonSet"):
        spec = document["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        mounts = {
            container["name"]: {
                mount["name"]: mount.get("readOnly", False) for mount in container["volumeMounts"]
            }
            for container in spec["containers"]
        }
        web = {"web": True} if values else {}
        assert mounts["monitor"] == {"sys": True, "runs": False, "socket": False} | web
        assert mounts["pods"] == {"cgroup": True, "socket": True, "token": True}
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_cluster_role_lists_and_watches_pods_and_that_is_all():
    (role,) = by_kind(rendered(), "ClusterRole")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]


def test_without_the_mapping_of_pods_nothing_may_ask_the_api_server():
    found = rendered({"pods": {"enabled": False}})
    assert not by_kind(found, "ClusterRole")
    assert not by_kind(found, "ClusterRoleBinding")
    for document in by_kind(found, "DaemonSet"):
        spec = document["spec"]["template"]["spec"]
        assert [container["name"] for container in spec["containers"]] == ["monitor"]
        assert "token" not in {volume["name"] for volume in spec["volumes"]}


# ---- it does what we do ----


@pytest.mark.parametrize(("name", "template"), TEMPLATES)
def test_the_words_of_a_container_are_those_of_our_commands(
    name: str, template: Document, monkeypatch: pytest.MonkeyPatch
):
    commands: dict[str, click.Command] = {"daemon": daemon_command, "pods": pods_command, "run": run_command}
    for container in template["spec"]["containers"]:
        for variable in container.get("env", ()):
            monkeypatch.setenv(variable["name"], variable.get("value", "x"))
        words = container.get("args", [])
        if container.get("command", [""])[0] == "carbonmon":
            words = container["command"][1:]
        if words:
            commands[words[0]].make_context(words[0], list(words[1:]))


@for_each_row(("name", "template"), TEMPLATES)
def test_the_environment_names_options_that_there_are(name: str, template: Document):
    known = {
        f"CARBONMON_{option.upper().replace('-', '_')}"
        for option in (*options.RUN_OPTIONS, *options.DAEMON_OPTIONS)
    }
    known |= {SOCKET_VARIABLE, RUN_VARIABLE, "CARBONMON_NODE"}
    for container in template["spec"]["containers"]:
        names = {variable["name"] for variable in container.get("env", ())}
        assert {each for each in names if each.startswith("CARBONMON_")} <= known


def test_an_example_carries_annotations_that_are_read_and_the_socket_that_is_there():
    (job,) = documents(KUBERNETES / "examples/job-phases.yaml")
    template = job["spec"]["template"]
    variables = {each["name"]: each["value"] for each in template["spec"]["containers"][0]["env"]}
    assert template["metadata"]["annotations"] == {RUN_ANNOTATION: variables[RUN_VARIABLE]}
    assert variables[SOCKET_VARIABLE] == str(NODE_SOCKET)
    (daemonset,) = by_kind(rendered(), "DaemonSet")
    paths = {
        volume.get("hostPath", {}).get("path") for volume in daemonset["spec"]["template"]["spec"]["volumes"]
    }
    assert str(NODE_SOCKET.parent) in paths


def test_prometheus_is_led_to_the_pods():
    found = rendered(FULL)
    (service,), (monitor,) = by_kind(found, "Service"), by_kind(found, "ServiceMonitor")
    (policy,) = by_kind(found, "NetworkPolicy")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["scheme"] == "https"
    assert {key for each in endpoint["relabelings"] for key in each} <= {
        *("sourceLabels", "targetLabel", "action", "regex"),
    }
    for _, template in pod_templates(found):
        labels = template["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert ports == {service["spec"]["ports"][0]["targetPort"]: 9900}


def test_a_node_is_metered_by_one_daemonset_only():
    plain, nvidia = by_kind(rendered(FULL), "DaemonSet")
    if "nvidia" in plain["metadata"]["name"]:
        plain, nvidia = nvidia, plain
    key = "nvidia.com/gpu.present"
    assert nvidia["spec"]["template"]["spec"]["nodeSelector"][key] == "true"
    affinity = plain["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": key, "operator": "NotIn", "values": ["true"]}]
    selectors = [each["spec"]["selector"]["matchLabels"] for each in (plain, nvidia)]
    assert selectors[0] != selectors[1]
    for selector, other in (selectors, reversed(selectors)):
        assert not selector.items() <= other.items()
    assert nvidia["spec"]["template"]["spec"]["runtimeClassName"] == "nvidia"


# ---- values ----


def test_the_schema_knows_every_value_and_no_other():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    for name, value in values.items():
        inner = schema["properties"][name].get("properties")
        if inner is not None:
            assert set(value) == set(inner), name


@for_each_row(
    "values",
    [
        {"nvida": {"enabled": True}},
        {"nvidia": {"enable": True}},
        {"port": "9877"},
        {"options": {"listen": "0.0.0.0:80"}},
        {"options": {"host": "one name for all nodes"}},
        {"options": {"Region": "FR"}},
        {"hostPaths": {"runs": "relative"}},
        {"serviceMonitor": {"interval": "15"}},
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(values: Document):
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema({})
        with pytest.raises(helm.HelmValuesError):
            chart.validate_schema(values)


def test_every_value_is_explained_in_the_guide():
    guide = "".join(path.read_text() for path in sorted((ROOT / "docs" / "use").glob("deploy*.md")))
    for name in yaml.safe_load((CHART / "values.yaml").read_text()):
        assert f"| `{name}" in guide or f"`, `{name}" in guide, name
    for annotation in (RUN_ANNOTATION, NODES_ANNOTATION):
        assert f"`{annotation}`" in guide
