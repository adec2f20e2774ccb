#!/usr/bin/env bash
set -euo pipefail
# Sourced by the scripts of the IWSLT corpora: the way from the archive to what fairseq-train reads.
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

# prepare MODULE NAME SIZE_OPTION SIZE ARGUMENTS...: SIZE_OPTION is what the size of the subword
# vocabulary is called; the sourcing script has the function "subwords FOLDER SIZE" and
# "preprocess OPTIONS...", which calls fairseq-preprocess.
prepare() {
  local module=$1 name=$2 size_option=$3 size=$4
  local pair=${name#*-} out=$root/data/$2 unfinished
  local -a fetching=()
  shift 4
  while [ $# -gt 0 ]; do
    case $1 in
      --out | --"$size_option" | --archive | --url | --checksum | --moses-dir | --workers)
        [ $# -ge 2 ] || wrong_usage "$1 needs a value" ;;
      *) wrong_usage "unknown argument '$1'" ;;
    esac
    case $1 in
      --out) out=$2 ;;
      --"$size_option") size=$2 ;;
      *) fetching+=("$1" "$2") ;;
    esac
    shift 2
  done

  if [ -d "$out" ]; then
    say "The corpus is there: $out"
    return
  fi
  set_up
  unfinished=$(dirname "$out")/.$(basename "$out").unfinished
  mkdir -p "$(dirname "$out")"
  only_one "$unfinished.lock" "$out is being made"
  rm -rf "$unfinished"
  mkdir "$unfinished"

  say "Extracting and tokenizing."
  "$python" -m "el_fairseq.corpora.$module" --cache "$(dirname "$out")/archives" --out "$unfinished" \
    "${fetching[@]}"
  say "Learning and applying subwords ($size_option: $size)."
  quietly "$unfinished/subwords.log" subwords "$unfinished" "$size"
  say "Binarizing for fairseq."
  quietly "$unfinished/preprocess.log" preprocess \
    --source-lang "${pair%-*}" --target-lang "${pair#*-}" \
    --trainpref "$unfinished/bpe/train" --validpref "$unfinished/bpe/valid" \
    --testpref "$unfinished/bpe/test" --destdir "$unfinished/bin" --workers 2
  "$python" -m el_fairseq.corpora.manifest "$module" "$unfinished"
  mv "$unfinished" "$out"
  rm -f "$unfinished.lock"
  say "The corpus is ready: $out"
}
