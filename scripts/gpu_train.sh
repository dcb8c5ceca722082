#!/usr/bin/env bash
# On a training machine without a network, in a copy of this repository with .kit/ in it:
#     OUT=results SECONDS_LEFT=560 bash scripts/gpu_train.sh [key=value ...]
# Renders songs with all cores, trains on them from the first hour on, and leaves in $OUT the averaged weights as
# shards of at most 16 MiB, the config and the log. Called again it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-results} HOURS=${HOURS:-40} SECONDS_LEFT=${SECONDS_LEFT:-560} CONFIG=${CONFIG:-configs/forge-gpu.toml}
RUN=${RUN:-/tmp/stemforge/run} DATA=${DATA:-/tmp/stemforge/songs} SITE=/tmp/stemforge/site
mkdir -p "$OUT" "$RUN" "$DATA"
if [ ! -d "$SITE" ]; then
  tar xJf .kit/mma.tar.xz -C /
  python3 -m pip install -q --no-index --no-deps --no-compile --target "$SITE" .kit/wheels/*.whl
fi
export PYTHONPATH="$SITE:src" PYTHONUNBUFFERED=1
if [ ! -e "$DATA/.started" ]; then
  touch "$DATA/.started"
  OMP_NUM_THREADS=1 setsid nohup python3 -m stemforge data render --assets .kit/assets --hours "$HOURS" --seed 1 \
    --jobs "$(( $(nproc) - 2 ))" --format npy --out "$DATA/train" >"$DATA/render.log" 2>&1 &
fi
until [ "$(find "$DATA/train" -maxdepth 1 -mindepth 1 -type d -not -name '.*' 2>/dev/null | wc -l)" -ge "${FIRST_SONGS:-60}" ]; do
  sleep 2
done
timeout --signal=TERM --kill-after=60 "$SECONDS_LEFT" \
  python3 -m stemforge train "$CONFIG" "$@" --data "$DATA/train" --valid .kit/valid --out "$RUN" --device cuda || true
cp "$RUN/config.json" "$OUT/"
cat "$RUN"/logs/from-*/metrics.csv >"$OUT/metrics.csv"
tail -n 3 "$DATA/render.log" | cut -c1-300
python3 - "$RUN/model.safetensors" "$OUT" <<'PY'
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

half = {k: v.half() for k, v in load_file(sys.argv[1]).items()}
whole = Path("/tmp/stemforge/model.safetensors")
save_file(half, whole)
data = whole.read_bytes()
size = 15 * 2**20
for k in range(0, len(data), size):
    (Path(sys.argv[2]) / f"model.safetensors.{k // size:02d}").write_bytes(data[k : k + size])
print(f"{len(data) / 2**20:.1f} MiB in {-(-len(data) // size)} shards; join them with: cat model.safetensors.* > model.safetensors")
PY
