#!/bin/sh
# One whole model to record, before and after PV-tuning; then both evaluated into one file.
#
#     sh bench/models.sh FOLDER RECORDING [OPTION...]
#
# Options are those of `quantcore quantize`; FOLDER-tuned is written beside FOLDER, and RECORDING
# takes on further models. Run again, it goes on. STEPS, TEXT and WINDOWS may be set outside.
set -e
folder=$1 recording=$2 text=${TEXT:-default}
shift 2
quantcore quantize --beam 4 --sweeps 2 --text "$text" --out "$folder" "$@"
quantcore tune "$folder" --out "$folder-tuned" --steps "${STEPS:-32}" --window 256 --every 8 \
    --text "$text"
quantcore evaluate "$folder" "$folder-tuned" --window 512 ${WINDOWS:+--windows "$WINDOWS"} \
    --text "$text" --json "$recording"
