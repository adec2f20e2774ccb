#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
  cat <<'END'
Usage: bash data-prep/data-bin.sh --data-bin DIR --out DIR [options]

Makes a corpus of data that fairseq-preprocess has binarized already: a folder with a link to it,
and what scoring and reports need to know.

  --data-bin DIR            the binary data, with its dictionaries
  --source, --target LANGUAGE   the pair, where the data has several
  --test [NAME=]REFERENCES  plain translations of its test set, a line each, neither tokenized nor
                            in subwords; the second --test is fairseq's test1, and so on; without
                            this, those of the data itself, subwords and tokens undone
  --pool-tests              score all test sets also as one, which losses are compared on
  --out DIR                 the corpus
  --subwords sentencepiece|subword-nmt|none   what the data was cut into (default: none)
  --subword-model FILE      their model: for character noise and other texts in reports
  --tokenizer moses|none    how it was tokenized before (default: none)
  --lowercased              it was lowercased, and the references are, too
END
}
help_or_continue "$@"
set_up
exec "$python" -m el_fairseq.corpora.data_bin "$@"
