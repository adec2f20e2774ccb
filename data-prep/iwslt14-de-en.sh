#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
  cat <<'END'
Usage: bash data-prep/iwslt14-de-en.sh [options]

Makes the IWSLT'14 German-English corpus, from the archive to what fairseq-train reads: 160,239
training, 7,283 validation and 6,750 test pairs, lowercased, 10,000 joint BPE merges.

  --archive FILE    use this .tgz or .zip instead of downloading
  --url URL         download from here instead; several are tried one after the other
  --checksum SUM    what the archive must have: md5:HEX, sha256:HEX or git-blob:HEX
  --merges N        BPE merges (default: 10000; a small archive may need fewer)
  --workers N       processes (default: all cores)
  --out DIR         the corpus (default: data/iwslt14-de-en)

In DIR: manifest.json (counts, what was dropped and why, checksums, versions), text/ (tokenized),
bpe/ (subwords), bin/ (fairseq). The archive stays in the folder archives beside DIR.
END
}
help_or_continue "$@"
set_up
exec "$python" -m el_fairseq.corpora.iwslt14 --data "$root/data" "$@"
