#!/usr/bin/env bash
# submit.sh QUEUE CORES MEMORY_MB MINUTES GPUS JOBSCRIPT: submit to PBS and print the job's id, nothing else. The id is noted
# in .snakemake/submitted too, by which `make cluster-recover` finds the jobs of a killed run. The job leaves its exit status in
# .snakemake/cluster_status, since a scheduler may forget it (status.sh).
set -euo pipefail
queue=$1 cores=$2 memory=$3 minutes=$4 gpus=$5 script=$6
chunk="select=1:ncpus=$cores:mem=${memory}mb"
if ((gpus > 0)); then chunk+=":ngpus=$gpus"; fi
mkdir -p .snakemake/cluster_logs .snakemake/cluster_status
sed -i "1a trap 'echo \$? >\"$PWD/.snakemake/cluster_status/\$PBS_JOBID\"' EXIT" "$script"
qsub -V -N safety-geometry -q "$queue" -l "$chunk" \
    -l "walltime=$((minutes / 60)):$(printf %02d $((minutes % 60))):00" -j oe -o .snakemake/cluster_logs/ "$script" |
    tee -a .snakemake/submitted
