#!/usr/bin/env bash
# Makes a corpus of data that fairseq-preprocess has binarized already: a folder with a link to it,
# and what scoring and reports need to know.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

run_module el_fairseq.corpora.data_bin "$@"
