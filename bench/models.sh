#!/bin/sh
# Whole models to record: each initialiser at one scheme, before and after PV-tuning, on one text.
#
#     sh bench/models.sh WORK RECORDING [SCHEME [MINUTES [TEXT [INIT...]]]]
#
# WORK takes the models' folders and RECORDING the evaluation; run again, it goes on. All
# initialisers if none is named.
set -e
work=$1 recording=$2 scheme=${3:-2x8g8} minutes=${4:-2} text=${5:-default}
[ $# -gt 5 ] && shift 5 || set -- greedy oa-em-adam oa-em
models=""
for init; do
    model=$work/$scheme-$init
    quantcore quantize --scheme "$scheme" --init "$init" --beam 4 --sweeps 2 --text "$text" \
        --out "$model"
    quantcore tune "$model" --out "$model-tuned" --minutes "$minutes" --window 256 --change 0 \
        --every 8 --text "$text"
    models="$models $model $model-tuned"
done
# shellcheck disable=SC2086 # a list of words
quantcore evaluate $models --window 512 --text "$text" --json "$recording"
