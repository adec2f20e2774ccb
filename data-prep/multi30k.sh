#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
  cat <<'END'
Usage: bash data-prep/multi30k.sh de-en|fr-en|en-de|en-fr [options]

Makes the Multi30k corpus, captions of images: 29,000 training and 1,014 validation pairs, and four
test sets (flickr2016, flickr2017, coco2017, flickr2018; 3,532 pairs), which are also scored together
as one set, all. Lowercased, normalized punctuation, Moses tokens, 10,000 joint BPE merges, one
dictionary.

  --from DIR   take the published .gz files from DIR instead of downloading
  --merges N   BPE merges (default: 10000; other text may need fewer)
  --out DIR    the corpus (default: data/multi30k-DIRECTION)

In DIR: manifest.json (counts, checksums, versions), text/ (tokenized), references/ (plain,
lowercased), bpe/ (subwords), bin/ (fairseq). Downloads stay in the folder archives beside DIR.
END
}
help_or_continue "$@"
set_up
exec "$python" -m el_fairseq.corpora.multi30k --data "$root/data" "$@"
