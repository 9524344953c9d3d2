#!/usr/bin/env bash
# SLURM of one node and munge from Debian's packages, for tests/hpc. Daemons that the packages would start are left off.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
missing=
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || missing+=" $program"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "install_slurm.sh: no$missing here, and no apt-get or not root to install them" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq
apt-get install -y -qq --no-install-recommends munge slurmctld slurmd slurm-client >/dev/null
