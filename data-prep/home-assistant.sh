#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
  cat <<'END'
Usage: bash data-prep/home-assistant.sh de-en|fr-en [options]

Makes a real parallel corpus that needs nothing but pip: the short strings of Home Assistant, from
its wheel to what fairseq-train reads. About 13,000 training pairs for de-en, 5,000 for fr-en.

  --archive FILE       the wheel (default: data/archives/homeassistant-2026.2.3-py3-none-any.whl,
                       which pip downloads where it is not there; 51 MB)
  --out DIR            the corpus (default: data/home-assistant-PAIR)
  --max-words N        leave pairs out that have more words on a side (default: 6)
  --pieces N           size of the joint vocabulary (default: 2000)
  --test-twentieths N  how many twentieths of the pairs are the test set (default: 3); one is the
                       validation set, the others are the training set

In DIR: manifest.json (what was kept and dropped), text/, bpe/ (SentencePiece), bin/ (fairseq).
END
}
help_or_continue "$@"
set_up
exec "$python" -m el_fairseq.corpora.home_assistant --data "$root/data" "$@"
