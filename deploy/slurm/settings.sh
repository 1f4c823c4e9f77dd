# What differs on this cluster: a copy of this beside the hooks, readable for everybody. Shell, read by each hook.

#CARBONMON=/opt/carbonmon/bin/carbonmon   # on a disk of the node, not on a network file system
#SOCKET=/run/carbonmon/daemon.sock        # where root's daemon listens
#STATE=/run/carbonmon-slurm               # which job has which run; root's alone, gone after a boot
#PROLOG_LIMIT=4                           # seconds that the daemon has to begin a run, ...
#TASK_LIMIT=2                             # ... to hear of a task, ...
#EPILOG_LIMIT=10                          # ... and to write a summary, which takes it a sample

# Nodes that have one job at a time: IDLE=exclusive gives it all that the node draws, and TaskProlog is not needed.
#IDLE=

# workdir: the epilog leaves carbonmon-runs/slurm-JOBID/summary.json in the job's folder, as the job's user.
# none: only the daemon's own folder has it.
#SUMMARIES=workdir
