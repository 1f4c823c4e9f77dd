"""What is deployed, taken by the programs that take it on a real machine: systemd's own, kubectl, a shell."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import command, debian, kubectl

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "deploy" / "systemd"
KUBERNETES = ROOT / "deploy" / "kubernetes"

MOST_EXPOSED = 19
"""Tenths, as systemd-analyze --threshold takes them: what is rated as more exposed than 1.9 fails."""


def systemd_program(name: str) -> tuple[str, Mapping[str, str]]:
    """A program and its environment: the machine's, or out of Debian's packages unpacked below build/."""
    found = shutil.which(name)
    if found is not None:
        return found, os.environ
    folder = debian.unpacked("systemd", "usr/bin/systemd-analyze", ("systemd", "libsystemd-shared"))
    assert folder is not None, f"no {name}, and no apt-get to fetch it"
    places = [path for path in folder.rglob(name) if os.access(path, os.X_OK) and path.is_file()]
    libraries = {str(path.parent) for path in folder.rglob("*.so*")}
    units = folder / "usr/lib/systemd/system"
    units = units if units.is_dir() else folder / "lib/systemd/system"
    environ = {"LD_LIBRARY_PATH": ":".join(sorted(libraries)), "SYSTEMD_UNIT_PATH": f"{units}:"}
    return str(places[0]), {**os.environ, **environ}


def systemd(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    path, environ = systemd_program(program)
    return subprocess.run(
        [path, *words], env=environ, capture_output=True, text=True, timeout=command.DEADLINE_S, check=False
    )


def unit(folder: Path, *drop_ins: str) -> Path:
    """The unit as it is installed, with a program that is there."""
    text = (
        (SYSTEMD / "carbonmon.service").read_text().replace("/opt/carbonmon/bin/carbonmon", command.CARBONMON)
    )
    path = folder / "carbonmon.service"
    path.write_text(text)
    for name in drop_ins:
        there = folder / "carbonmon.service.d" / name
        there.parent.mkdir(exist_ok=True)
        there.write_text(
            (SYSTEMD / name).read_text().replace("/opt/carbonmon/bin/carbonmon", command.CARBONMON)
        )
    return path


# ---- systemd ----

ALL_DROP_INS = [
    (),
    ("network.conf",),
    ("unprivileged.conf",),
    ("gpu-processes.conf",),
    ("unprivileged.conf", "gpu-processes.conf"),
]


@pytest.mark.parametrize("drop_ins", ALL_DROP_INS)
def test_systemd_takes_the_unit_with_each_drop_in(tmp_path: Path, drop_ins: tuple[str, ...]):
    done = systemd("systemd-analyze", "verify", "--recursive-errors=no", unit(tmp_path, *drop_ins))
    assert done.returncode == 0, done.stderr
    assert "carbonmon" not in done.stderr, done.stderr


def test_systemd_sees_a_mistake_in_the_unit(tmp_path: Path):
    path = unit(tmp_path)
    path.write_text(path.read_text().replace("ProtectClock=yes", "ProtectClok=yes"))
    assert "ProtectClok" in systemd("systemd-analyze", "verify", "--recursive-errors=no", path).stderr


@pytest.mark.parametrize("drop_ins", [(), ("unprivileged.conf",)])
def test_the_unit_is_hardly_exposed(tmp_path: Path, drop_ins: tuple[str, ...]):
    words = ("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}")
    done = systemd("systemd-analyze", *words, unit(tmp_path, *drop_ins))
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


def test_the_unit_without_its_sandbox_would_be_found_exposed(tmp_path: Path):
    path = unit(tmp_path)
    kept = [line for line in path.read_text().splitlines() if not line.startswith(("Protect", "SystemCall"))]
    path.write_text("\n".join(kept))
    words = ("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}")
    assert systemd("systemd-analyze", *words, path).returncode != 0


def test_the_group_may_read_the_counters_and_nobody_else(tmp_path: Path):
    zones = tmp_path / "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0"
    counters = [zones / "energy_uj", zones / "intel-rapl:0:0/energy_uj"]
    (tmp_path / "etc").mkdir()
    for counter in counters:
        counter.parent.mkdir(parents=True)
        counter.write_text("1\n")
        counter.chmod(0o400)
    done = systemd("systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "carbonmon.sysusers.conf")
    assert done.returncode == 0, done.stderr
    groups = dict(line.split(":")[::2] for line in (tmp_path / "etc/group").read_text().splitlines())
    done = systemd(
        *("systemd-tmpfiles", "--create", f"--root={tmp_path}"), SYSTEMD / "carbonmon-rapl.tmpfiles.conf"
    )
    for counter in counters:
        assert stat.S_IMODE(counter.stat().st_mode) == 0o440, done.stderr
        if os.geteuid() == 0:
            assert counter.stat().st_gid == int(groups["carbonmon"])
            assert counter.stat().st_uid == 0


def test_the_rule_for_late_drivers_gives_the_same_rights():
    rule = (SYSTEMD / "carbonmon-rapl.rules").read_text()
    assert 'RUN+="/bin/chgrp carbonmon /sys%p/energy_uj"' in rule
    assert 'RUN+="/bin/chmod 0440 /sys%p/energy_uj"' in rule


NEEDED = ("sys_ptrace", "dac_read_search")


def capabilities_of_the_drop_in() -> list[str]:
    text = (SYSTEMD / "gpu-processes.conf").read_text()
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)
    assert f"\nAmbientCapabilities={line}\n" in text, "the user carbonmon has them too"
    return [name.removeprefix("CAP_").lower() for name in line.split()]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv (util-linux)"
)
@pytest.mark.parametrize(
    "held", [NEEDED, NEEDED[:1], NEEDED[1:], ()], ids=lambda held: "+".join(held) or "none"
)
def test_the_capabilities_of_the_drop_in_show_another_user_s_device_and_neither_alone_does(
    tmp_path: Path, held: tuple[str, ...]
):
    """The other user holds a file of the test's own: which file it is makes no difference to the kernel."""
    assert capabilities_of_the_drop_in() == list(NEEDED)
    device = tmp_path / "accel0"
    device.touch()
    with device.open() as opened:
        job = subprocess.Popen(["sleep", "60"], stdin=opened, user=65534, group=65534, extra_groups=[])
    script = (
        "import sys; from pathlib import Path\n"
        "from carbonmon.hardware.workload.device_files import DeviceFileProcesses\n"
        "lister = DeviceFileProcesses(Path('/proc'), {sys.argv[1]: 'TPU-0'})\n"
        "pids = lister.processes(0.0)['TPU-0']\n"
        "print(int(sys.argv[2]) in pids, int(sys.argv[2]) in lister.hidden)\n"
    )
    bounding = ",".join(["-all", *(f"+{name}" for name in held)])
    try:
        words = [f"--bounding-set={bounding}", "--no-new-privs", sys.executable, "-c", script, str(device)]
        done = subprocess.run(
            ["setpriv", *words, f"{job.pid}"],
            capture_output=True,
            text=True,
            timeout=command.DEADLINE_S,
            check=True,
        )
    finally:
        job.kill()
        job.wait()
    sees = held == NEEDED
    assert done.stdout.split() == [str(sees), str(not sees)], done.stderr


# ---- Kubernetes ----


@pytest.mark.parametrize("folder", ["manifests", "operator", "nvidia"])
def test_kustomize_makes_of_a_folder_what_its_files_say(folder: str):
    done = subprocess.run(
        [kubectl.program(), "kustomize", KUBERNETES / folder],
        capture_output=True,
        text=True,
        timeout=command.DEADLINE_S,
        check=True,
    )
    built = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
    expected: dict[tuple[str, str], Any] = {}
    for place in {KUBERNETES / "manifests", KUBERNETES / folder}:
        for path in place.glob("*.yaml"):
            for each in yaml.safe_load_all(path.read_text()):
                if path.name not in ("kustomization.yaml", "without-gpus.yaml"):
                    expected[each["kind"], each["metadata"]["name"]] = each
    if folder == "nvidia":
        spec = built["DaemonSet", "carbonmon"]["spec"]["template"]["spec"]
        assert spec.pop("affinity")["nodeAffinity"]
    assert built == expected


def test_the_sidecar_of_the_example_meters_the_job_beside_it_and_ends_with_it(tmp_path: Path):
    (job,) = yaml.safe_load_all((KUBERNETES / "examples/job-sidecar.yaml").read_text())
    train, sidecar = job["spec"]["template"]["spec"]["containers"]
    here = str(tmp_path)
    words = [word.replace("/run/carbonmon", here) for word in train["command"]]
    seen = f"sh -c 'until ls {here}/train-sidecar-x7k2p/checkpoint*; do sleep 0.1; done; sleep 1'"
    words[-1] = words[-1].replace("python train.py", seen)
    values = {each["name"]: each.get("value", "train-sidecar-x7k2p") for each in sidecar["env"]}
    values |= {"CARBONMON_OUTPUT": here, "CARBONMON_LISTEN": "127.0.0.1:0", "TMPDIR": here}
    path = f"{Path(command.CARBONMON).parent}:{os.environ['PATH']}"
    beside = subprocess.Popen(
        [word.replace("/run/carbonmon", here) for word in sidecar["command"]],
        env=command.environ(PATH=path, **values),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with subprocess.Popen(words, cwd=tmp_path) as job_process:
            reaper = threading.Thread(target=job_process.wait)  # as the kubelet's runtime does
            reaper.start()
            _, said = beside.communicate(timeout=command.DEADLINE_S)
            reaper.join()
    finally:
        beside.kill()
        beside.wait()
    assert beside.returncode == 0, said
    assert (tmp_path / "train-sidecar-x7k2p/summary.json").exists(), said
