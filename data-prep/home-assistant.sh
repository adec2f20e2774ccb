#!/usr/bin/env bash
# Makes a real parallel corpus that needs nothing but pip: the short strings of Home Assistant, in
# German or French and English.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

run_module el_fairseq.corpora.home_assistant "$@"
