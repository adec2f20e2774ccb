#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/demo.sh [options of scripts/reproduce.sh]

Cross-entropy against the encouraging loss, from nothing to a table and a report: installs what is
needed and runs the experiment home-assistant-fr-en with one seed. It prepares a real corpus, trains
the same small Transformer with both losses at the same time, scores both, and shows what each loss
did to its model. Under 12 minutes on two CPU cores. Run again, it goes on where it stopped.

All five seeds: bash scripts/reproduce.sh home-assistant-fr-en (it goes on with the demo's runs).
END
}
help_or_continue "$@"
exec bash "$root/scripts/reproduce.sh" home-assistant-fr-en --seeds 1 "$@"
