"""The programs that start another one, and how their arguments are read: the table behind `command_line`;
data.

Sources: manuals and `--help` of the programs, Debian 12 (coreutils 9.1, util-linux 2.38, Open MPI 4.1,
MPICH 4.0, Slurm 22.05), PyTorch 2.14, accelerate 1.15, uv 0.9, conda 25, Docker 28, Apptainer 1.4.
"""

from __future__ import annotations

from carbonmon.core.records import NamedTuple


class Wrapper(NamedTuple):
    """How the arguments of a program that starts another one are read. Names of options are without hyphens.

    `values`: options whose value is the next word. `pairs`: with two values. `flags`: if given, options
    without a value, and all others have one. `skip`: words between the options and the command. `sub`:
    subcommands that start something (`job/submit`: two words). `code`: the option with code of this
    program's language. `module`: the option whose value is a module to run. `own`: options whose value is
    itself a command line. `sets`: NAME=VALUE may stand before the command.
    """

    values: str = ""
    pairs: str = ""
    flags: str | None = None
    skip: int = 0
    sub: str = ""
    code: str = ""
    module: str = ""
    own: str = ""
    sets: bool = False

    def count(self, option: str) -> int:
        """How many of the next words are values of an option."""
        if option in self.pairs.split():
            return 2
        if self.flags is not None:
            return 0 if option in self.flags.split() else 1
        return 1 if option in self.values.split() else 0


SHELL = Wrapper(values="o O rcfile init-file", code="c")
_PYTHON = Wrapper(values="W X check-hash-based-pycs", code="c", module="m")
_TORCHRUN = Wrapper(
    flags="standalone rdzv-local m module no-python run-path use-env virtual-local-rank h help"
)
_MPIRUN = Wrapper(
    values="n np c N npernode npersocket ppn perhost H host hosts hostfile machinefile f x wd "
    "wdir path prefix tune "
    "bind-to map-by rank-by cpu-set cpu-list output-filename output timeout am app iface launcher rmk "
    "launcher-exec genvlist envlist hostlist max-restarts personality report-uri dvm dvm-uri xml-file "
    "initial-errhandler stdin configfile disable-recovery print-all-exitcodes s",
    pairs="mca gmca omca pmca prtemca pmixmca genv env",
)
_SRUN = Wrapper(
    values="A account b begin B extra-node-info c cpus-per-task C constraint D chdir d dependency "
    "e error E export "
    "F nodefile G gpus i input J job-name jobid L licenses m distribution M clusters n ntasks N "
    "nodes o output "
    "p partition q qos r relative S core-spec t time T threads time-min U reservation w nodelist "
    "W wait x exclude "
    "acctg-freq bb bbf comment container cores-per-socket cpu-bind cpu-freq cpus-per-gpu deadline "
    "delay-boot "
    "epilog export-file gpu-bind gpu-freq gpus-per-node gpus-per-socket gpus-per-task gres gres- "
    "flags hint mail-type "
    "mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mpi network nice ntasks-per-core "
    "ntasks-per-gpu "
    "ntasks-per-node ntasks-per-socket open-mode power priority profile prolog slurmd-debug "
    "sockets-per-node switches "
    "task-epilog task-prolog thread-spec threads-per-core tmp tres-per-task uid gid wckey container-image "
    "container-mounts container-name container-save container-workdir container-env a array",
)
_DOCKER = Wrapper(
    values="H host context config c l log-level a attach add-host annotation blkio-weight cap-add cap-drop "
    "cgroup-parent cgroupns cidfile cpu-period cpu-quota cpu-shares cpus cpuset-cpus cpuset-mems device "
    "device-cgroup-rule dns dns-option dns-search domainname e env entrypoint env-file expose "
    "gpus group-add "
    "health-cmd health-interval hostname ip ipc isolation label label-file link log-driver log- "
    "opt m memory memory-swap "
    "mount name net network network-alias oom-score-adj p publish pid pids-limit platform pull "
    "restart runtime "
    "security-opt shm-size stop-signal stop-timeout storage-opt sysctl tmpfs u user ulimit userns "
    "uts v volume "
    "volumes-from w workdir root hooks-dir secret",
    sub="run exec create container/run container/exec compose/up compose/run compose/exec",
    skip=1,
)
_KUBECTL = Wrapper(
    values="n namespace context kubeconfig image c container f filename l labels restart env limits requests",
    sub="exec run create/job apply debug",
    skip=1,
)
_APPTAINER = Wrapper(
    values="B bind H home W workdir pwd cwd S scratch env env-file o overlay app hostname network "
    "security mount "
    "fusemount apply-cgroups",
    sub="exec run",
    skip=1,
)
_CONDA = Wrapper(values="n name p prefix cwd e root-prefix r", sub="run")
_RUN = Wrapper(values="C P project directory e environment m manifest-path f feature", sub="run")
_UV = Wrapper(
    values="p python with with-editable with-requirements extra no-extra group no-group only- "
    "group package project "
    "directory env-file index default-index index-url extra-index-url find-links config-file cache-dir w C "
    "config-setting refresh-package upgrade-package P reinstall-package link-mode resolution "
    "prerelease color",
    sub="run tool/run",
)

WRAPPERS: dict[str, Wrapper] = {
    **dict.fromkeys(("sh", "bash", "dash", "zsh", "ksh", "fish"), SHELL),
    **dict.fromkeys(("python", "pypy", "ipython"), _PYTHON),
    **dict.fromkeys(("julia", "Rscript", "node", "perl", "ruby"), Wrapper(values="p L J t r I", code="e E")),
    "env": Wrapper(values="u unset C chdir", own="S split-string", sets=True),
    "timeout": Wrapper(values="k kill-after s signal", skip=1),
    "taskset": Wrapper(skip=1),
    "nice": Wrapper(values="n adjustment"),
    "ionice": Wrapper(values="c class n classdata"),
    "chrt": Wrapper(values="T sched-runtime P sched-period D sched-deadline", skip=1),
    "stdbuf": Wrapper(values="i input o output e error"),
    "numactl": Wrapper(
        values="i interleave p preferred P preferred-many N cpunodebind C physcpubind m membind w "
        "weighted-interleave"
    ),
    "time": Wrapper(values="f format o output"),
    "nohup": Wrapper(),
    "setsid": Wrapper(),
    "exec": Wrapper(values="a"),
    "command": Wrapper(),
    "builtin": Wrapper(),
    "sudo": Wrapper(values="u user g group h host p prompt C D chdir r role t type T R U", sets=True),
    "setpriv": Wrapper(values="reuid regid groups ruid euid rgid egid inh-caps bounding-set ambient-caps"),
    "prlimit": Wrapper(values="p pid o output"),
    "flock": Wrapper(values="w timeout wait E conflict-exit-code", own="c command", skip=1),
    "unbuffer": Wrapper(),
    "xvfb-run": Wrapper(values="e error-file f auth-file n server-num p xauth-protocol s server-args w wait"),
    "systemd-run": Wrapper(
        values="p property u unit E setenv M machine uid gid nice slice description on-active "
        "working-directory H host"
    ),
    "strace": Wrapper(values="o e p s a b E I O P S u U X"),
    "valgrind": Wrapper(),
    "nsys": Wrapper(
        values="o output t trace s sample d duration y delay w show-output c capture-range x stop-on-exit f",
        sub="profile launch start",
    ),
    "ncu": Wrapper(values="o export k kernel-name c launch-count s launch-skip set section metrics"),
    "perf": Wrapper(values="e event o output F freq p pid I interval-print r repeat", sub="stat record"),
    "py-spy": Wrapper(values="o output r rate f format d duration p pid", sub="record top"),
    "carbonmon": Wrapper(
        flags="quiet no-dram-estimate user-names own-monitor status-line redact-command help version",
        sub="run",
    ),
    **dict.fromkeys(("uv", "uvx"), _UV),
    **dict.fromkeys(("poetry", "pdm", "pipenv", "rye", "hatch", "pixi", "pipx"), _RUN),
    **dict.fromkeys(("conda", "mamba", "micromamba"), _CONDA),
    **dict.fromkeys(("torchrun", "torch.distributed.run", "torch.distributed.launch"), _TORCHRUN),
    "accelerate": Wrapper(
        flags="cpu multi-gpu tpu mps use-mps-device use-deepspeed use-fsdp use-megatron-lm use- "
        "xpu ipex quiet q m "
        "module no-python debug same-network downcast-bf16 tpu-use-cluster tpu-use-sudo enable- "
        "cpu-affinity "
        "use-parallelism-config main-training-function-is-module h help",
        sub="launch",
    ),
    "accelerate.commands.launch": Wrapper(
        flags="cpu multi-gpu tpu mps use-deepspeed use-fsdp use-megatron-lm quiet q m module no- python debug"
    ),
    **dict.fromkeys(
        ("deepspeed", "deepspeed.launcher.runner"),
        Wrapper(
            values="H hostfile i include e exclude num-nodes min-elastic-nodes max-elastic-nodes num-gpus "
            "num-accelerators master-port master-addr node-rank launcher launcher-args autotuning ssh-port "
            "venv-script bind-core-list log-level"
        ),
    ),
    **dict.fromkeys(("mpirun", "mpiexec", "orterun", "prterun", "mpirun.openmpi", "mpiexec.hydra"), _MPIRUN),
    "horovodrun": Wrapper(
        values="np n p H hosts hostfile ssh-port network-interface start-timeout min-np max-np log-level"
    ),
    "srun": _SRUN,
    "sbatch": _SRUN._replace(own="wrap"),
    "salloc": _SRUN,
    "qsub": Wrapper(values="A a b c e h I j k l M m N o p q r S u v W P cwd pe hard"),
    "bsub": Wrapper(values="J q n W M R o e oo eo P G g m w u L cwd gpu app"),
    "flux": Wrapper(
        values="n N c g t q B nodes ntasks cores gpus-per-task env setopt", sub="run submit batch alloc"
    ),
    **dict.fromkeys(("docker", "podman", "nerdctl"), _DOCKER),
    "kubectl": _KUBECTL,
    **dict.fromkeys(("apptainer", "singularity"), _APPTAINER),
    "ssh": Wrapper(values="p l i o F J L R D b c e m O Q S W w E I B", skip=1),
    "ray": Wrapper(
        values="address working-dir runtime-env runtime-env-json submission-id entrypoint-num- "
        "cpus entrypoint-num-gpus "
        "entrypoint-memory metadata-json log-style",
        sub="job/submit",
    ),
    "fabric": Wrapper(
        values="accelerator strategy devices num-nodes node-rank main-address main-port precision", sub="run"
    ),
    "composer": Wrapper(
        values="n nproc stdout stderr world-size base-rank node-rank master-addr master-port"
    ),
    "papermill": Wrapper(values="p r y b f k kernel cwd log-output", pairs="p parameters r parameters-raw"),
    "jupyter": Wrapper(values="to output output-dir template config", sub="nbconvert execute run"),
    **dict.fromkeys(("cProfile", "profile"), Wrapper(values="o s", module="m")),
    **dict.fromkeys(("pdb", "trace", "runpy", "scalene", "memory_profiler"), Wrapper(values="c", module="m")),
    "coverage": Wrapper(values="rcfile data-file source include omit", sub="run", module="m"),
    "debugpy": Wrapper(values="listen connect log-to configure", module="m"),
    "streamlit": Wrapper(sub="run"),
}
"""Programs that start another one, by the name of their file, or of the module behind `python -m`."""

SUBCOMMANDS = {
    name: frozenset(sub.rpartition("/")[2] for sub in wrapper.sub.split())
    for name, wrapper in WRAPPERS.items()
    if wrapper.sub
}
"""The subcommands of a program that start something, where others do not."""
