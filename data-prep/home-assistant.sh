#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
  cat <<'END'
Usage: bash data-prep/home-assistant.sh de-en|fr-en [options]

Makes a real parallel corpus that needs nothing but pip: the short strings of Home Assistant, from
its wheel to what fairseq-train reads. About 16,000 training pairs for de-en, 7,000 for fr-en.

  --archive FILE       the wheel (default: data/archives/homeassistant-2026.2.3-py3-none-any.whl,
                       which pip downloads where it is not there; 51 MB)
  --out DIR            the corpus (default: data/home-assistant-PAIR)
  --max-words N        leave pairs out that have more words on a side (default: 10)
  --pieces N           size of the joint vocabulary (default: 2000)
  --test-twentieths N  how many twentieths of the pairs are the test set (default: 2); one is the
                       validation set, the others are the training set

In DIR: manifest.json (what was kept and dropped), text/, bpe/ (SentencePiece), bin/ (fairseq).
END
}
help_or_continue "$@"

pair=
archive=$root/data/archives/homeassistant-2026.2.3-py3-none-any.whl
out=
max_words=10
pieces=2000
test_twentieths=2
while [ $# -gt 0 ]; do
  case $1 in
    de-en | fr-en) pair=$1 ;;
    --archive | --out | --max-words | --pieces | --test-twentieths)
      [ $# -ge 2 ] || wrong_usage "$1 needs a value"
      name=${1#--}
      declare "${name//-/_}=$2"
      shift ;;
    *) wrong_usage "unknown pair or option '$1'; the pairs are de-en and fr-en" ;;
  esac
  shift
done
[ -n "$pair" ] || wrong_usage "name a pair: de-en or fr-en"
out=${out:-$root/data/home-assistant-$pair}

if [ -d "$out" ]; then
  say "The corpus is there: $out"
  exit 0
fi
set_up
unfinished=$(dirname "$out")/.$(basename "$out").unfinished
mkdir -p "$(dirname "$out")"
only_one "$unfinished.lock" "$out is being made"
rm -rf "$unfinished"
mkdir "$unfinished"

say "Extracting the $pair strings of Home Assistant."
"$python" -m el_fairseq.corpora.home_assistant "$pair" --archive "$archive" --out "$unfinished" \
  --max-words "$max_words" --test-twentieths "$test_twentieths"
say "Learning and applying $pieces joint SentencePiece pieces."
"$python" -m el_fairseq.corpora.subwords "$unfinished" --pieces "$pieces"
say "Binarizing for fairseq."
quietly "$unfinished/preprocess.log" fairseq-preprocess \
  --source-lang "${pair%-*}" --target-lang "${pair#*-}" --joined-dictionary \
  --trainpref "$unfinished/bpe/train" --validpref "$unfinished/bpe/valid" \
  --testpref "$unfinished/bpe/test" --destdir "$unfinished/bin" --workers 2
mv "$unfinished" "$out"
rm -f "$unfinished.lock"
say "The corpus is ready: $out"
