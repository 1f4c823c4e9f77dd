# What the hooks share: where things are, and how the daemon is asked. Read by them, not run.
#
# Change nothing here: what differs on your cluster goes into settings.sh in the same folder.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
CARBONMON=/opt/carbonmon/bin/carbonmon
SOCKET=/run/carbonmon/daemon.sock
STATE=/run/carbonmon-slurm
PROLOG_LIMIT=4
TASK_LIMIT=2
EPILOG_LIMIT=10
IDLE=
SUMMARIES=workdir
if [ -r "$here/settings.sh" ]; then
    . "$here/settings.sh"
fi

case ${SLURM_JOB_ID:-} in
    '' | *[!0-9]*) exit 0 ;; # not called by Slurm
esac
cd / || exit 0 # a carbonmon.toml in the folder that Slurm starts us in is nothing to us

# ask SECONDS WORD...: carbonmon with these words, for no longer than that.
ask() {
    limit=$1
    shift
    CARBONMON_CONFIG=/dev/null CARBONMON_SOCKET=$SOCKET timeout -k 1 "$limit" "$CARBONMON" "$@" </dev/null
}

# say TEXT: to the node's log, and to that of slurmd.
say() {
    echo "carbonmon: job $SLURM_JOB_ID: $1" >&2
    timeout -k 1 1 logger -t carbonmon-slurm -- "job $SLURM_JOB_ID: $1" 2>/dev/null
}

# last LINES: the last of them; before it there may be warnings.
last() {
    printf '%s\n' "$1" | tail -n 1
}
