#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
  cat <<'END'
Usage: bash data-prep/iwslt17-fr-en.sh [options]

Makes the IWSLT'17 French-English corpus, from the archive to what fairseq-train reads: cased,
16,384 joint SentencePiece pieces, one joined dictionary.

  --archive FILE    use this .tgz or .zip instead of downloading
  --url URL         download from here instead; several are tried one after the other
  --checksum SUM    what the archive must have: md5:HEX, sha256:HEX or git-blob:HEX
  --pieces N        SentencePiece pieces (default: 16384; a small archive needs fewer)
  --workers N       processes (default: all cores)
  --out DIR         the corpus (default: data/iwslt17-fr-en)

In DIR: manifest.json (counts, what was dropped and why, checksums, versions), text/ (tokenized),
bpe/ (subwords), bin/ (fairseq). The archive stays in the folder archives beside DIR.
END
}
help_or_continue "$@"
set_up
exec "$python" -m el_fairseq.corpora.iwslt17 --data "$root/data" "$@"
