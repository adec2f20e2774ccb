#!/usr/bin/env bash
# Runs an experiment: corpus, a training with each loss and seed, translations, scores, report.
# Stopped at any point, the same command goes on.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_module el_fairseq.experiments.run "$@"
