#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
  cat <<'END'
Usage: bash data-prep/parallel-text.sh --source de --target en --train PREFIX --valid PREFIX
                                       --test [NAME=]PREFIX [--test NAME=PREFIX ...] [options]

Makes a corpus of your own text: files PREFIX.de and PREFIX.en, a sentence a line, UTF-8, also
packed (PREFIX.de.gz), to what fairseq-train reads. White space is folded to single spaces.

  --source, --target LANGUAGE   the languages: what the files' names end in
  --train, --valid PREFIX       text to train and to validate on
  --test [NAME=]PREFIX          a test set; several are all translated, scored and tabled
  --pool-tests                  score all test sets also as one, which losses are compared on
  --out DIR                     the corpus (default: data/SOURCE-TARGET)

Training pairs are dropped where a side is empty, and by these two; other sets are never filtered:
  --max-tokens N                a side has more tokens (default: 175)
  --max-ratio R                 a side has over R times the tokens of the other (default: 3)
                                (characters, at most 1000, where a language has no spaces: Chinese,
                                Japanese, Thai, Khmer, Lao, Burmese; a wide one counts twice)
  --drop-test-duplicates        and where a side is a sentence of a test set (always counted)

  --tokenizer none|moses        cut words from punctuation (default: none, as SentencePiece needs)
  --lowercase                   lowercase all text, references too
  --pieces N                    SentencePiece with a joint vocabulary of N (default: 8000)
  --merges N                    instead: byte pair encoding by subword-nmt with N joint merges
  --dictionaries joined|separate  one for both languages, as --share-all-embeddings needs, or two
                                (default: joined)
  --workers N                   processes that tokenize (default: all cores)

In DIR: manifest.json (counts, what was dropped and why, checksums, versions), text/, bpe/
(subwords), references/ (plain, of tokenized corpora), bin/ (fairseq).
END
}
help_or_continue "$@"
set_up
exec "$python" -m el_fairseq.corpora.parallel_text --data "$root/data" "$@"
