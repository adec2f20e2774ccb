#!/usr/bin/env bash
# Analyses one finished run of each loss of an experiment, and writes report.html of all its runs.
# An analysis of the same checkpoints, data and options is not made again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

run_module el_fairseq.report "$@"
