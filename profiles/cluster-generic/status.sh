#!/usr/bin/env bash
# status.sh ID: `running` (waiting too), `success` or `failed`. A scheduler that does not answer is asked again later.
set -uo pipefail
if ! told=$(qstat -x -f "$1" 2>&1); then
    if [[ $told == *[Uu]nknown* ]]; then echo failed; else echo running; fi
    exit 0
fi
state=$(sed -n 's/^ *job_state = //p' <<<"$told")
status=$(sed -n 's/^ *[Ee]xit_status = //p' <<<"$told")
case $state in
[FC]) if [[ $status == 0 ]]; then echo success; else echo failed; fi ;;
*) echo running ;;
esac
