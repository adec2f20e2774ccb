#!/usr/bin/env bash
# Makes the Multi30k corpus, captions of images with four test sets, in one of four directions.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

run_module el_fairseq.corpora.multi30k --data "$root/data" "$@"
