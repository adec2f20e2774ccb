#!/usr/bin/env bash
# Makes the IWSLT'14 German-English corpus, from the archive to what fairseq-train reads:
# 160,239 training pairs, lowercased, 10,000 joint BPE merges.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

run_module el_fairseq.corpora.iwslt iwslt14-de-en "$@"
