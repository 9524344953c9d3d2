#!/usr/bin/env bash
# SLURM of one node and munge from Debian's packages, for tests/hpc. Daemons that the packages would start are left off.
set -euo pipefail
if command -v slurmctld slurmd munged sbatch >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "install_slurm.sh: needs apt-get and root; without them the SLURM tests are skipped" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq
apt-get install -y -qq --no-install-recommends munge slurmctld slurmd slurm-client >/dev/null
