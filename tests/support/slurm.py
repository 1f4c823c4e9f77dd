"""A real Slurm of one node: Debian's packages, unpacked below build/ and started in a folder of its own.

Nothing is installed and no service is touched: munged, slurmctld and slurmd run from the unpacked files with
a key, sockets, ports and state of their own, and are ended by their pids.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.support import command, debian, prometheus

TREE = Path(__file__).resolve().parents[2]
HOOKS = TREE / "deploy" / "slurm"
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")
NOBODY = 65534
OVER = re.compile(r"COMPLETED|CANCELLED|FAILED|TIMEOUT|NODE_FAIL")


class Accounted(NamedTuple):
    """A row of sacct; times in seconds since 1970."""

    job_id: str
    state: str
    began_s: float
    ended_s: float


def missing() -> str:
    """Why no Slurm can be started here, "" if one can."""
    if os.geteuid() != 0:
        return "prologs and jobs of other users need root"
    return "" if unpacked() else "no apt-get to fetch Debian's Slurm with"


def unpacked() -> Path | None:
    """The packages with the libraries that are missing here, fetched once; None where that cannot be done."""
    return debian.unpacked("slurm", "usr/sbin/slurmd-wlm", PACKAGES, with_libraries=True)


@cache
def program(uid: int) -> str | None:
    """A carbonmon that this user can run: the checkout's own, or the same code with the system's Python."""

    def runs(path: str) -> bool:
        try:
            done = subprocess.run(
                [path, "--version"], user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True
            )
        except OSError:  # it may not even be entered
            return False
        return done.returncode == 0

    if runs(command.CARBONMON):
        return command.CARBONMON
    places = [TREE, TREE / "exporters", *(path for path in sys.path if path.endswith("site-packages"))]
    other = debian.BUILD / "slurm" / "carbonmon"
    other.write_text(
        f'#!/bin/sh\nPYTHONPATH={":".join(map(str, places))} exec /usr/bin/python3 -m carbonmon "$@"\n'
    )
    other.chmod(0o755)
    return str(other) if runs(str(other)) else None


def hooks(folder: Path, **settings: object) -> Path:
    """The hooks of deploy/slurm in a folder of their own, with these settings."""
    shutil.copytree(HOOKS, folder)
    lines = [f"{name}='{value}'\n" for name, value in settings.items()]
    (folder / "settings.sh").write_text("".join(lines))
    return folder


class Slurm:
    """One node and its controller, from construction to `close`, with the hooks of `deploy/slurm`.

    Jobs are nobody's if that user can read the checkout, else root's: `uid`. Their folder is `work`.
    """

    def __init__(self) -> None:
        prefix = unpacked()
        assert prefix is not None
        self.uid = NOBODY if program(NOBODY) else 0
        self.folder = Path(tempfile.mkdtemp(prefix="carbonmon-slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.work = self.folder / "work"
        for name in ("state", "spool", "work", "hook-state"):
            (self.folder / name).mkdir()
        os.chown(self.work, self.uid, self.uid)
        self.hooks = hooks(
            self.folder / "hooks",
            CARBONMON=program(self.uid) or command.CARBONMON,
            SOCKET=self.folder / "daemon.sock",
            STATE=self.folder / "hook-state",
            PROLOG_LIMIT=30,  # however busy the machine is
            TASK_LIMIT=30,
            EPILOG_LIMIT=30,
        )
        (plugins,) = {path.parent for path in prefix.glob("usr/lib/*/slurm*/auth_munge.so")}
        self._config = self.folder / "slurm.conf"
        self._config.write_text(self._text(plugins))
        programs = f"{prefix / 'usr/bin'}:{prefix / 'usr/sbin'}:{os.environ['PATH']}"
        self._environ = command.environ(
            LD_LIBRARY_PATH=f"{plugins.parent}:{plugins}", PATH=programs, SLURM_CONF=str(self._config)
        )
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(64))
        key.chmod(0o400)
        files = {"key-file": key} | {
            name: self.folder / f"munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start("munged", "--foreground", *(f"--{name}={path}" for name, path in files.items()))
            command.wait_for(files["socket"].exists, "munged")
            self._start("slurmctld-wlm", "-D", "-c")
            stepd = prefix / "usr/sbin/slurmstepd-wlm"
            self._start("slurmd-wlm", "-D", "-N", "n1", "-d", str(stepd))
            command.wait_for(lambda: self.node_state() == "idle", "the node")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Slurm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, script: str, *options: str) -> str:
        """Submit a shell script as a job of `uid`; its id."""
        path = self.folder / f"job-{time.monotonic_ns()}.sh"
        path.write_text(f"#!/bin/sh\n{script}")
        return self.as_user("sbatch", "--parsable", *options, str(path)).strip()

    def cancel(self, job_id: str) -> None:
        self.as_user("scancel", job_id)

    def signal(self, job_id: str, name: str) -> None:
        """Send a signal to the processes of a job's steps."""
        self.as_user("scancel", f"--signal={name}", job_id)

    def requeue(self, job_id: str) -> None:
        """Have a running job start again; Slurm would wait for two minutes by itself."""
        self.as_user("scontrol", "requeue", job_id)
        command.wait_for(lambda: self.state(job_id) == "PENDING", "the requeued job")
        # Else what still ends the first start, by the job's id, can end the second one.
        command.wait_for(lambda: self.node_state() == "idle", "the end of the first start")
        # It tells the controller the exit code of the killed script, which would be that of the second start.
        command.wait_for(lambda: not self._has_step(job_id), "the end of the first start's step daemon")
        self._call("scontrol", "update", f"JobId={job_id}", "StartTime=now")

    def _has_step(self, job_id: str) -> bool:
        """Whether a daemon of one of the job's steps is there; it calls itself `slurmstepd: [JOB.STEP]`."""
        import psutil  # not for tests.support.tools: see there

        title = f"slurmstepd: [{job_id}."
        return any(title in " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))

    def state(self, job_id: str) -> str:
        """The job's state as the controller knows it: RUNNING, COMPLETING, COMPLETED, …"""
        return self._call("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job_id}").strip()

    def wait(self, job_id: str) -> str:
        """The final state of a job; its epilog has run."""
        return command.wait_for(
            lambda: found[0] if (found := OVER.match(self.state(job_id))) else None, f"the end of {job_id}"
        )

    def node_state(self) -> str:
        return self._call("sinfo", "--noheader", "--format=%t").strip()

    def sacct(self, job_id: str) -> Accounted:
        """What sacct has of a job, from the file that the controller writes when a job is complete."""
        words = ("--parsable2", "--noheader", "--format=JobIDRaw,State,Start,End")

        def row() -> Accounted | None:
            lines = self._call("sacct", "--completion", *words).splitlines()
            rows = [line.split("|") for line in lines if line.split("|")[0] == job_id]
            if not rows:
                return None
            number, state, *times = rows[-1]
            began_s, ended_s = (datetime.fromisoformat(text).timestamp() for text in times)
            return Accounted(number, state, began_s, ended_s)

        return command.wait_for(row, f"job {job_id} in sacct")

    def close(self) -> None:
        """End what was started: jobs with their step daemons first."""
        import psutil  # not for tests.support.tools: see there

        if len(self._processes) == 3:
            subprocess.run(["scancel", "--full", "-w", "n1"], env=self._environ, check=False)
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(timeout=command.DEADLINE_S)
        for left in psutil.process_iter():
            with suppress(psutil.Error):  # ended meanwhile
                if left.environ().get("SLURM_CONF") == str(self._config):
                    left.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, *words: str) -> None:
        with (self.folder / f"{words[0]}.out").open("wb") as log:
            self._processes.append(
                subprocess.Popen(words, cwd=self.folder, env=self._environ, stdout=log, stderr=log)
            )

    def _call(self, *words: str) -> str:
        done = subprocess.run(words, env=self._environ, capture_output=True, text=True, check=False)
        return done.stdout

    def as_user(self, *words: str) -> str:
        """What a command of the user `uid` prints, in the folder of jobs; it must succeed."""
        done = subprocess.run(
            words,
            cwd=self.work,
            env=self._environ,
            user=self.uid,
            group=pwd.getpwuid(self.uid).pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _text(self, plugins: Path) -> str:
        host = os.uname().nodename.partition(".")[0]
        folder, hooks = self.folder, self.hooks
        return f"""
ClusterName=e2e
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={prometheus.free_port()}
SlurmdPort={prometheus.free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=2
ReturnToService=0
PrologFlags=Alloc
Prolog={hooks}/prolog.sh
Epilog={hooks}/epilog.sh
TaskProlog={hooks}/task-prolog.sh
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""
