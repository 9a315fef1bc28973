#!/bin/sh
# One scan by 64 tasks: each takes a shard. A task that is requeued, or submitted again, resumes from its journal.
#
#   array=$(sbatch --parsable deploy/slurm/scan.sh /catalogue /reports)
#   sbatch --dependency="afterok:$array" deploy/slurm/merge.sh /reports
#   sbatch --array=7,12 deploy/slurm/scan.sh /catalogue /reports     # tasks that failed
#
# For another number of shards, change both --array and `shards`.
#SBATCH --job-name=sonicscan
#SBATCH --array=1-64
#SBATCH --cpus-per-task=8
#SBATCH --mem=12G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -eu
library=${1:?usage: sbatch scan.sh LIBRARY REPORTS}
reports=${2:?usage: sbatch scan.sh LIBRARY REPORTS}
# Slurm's own count of tasks is smaller if only some of them are submitted again.
shards=64
# srun gives the signal to sonicscan itself, which then keeps its progress and ends.
exec srun sonicscan "$library" --shard "$SLURM_ARRAY_TASK_ID/$shards" \
    --out "$reports/part$SLURM_ARRAY_TASK_ID.parquet" --max-errors 1%
