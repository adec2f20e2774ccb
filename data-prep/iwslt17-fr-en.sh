#!/usr/bin/env bash
# Makes the IWSLT'17 French-English corpus, from the archive to what fairseq-train reads:
# cased, 16,384 joint SentencePiece pieces, one dictionary.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

run_module el_fairseq.corpora.iwslt iwslt17-fr-en "$@"
