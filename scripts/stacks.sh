#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/stacks.sh [--dir DIR] [STACK ...]

Runs the tests of loss, kernels and criterion on old and new versions of what they stand on, and
compares the losses of the first fifty updates of the same trainings. Stacks (default: all):

  python3.11   the versions of scripts/constraints*.txt on Python 3.11
  python3.12   the same on Python 3.12
  stock        stock fairseq 0.12.2 with torch 1.12.1, on Python 3.8: also the oldest torch
  newest       the newest torch that pip finds, without fairseq: the plain loss

A stack whose Python is missing, or whose packages cannot be had, is left out, and the table says
why. The table ends up in DIR/stacks.md, what each test said in DIR/results. Status 1: a test
failed, or losses differ by more than 0.0001.

  --dir DIR   where the environments are made and kept, up to 6 GB each (default: runs/stacks)
END
}
help_or_continue "$@"
dir=$root/runs/stacks
stacks=()
while [ $# -gt 0 ]; do
  case $1 in
    --dir)
      [ $# -ge 2 ] || wrong_usage "--dir needs a folder"
      dir=$2
      shift
      ;;
    python3.11 | python3.12 | stock | newest) stacks+=("$1") ;;
    *) wrong_usage "unexpected argument '$1', expected --dir or one of python3.11 python3.12 stock newest" ;;
  esac
  shift
done
[ ${#stacks[@]} -gt 0 ] || stacks=(python3.11 python3.12 stock newest)
set_up
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
only_one "$dir/lock" "$dir is in use"
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1

# find_python 3.8: a Python of this version, printed; status 1 where there is none.
find_python() {
  local candidate
  for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
    if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  command -v uv >/dev/null && uv python find "$1" 2>/dev/null
}

# Where every stack comes from: of_pinned 3.11, or of_pip 3.8 REQUIREMENT..., in DIR/$stack.
of_pinned() {
  EL_PYTHON=$(find_python "$1") EL_VENV=$dir/$stack bash "$root/scripts/setup.sh" --tests
}
of_pip() {
  local here=$dir/$stack/bin/python wanted stamp=$dir/$stack/.el-fairseq
  wanted="$root ${*:2} $(cksum <"$root/setup.py")"
  [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
  "$here" -m pip --version || "$(find_python "$1")" -m venv --clear "$dir/$stack"
  # Later versions of pip refuse what stock fairseq asks of omegaconf.
  "$here" -m pip install -q 'pip<24.1' &&
    "$here" -m pip install -q "${@:2}" pytest hypothesis &&
    echo "$wanted" >"$stamp"
}

make_stack() {
  case $stack in
    python*) of_pinned "${stack#python}" ;;
    stock) of_pip 3.8 -e "${root}[fairseq]" tensorboardX ;;
    newest) of_pip 3.11 -e "$root" torch ;;
  esac
}

tests_of() {
  echo tests/test_loss.py tests/ops
  [ "$stack" = newest ] || echo tests/test_criterion.py tests/criterion
}

for stack in "${stacks[@]}"; do
  results=$dir/results/$stack
  rm -rf "$results"
  mkdir -p "$results/work"
  case $stack in python*) version=${stack#python} ;; stock) version=3.8 ;; newest) version=3.11 ;; esac
  if ! find_python "$version" >/dev/null; then
    echo "no Python $version was found (pyenv and uv bring one)" >"$results/skipped"
    continue
  fi
  say "$stack: making the environment."
  if ! make_stack >"$results/install.txt" 2>&1; then
    echo "its packages could not be installed: $(grep -v '^ *$' "$results/install.txt" | tail -n 1)" \
      >"$results/skipped"
    continue
  fi
  say "$stack: running the tests."
  # shellcheck disable=SC2046  # several words
  (cd "$root" && "$dir/$stack/bin/python" -m pytest -q -rs --tb=short -p no:cacheprovider \
    $(tests_of)) >"$results/tests.txt" 2>&1 || say "$stack: tests failed, see $results/tests.txt"
  if "$dir/$stack/bin/python" "$root/tests/stack_losses.py" "$results/work" \
    >"$results/work/losses.json" 2>"$results/losses.log"; then
    mv "$results/work/losses.json" "$results/losses.json"
  else
    say "$stack: training failed, see $results/losses.log"
  fi
done
status=0
"$python" "$root/tests/stack_table.py" "$dir/results" "${stacks[@]}" >"$dir/stacks.md.part" || status=$?
mv "$dir/stacks.md.part" "$dir/stacks.md"
cat "$dir/stacks.md"
exit "$status"
