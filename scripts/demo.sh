#!/usr/bin/env bash
# Cross-entropy against the encouraging loss, from nothing to a table and a report, in under 12
# minutes on two CPU cores: the experiment home-assistant-fr-en with one seed. Run again, it goes on.
#
#   bash scripts/demo.sh [options of scripts/reproduce.sh]
#   bash scripts/reproduce.sh home-assistant-fr-en           all five seeds, the demo's among them
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
help_or_continue "$@"
exec bash "$root/scripts/reproduce.sh" home-assistant-fr-en --seeds 1 "$@"
