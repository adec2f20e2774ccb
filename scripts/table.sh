#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/table.sh iwslt14-de-en|iwslt17-fr-en [--runs DIR]

Prints the table of an experiment as far as its runs are finished: mean and standard deviation
over seeds, the paper's figures, the differences between EL and CE, and how sure they are.

  --runs DIR   folder with results.json (default: runs/EXPERIMENT)

The same goes to table.md and table.csv in that folder.
END
}
help_or_continue "$@"
[ $# -ge 1 ] || wrong_usage "name an experiment: iwslt14-de-en or iwslt17-fr-en"
set_up
exec "$python" -m el_fairseq.experiments.comparison "$@"
