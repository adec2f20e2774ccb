#!/usr/bin/env bash
# Prints the table of an experiment: means over seeds, differences, and how sure they are.
# bash scripts/reproduce.sh makes its runs.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_module el_fairseq.experiments.table "$@"
