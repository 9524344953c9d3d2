#!/usr/bin/env bash
# status.sh ID: `running` (waiting too), `success` or `failed`. The exit status that the job itself left comes first (submit.sh);
# a job that was killed leaves none, so PBS is asked, with its history of jobs if it keeps one. A lookup that fails is made again
# next time; after LOOKUPS of them in a row the job is cancelled and taken for failed.
set -uo pipefail
LOOKUPS=60 # ten minutes: Snakemake asks every ten seconds
note=.snakemake/cluster_status/$1
ended() {
    rm -f "$note.lookups"
    if [[ $1 == 0 ]]; then echo success; else echo failed; fi
    exit 0
}
if [[ -s $note ]]; then ended "$(<"$note")"; fi
if ! told=$(qstat -x -f "$1" 2>&1) && ! told=$(qstat -f "$1" 2>&1); then
    if [[ $told == *[Uu]nknown* ]]; then LOOKUPS=6; fi # PBS answers: it has ended, and its exit status may be on its way
    mkdir -p .snakemake/cluster_status
    printf x >>"$note.lookups"
    if (($(wc -c <"$note.lookups") < LOOKUPS)); then
        echo running
        exit 0
    fi
    echo "status.sh: $LOOKUPS lookups of job $1 have failed, it is taken for failed: $told" >&2
    "$(dirname "$0")/cancel.sh" "$1" >/dev/null 2>&1
    echo 1 >"$note"
    ended 1
fi
rm -f "$note.lookups"
state=$(sed -n 's/^ *job_state = //p' <<<"$told")
status=$(sed -n 's/^ *[Ee]xit_status = //p' <<<"$told")
case $state in
[FC]) ended "$status" ;;
*) echo running ;;
esac
