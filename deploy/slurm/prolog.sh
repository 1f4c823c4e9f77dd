#!/bin/sh
# Prolog of slurm.conf: as root, on each node of a job, before it starts. Begins the job's run with the node's daemon.
#
# Slurm drains a node whose prolog fails: this one ends with 0 whatever happens, after 10 seconds at the most.
trap 'exit 0' EXIT
here=${0%/*}
[ -r "$here/common.sh" ] || exit 0
. "$here/common.sh"

set -- register --name "slurm-$SLURM_JOB_ID"
for label in "user=${SLURM_JOB_USER:-}" "account=${SLURM_JOB_ACCOUNT:-}" "partition=${SLURM_JOB_PARTITION:-}" \
    "cluster=${SLURM_CLUSTER_NAME:-}" "nodes=${SLURM_JOB_NODELIST:-${SLURM_NODELIST:-}}"; do
    [ -z "${label#*=}" ] || set -- "$@" --label "$label"
done
[ -z "$IDLE" ] || set -- "$@" --idle "$IDLE"
if ! said=$(ask "$PROLOG_LIMIT" "$@" 2>&1); then
    say "not metered: $(last "$said")"
    exit 0
fi

# The epilog is told another number of restarts than we are, if the job is queued again: it needs to look up the run.
umask 077
mkdir -p "$STATE"
echo "$(last "$said") ${SLURM_JOB_RESTART_COUNT:-0}" >"$STATE/$SLURM_JOB_ID"

# Runs of jobs that ended while no daemon answered: one that came back holds them, and the GPUs that they had.
until_s=$(($(date +%s) + 2))
for file in "$STATE"/*.ended; do
    [ -e "$file" ] && [ "$(date +%s)" -lt "$until_s" ] || break
    read -r run _ <"$file"
    if said=$(ask 2 unregister "$run" 2>&1); then
        say "the run of an earlier job is ended late: $(last "$said")"
    else
        case $said in
            *"is not here"*) ;; # it has ended by itself
            *) break ;;         # no answer in time: the next prolog asks again
        esac
    fi
    rm -f "$file"
done
