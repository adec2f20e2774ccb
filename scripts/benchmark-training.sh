#!/usr/bin/env bash
# Compares the words per second of whole trainings, cross-entropy and encouraging loss in turns. About
# ten minutes on two CPU cores, on which nothing else should run meanwhile.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_module el_fairseq.benchmarks.training "$@"
