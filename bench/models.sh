#!/bin/sh
# The recorded whole models: three initialisers at one scheme, before and after PV-tuning, on one text.
#
#     sh bench/models.sh WORK [SCHEME [MINUTES]]
#
# WORK takes the models' folders; run again, it goes on. Documents go to assets/recordings.
set -e
work=$1 scheme=${2:-2x8g8} minutes=${3:-3}
candidates=""
for init in greedy oa-em-adam oa-em; do
    model=$work/$scheme-$init
    quantcore quantize --scheme "$scheme" --init $init --beam 4 --sweeps 2 --out "$model"
    quantcore tune "$model" --out "$model-tuned" --minutes "$minutes" --window 256 --change 0
    candidates="$candidates $model $model-tuned"
done
quantcore evaluate $candidates --window 512 --windows 12 --json "assets/recordings/models-$scheme.json"
