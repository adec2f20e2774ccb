#!/usr/bin/env bash
# Makes a corpus of your own text files, a sentence a line in two languages, to what fairseq-train
# reads.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

run_module el_fairseq.corpora.parallel_text "$@"
