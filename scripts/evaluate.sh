#!/usr/bin/env bash
# Translates the test sets of a corpus with a trained run, and scores all of each.
# bash scripts/train.sh makes runs; bash scripts/table.sh compares them.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_module el_fairseq.experiments.evaluate "$@"
