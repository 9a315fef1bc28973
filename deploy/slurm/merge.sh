#!/bin/sh
# Joins the reports of scan.sh.
#SBATCH --job-name=sonicscan-merge
#SBATCH --time=01:00:00
set -eu
reports=${1:?usage: sbatch merge.sh REPORTS}
exec sonicscan-report merge "$reports"/part*.parquet --out "$reports/all.parquet"
