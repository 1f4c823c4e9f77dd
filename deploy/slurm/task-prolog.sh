#!/bin/sh
# TaskProlog of slurm.conf: as the user, in each task before its program. Tells the daemon that this process, with
# all that it will start, belongs to the run of its job.
#
# Slurm ends a task whose TaskProlog fails: this one ends with 0 whatever happens, after 3 seconds at the most. What
# it prints are commands to Slurm: the run's address, for `carbonmon phase` and track() in the job.
exec 3>&1 </dev/null >/dev/null 2>&1
trap 'exit 0' EXIT
here=${0%/*}
[ -r "$here/common.sh" ] || exit 0
. "$here/common.sh"

theirs=${CARBONMON_SOCKET:-}
# The environment is the job's: what it has for its own Python and its own carbonmon is not for ours.
for name in $(env | sed -n 's/^\(PYTHON[A-Z]*\|CARBONMON_[A-Z_]*\|LD_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done
run=
if [ -S "$SOCKET" ]; then
    run=$(ask "$TASK_LIMIT" register --join --pid "$SLURM_TASK_PID" 3>&-) || run=
fi
# Another monitor that the job has chosen stays. An address of ours may have come along from another job, by sbatch.
if [ -z "$theirs" ] || [ "$theirs" = "$SOCKET" ]; then
    if [ -n "$run" ]; then
        printf 'export CARBONMON_SOCKET=%s\nexport CARBONMON_RUN=%s\n' "$SOCKET" "$(last "$run")" >&3
    elif [ -n "$theirs" ]; then
        printf 'unset CARBONMON_SOCKET\nunset CARBONMON_RUN\n' >&3
    fi
fi
