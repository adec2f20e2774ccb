#!/usr/bin/env bash
# Makes the Multi30k corpus, captions of images with four test sets, to what fairseq-train reads:
# German or French to English, or the other way.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

run_module el_fairseq.corpora.multi30k "$@"
