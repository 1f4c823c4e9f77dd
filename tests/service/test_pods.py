"""The pods of a Kubernetes node: what they say, where their cgroups are, what the API server says of them."""

from __future__ import annotations

import copy
import ssl
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import trustme

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.service.kubernetes.api import ApiServer as Client
from carbonmon.service.kubernetes.api import Expired, server_of
from carbonmon.service.kubernetes.groups import find_pod_group
from carbonmon.service.kubernetes.pod import parse_pod
from tests.support import apiserver
from tests.support.apiserver import TOKEN, UID, ApiServer, pod

# ---- what a pod says ----


def test_a_pod_without_the_annotation_is_not_metered():
    assert parse_pod(pod(annotations={})) is None
    assert parse_pod(pod(annotations={"carbonmon.io/nodes": "2"})) is None


def test_a_pod_says_its_run_its_owner_and_on_how_many_nodes_the_run_is():
    found = parse_pod(pod(annotations={"carbonmon.io/run-id": "big/7", "carbonmon.io/nodes": "4"}, user=1000))
    assert found is not None
    assert (found.run_id, found.nodes, found.owner, found.title) == ("big-7", 4, 1000, "ml/train-0-x7k2p")
    assert (found.ended, found.exit_code) == (False, None)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, "train"),
        ({"jobset.sigs.k8s.io/jobset-name": "set"}, "set"),
        ({"training.kubeflow.org/job-name": "torch"}, "torch"),
    ],
)
def test_without_an_id_of_its_own_the_run_is_the_outermost_job(labels: dict[str, str], expected: str):
    found = parse_pod(pod(annotations={"carbonmon.io/run-id": ""}, labels=labels))
    assert found is not None
    assert (found.run_id, found.job) == (expected, expected)


def test_without_a_job_the_run_is_the_pod():
    document = pod(annotations={"carbonmon.io/run-id": ""})
    document["metadata"]["labels"] = {}
    found = parse_pod(document)
    assert found is not None
    assert found.run_id == "train-0-x7k2p"


def test_the_container_s_user_goes_before_the_pod_s_and_none_is_root():
    document = pod(user=1000)
    document["spec"]["containers"][0]["securityContext"] = {"runAsUser": 2000}
    for spec, expected in ((document, 2000), (pod(user=1000), 1000), (pod(), 0)):
        found = parse_pod(spec)
        assert found is not None
        assert found.owner == expected


@pytest.mark.parametrize(
    ("phase", "codes", "expected"),
    [
        ("Succeeded", (0, 0), 0),
        ("Failed", (0, 137), 137),
        ("Failed", (), None),  # evicted: no container has a status
        ("Running", (0,), None),  # a sidecar has ended, the pod has not
    ],
)
def test_the_exit_code_is_known_from_the_containers_of_a_pod_that_has_ended(
    phase: str, codes: tuple[int, ...], expected: int | None
):
    found = parse_pod(pod(phase=phase, exit_codes=codes))
    assert found is not None
    assert found.exit_code == expected
    assert found.ended is (phase != "Running")


@pytest.mark.parametrize("place", ["metadata", "spec", "status"])
@pytest.mark.parametrize("value", [None, [], "x", 7])
def test_what_is_no_pod_is_no_pod_and_no_error(place: str, value: Any):
    document = pod(phase="Failed", exit_codes=(1,))
    document[place] = value
    found = parse_pod(document)
    assert (found is None) is (place == "metadata")
    assert parse_pod(value) is None


@pytest.mark.parametrize("uid", ["../../../etc", "", None, 7, "a" * 65])
def test_a_uid_that_could_lead_elsewhere_in_the_file_system_is_none(uid: Any):
    document = pod()
    document["metadata"]["uid"] = uid
    assert parse_pod(document) is None


# ---- where its cgroup is ----

UID_ = UID.replace("-", "_")

TREES = {
    # as the kubelet of 1.31 makes them with containerd and with CRI-O
    "v2, systemd": (
        "",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice",
        "cri-containerd-0123abcd.scope",
    ),
    "v2, systemd, guaranteed": ("", f"kubepods.slice/kubepods-pod{UID_}.slice", "crio-0123abcd.scope"),
    "v2, cgroupfs": ("", f"kubepods/besteffort/pod{UID}", "0123abcd"),
    "v1, systemd": (
        "cpu,cpuacct",
        f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice",
        "docker-0123abcd.scope",
    ),
    "v1, cgroupfs": ("cpuacct", f"kubepods/pod{UID}", "0123abcd"),
    "v2, kind": (
        "",
        "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
        f"kubelet-kubepods-burstable-pod{UID_}.slice",
        "cri-containerd-0123abcd.scope",
    ),
    "v2, cgroupfs below a root": ("", f"kubelet/kubepods/burstable/pod{UID}", "0123abcd"),
}


def grow(sysfs: Path, mount: str, path: str, container: str, pids: str = "7\n") -> Path:
    """A pod's cgroup with its files, and one of its containers that holds the processes."""
    folder = sysfs / "fs/cgroup" / mount / path
    for each in (folder, folder / container):
        each.mkdir(parents=True)
        if mount:
            (each / "cpuacct.usage").write_text("5000000000\n")
        else:
            (each / "cpu.stat").write_text("usage_usec 5000000\nuser_usec 1\nsystem_usec 1\n")
        (each / "cgroup.procs").write_text(pids if each != folder else "")
    return folder


@pytest.mark.parametrize("tree", TREES)
def test_the_pod_s_cgroup_is_found_whatever_driver_and_version(tmp_path: Path, tree: str):
    mount, path, container = TREES[tree]
    other = "99999999-8a9e-4f0a-9d0b-5c3f7c1b2a10"
    grow(tmp_path, mount, path.replace(UID_, other.replace("-", "_")).replace(UID, other), container)
    assert find_pod_group(tmp_path, UID) is None
    grow(tmp_path, mount, path, container)
    assert find_pod_group(tmp_path, UID) == f"/{path}"


def test_a_cgroup_without_processes_is_not_there_yet_or_no_more(tmp_path: Path):
    folder = grow(tmp_path, *TREES["v2, systemd"], pids="")
    assert find_pod_group(tmp_path, UID) is None
    (folder / TREES["v2, systemd"][2] / "cgroup.procs").write_text("7\n")
    assert find_pod_group(tmp_path, UID) is not None


def test_other_parts_of_the_hierarchy_are_not_searched(tmp_path: Path):
    grow(tmp_path, "", f"user.slice/pod{UID}", "0123abcd")
    assert find_pod_group(tmp_path, UID) is None
    assert find_pod_group(tmp_path / "nowhere", UID) is None


# ---- the API server ----


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return tmp_path


def test_the_node_s_pods_are_listed_and_no_others(account: Path):
    here, there = pod(), pod("other", "aaaa", node="node-2")
    with ApiServer((here, there)) as server:
        pods, version = Client(server.url, "node-1", account).pods()
    assert pods == [here]
    assert version == "100"


def test_a_watch_tells_what_changes_after_a_list(account: Path):
    with ApiServer((pod(),)) as server:
        client = Client(server.url, "node-1", account)
        _, version = client.pods()
        server.put(pod("second", "bbbb"))
        server.put(pod("elsewhere", "cccc", node="node-2"))
        server.bookmark()
        server.remove("bbbb")
        events = list(islice(client.watch(version), 3))
    seen = [(kind, document and document["metadata"]["name"], new) for kind, document, new in events]
    assert seen == [("ADDED", "second", "101"), ("", None, "103"), ("DELETED", "second", "104")]


def test_a_version_that_is_too_old_is_told_apart_from_a_failure(account: Path):
    with ApiServer((pod(),)) as server:
        client = Client(server.url, "node-1", account)
        server.oldest = 200
        with pytest.raises(Expired):
            list(client.watch("100"))
        server.refusal = apiserver.status(410, "Expired", "too old resource version")
        with pytest.raises(Expired):
            list(client.watch("100"))


def test_a_refusal_is_told_with_the_permission_that_is_missing(account: Path):
    said = 'pods is forbidden: User "system:serviceaccount:carbonmon:carbonmon" cannot list resource "pods"'
    with ApiServer() as server:
        server.refusal = apiserver.status(403, "Forbidden", said)
        with pytest.raises(FetchError, match="cannot list resource") as refused:
            Client(server.url, "node-1", account).pods()
    assert refused.value.reason == "http_403"


def test_the_token_is_read_anew_each_time(account: Path):
    with ApiServer() as server:
        client = Client(server.url, "node-1", account)
        (account / "token").write_text("an old one")
        with pytest.raises(FetchError, match="401"):
            client.pods()
        (account / "token").write_text(TOKEN)
        assert client.pods()[0] == []
        (account / "token").unlink()
        with pytest.raises(FetchError, match="401"):
            client.pods()
    assert server.tokens == ["an old one", TOKEN, ""]


@pytest.mark.parametrize("text", [b"two\nlines", b"\xff\xfe", b"a\x00b"])
def test_a_file_that_holds_no_token_is_a_failure_with_its_name(account: Path, text: bytes):
    (account / "token").write_bytes(text)
    with ApiServer() as server, pytest.raises(FetchError, match="token") as failed:
        Client(server.url, "node-1", account).pods()
    assert failed.value.reason == "key"


@pytest.mark.parametrize(
    ("kind", "document", "reason"),
    [
        ("ERROR", apiserver.status(500, "InternalError", "etcdserver: leader changed"), "http_500"),
        ("ERROR", apiserver.status(410, "Expired", "too old"), None),
    ],
)
def test_an_error_in_the_watch_ends_it(
    account: Path, kind: str, document: dict[str, Any], reason: str | None
):
    with ApiServer((pod(),)) as server:
        server.send(kind, document)
        events = Client(server.url, "node-1", account).watch("100")
        if reason is None:
            with pytest.raises(Expired):
                next(events)
        else:
            with pytest.raises(FetchError, match="leader changed") as failed:
                next(events)
            assert failed.value.reason == reason


def test_tls_is_checked_against_the_cluster_s_authority(account: Path):
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with ApiServer((pod(),), context) as server:
        client = Client(server.url, "node-1", account)
        stranger.cert_pem.write_to_path(account / "ca.crt")
        with pytest.raises(
            FetchError, match="certificate cannot be verified; it is of none of the authorities in"
        ):
            client.pods()
        authority.cert_pem.write_to_path(account / "ca.crt")
        assert client.pods()[0] == [pod()]
        assert server.tokens == [TOKEN], "a stranger does not get to see it"


def test_a_server_that_is_gone_is_a_failure_with_a_reason(account: Path):
    with ApiServer() as server:
        pass
    with pytest.raises(FetchError) as failed:
        Client(server.url, "node-1", account).pods()
    assert failed.value.reason == "connect"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://10.0.0.1:6443", "show the token to the network"),
        ("http://kubernetes.default", "show the token to the network"),
        ("ftp://localhost", "no URL of an API server"),
        ("localhost:6443", "no URL of an API server"),
        ("https://localhost:99999999", "--api-url"),
        ("https://me:secret@10.0.0.1", "no user or password"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_once(tmp_path: Path, url: str, said: str):
    with pytest.raises(ConfigError, match=said) as refused:
        Client(url, "node-1", tmp_path)
    assert "secret" not in str(refused.value)


def test_the_api_server_of_a_cluster_is_found_in_the_environment():
    assert server_of({}) is None
    assert server_of({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == "https://10.0.0.1:443"
    ipv6 = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert server_of(ipv6) == "https://[fd00::1]:6443"


def test_the_api_server_of_the_tests_gives_out_copies(account: Path):
    document = pod()
    before = copy.deepcopy(document)
    with ApiServer() as server:
        server.put(document)
    assert document == before
