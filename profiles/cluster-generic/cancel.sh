#!/usr/bin/env bash
# cancel.sh ID...: end jobs, waiting or running.
exec qdel "$@"
