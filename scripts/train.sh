#!/usr/bin/env bash
# Trains one run, an experiment's loss with one seed, or goes on with it after an interruption.
# bash scripts/evaluate.sh scores it; bash scripts/reproduce.sh does all of an experiment.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_module el_fairseq.experiments.train "$@"
