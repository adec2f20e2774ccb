#!/usr/bin/env bash
# Measures what scores leave out of an experiment's finished runs: search and calibration.
# bash scripts/table.sh and bash scripts/report.sh show it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_module el_fairseq.experiments.measure "$@"
