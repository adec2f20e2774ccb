#!/usr/bin/env bash
# A batch job for Slurm: trains and scores an experiment, each run a task of an array. Edit the lines
# below for your cluster and your experiment; then, in the repository on a login node:
#   EL_TORCH=cuda bash data-prep/iwslt14-de-en.sh   makes the environment and prepares the data
#   sbatch scripts/slurm.sh                         submits; again: what is finished ends at once
#   bash scripts/table.sh iwslt14-de-en             prints the table of the runs that are finished
#SBATCH --array=0-9%4
#SBATCH --nodes=1 --ntasks=1 --cpus-per-task=4 --gpus-per-node=1
#SBATCH --mem=32G --time=8:00:00
#SBATCH --requeue --open-mode=append --output=slurm-%A_%a.log
#SBATCH --signal=B:USR1@600
set -euo pipefail
case ${1:-} in -h | --help) sed -n '1d; /^#SBATCH/q; s/^# \?//p' "$0" && exit ;; esac
experiment=iwslt14-de-en
cd "${SLURM_SUBMIT_DIR:?: submit this script, from the repository: sbatch scripts/slurm.sh}"

# Ten minutes before its time ends, the job's shell gets SIGUSR1: the training stops after its next
# checkpoint, with status 75, and goes on when the queue has time for it again.
warned=yes status=0
trap 'warned=yes; kill -USR1 "${!:-}" || true' USR1
bash scripts/reproduce.sh "$experiment" --task "$SLURM_ARRAY_TASK_ID" "$@" &
while [ -n "$warned" ]; do
  warned='' status=0
  wait "$!" || status=$?
done
[ "$status" -ne 75 ] || scontrol requeue "$SLURM_JOB_ID"
exit "$status"
