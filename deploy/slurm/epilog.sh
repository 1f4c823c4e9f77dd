#!/bin/sh
# Epilog of slurm.conf: as root, on each node of a job, after its end. Ends the job's run; its user gets the summary.
#
# Slurm drains a node whose epilog fails: this one ends with 0 whatever happens, after 20 seconds at the most.
trap 'exit 0' EXIT
here=${0%/*}
[ -r "$here/common.sh" ] || exit 0
. "$here/common.sh"

# deliver FOLDER: a copy of the summary for the job's user.
#
# Written as that user: links that wait in a folder of theirs lead no further than they may go themselves. Root's own
# jobs get none, for the same reason. The outer time-out is for a file system that hangs: what waits for one cannot
# be killed, but what waits for that can.
deliver() {
    [ "$SUMMARIES" = workdir ] && [ "$SLURM_JOB_UID" != 0 ] && [ -n "${SLURM_JOB_WORK_DIR:-}" ] || return
    timeout -k 1 5 timeout -k 1 5 setpriv --reuid "$SLURM_JOB_UID" --regid "$SLURM_JOB_GID" \
        --init-groups --no-new-privs sh -c 'umask 022; set -C; cd "$1" && mkdir -p "carbonmon-runs/$2" &&
            cat >"carbonmon-runs/$2/summary.json"' sh "$SLURM_JOB_WORK_DIR" "${1##*/}" <"$1/summary.json" >&2 ||
        say "the summary cannot be copied to $SLURM_JOB_WORK_DIR; it is in $1"
}

state=$STATE/$SLURM_JOB_ID
[ -r "$state" ] || exit 0 # the prolog found no daemon
read -r run restarts <"$state"
set -- unregister "$run"
# Slurm says 0:0 here also of a job that was cancelled, timed out or queued again: only a failure is known to be one.
case ${SLURM_JOB_EXIT_CODE2:-} in
    0:* | *:[1-9]* | '') ;;
    *) [ "$restarts" != "${SLURM_JOB_RESTART_COUNT:-0}" ] || set -- "$@" --exit-code "${SLURM_JOB_EXIT_CODE2%:*}" ;;
esac
if said=$(ask "$EPILOG_LIMIT" "$@" 2>&1); then
    rm -f "$state"
    said=$(last "$said")
    deliver "${said#*: }"
else
    mv -f "$state" "$STATE/$run.ended" # the next prolog ends it
    say "its run goes on without it for now: $(last "$said")"
fi
