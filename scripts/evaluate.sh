#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/evaluate.sh RUN [--data DIR] [--last N | --best] [--subset NAME]
                                [-- fairseq-generate options]

Translates a test set with a trained run and scores all of it: averages the last N epoch
checkpoints, runs fairseq-generate with beam 5, and has sacreBLEU score the detokenized output.

  RUN             the run's folder, as scripts/train.sh made it
  --data DIR      the corpus (default: the one the run was trained on)
  --last N        how many epoch checkpoints to average (default: 3)
  --best          take checkpoint_best.pt instead of an average
  --subset NAME   valid or test (default: test)
  -- ...          more options for fairseq-generate

In RUN/evaluation/SUBSET-averagedN (or SUBSET-best): generate-SUBSET.txt, hypotheses.LANGUAGE,
scores.json and scores.txt. Delete that folder to evaluate again.
END
}
help_or_continue "$@"
[ $# -ge 1 ] || wrong_usage "name a run's folder"
run=$1
shift
data='' last=3 best='' subset=test
while [ $# -gt 0 ]; do
  case $1 in
    --data | --last | --subset)
      [ $# -ge 2 ] || wrong_usage "$1 needs a value"
      declare "${1#--}=$2"
      shift ;;
    --best) best=yes ;;
    --) shift; break ;;
    *) wrong_usage "unknown option '$1'" ;;
  esac
  shift
done
[ -f "$run/run.json" ] || die "$run holds no run.json: train it first (bash scripts/train.sh --help)"
case $last in '' | *[!0-9]* | 0) wrong_usage "--last is '$last', expected a whole number from 1" ;; esac

model=averaged$last
[ -z "$best" ] || model=best
out=$run/evaluation/$subset-$model
set_up
if [ ! -f "$out/scores.txt" ]; then
  [ -n "$data" ] || data=$(json_field "$run/run.json" data)
  [ -f "$data/manifest.json" ] || die "there is no $data/manifest.json: prepare the corpus, or name it by --data"
  subwords=$(json_field "$data/manifest.json" subwords)
  case $subwords in sentencepiece) remove=sentencepiece ;; *) remove='@@ ' ;; esac
  device=()
  "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || device=(--cpu)

  mkdir -p "$run/evaluation"
  unfinished=$run/evaluation/.$subset-$model.unfinished
  only_one "$unfinished.lock" "$out is being made"
  rm -rf "$unfinished" "$out"
  mkdir "$unfinished"
  checkpoint=$run/checkpoints/checkpoint_best.pt
  if [ -z "$best" ]; then
    checkpoint=$unfinished/averaged.pt
    "$python" -m el_fairseq.runs.average "$run/checkpoints" --last "$last" --output "$checkpoint" >&2
  fi
  say "Translating the $subset set with $(basename "$run")."
  quietly "$unfinished/generate.log" fairseq-generate "$data/bin" --user-dir "$root/el_fairseq" \
    --path "$checkpoint" --gen-subset "$subset" --beam 5 --batch-size 128 --remove-bpe "$remove" \
    --required-batch-size-multiple 1 --results-path "$unfinished" "${device[@]}" "$@"
  "$python" -m el_fairseq.runs.scoring "$unfinished" --data "$data" --subset "$subset"
  mv "$unfinished" "$out"
  rm -f "$unfinished.lock"
fi
cat "$out/scores.txt"
