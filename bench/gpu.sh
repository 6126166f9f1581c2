#!/usr/bin/env bash
# Builds, tests and measures on this machine's GPU, without a network. Each of these takes under
# 9 minutes, the limits of its steps added up:
#
#   bench/gpu.sh                                               is it right? how fast are the ops?
#   bench/gpu.sh build throughput-64 throughput-128 training   how fast are training steps? a run
#   bench/gpu.sh build compiled-64                             the steps again, with what compiles
#   bench/gpu.sh build compiled-128
#   bench/gpu.sh build parity-64                               are the images as good? (needs scipy)
#   bench/gpu.sh build parity-128
#
#   bench/gpu.sh [STEP...]    of: build env gpu-tests native-tests triton-tests memcheck racecheck
#                                 large kernels throughput-64 throughput-128 compiled-64
#                                 compiled-128 training parity-64 parity-128
#
#   PYTHON   an interpreter that has PyTorch (default: python3)
#   OUT      where results go (default: bench/results/NAME-OF-THE-GPU)
#   WHEELS   a folder of wheels that PYTHON lacks; they are installed for this run only
#   DATA     what is trained on: a folder of images (default: phantom, the embedded set)
#
# A step that fails or meets its limit of time does not stop the next. The exit status is how many
# did. The benchmark of the ops, the training and the parity take what time is left; parity keeps
# its trainings in runs/, so that a second call adds the seeds that did not fit into the first. OUT
# gets env.json, kernels.json, throughput_*.json, parity_*.json, the tests' *.xml, training.json
# with its last grid and progress.gif, log.txt and, last, summary.txt.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
# Compiling takes most of the benchmark's time: torch.compile and Triton are measured on these.
COMPILED="64x64x32x32 64x32x128x128"
TOTAL=530 # seconds that everything may take
LEAST=60  # of them for the benchmark, however long the steps before it took
GRACE=8 # seconds between asking a step to stop, so that it keeps what it has, and ending it
MOST_WORKERS=8 # each has a context of its own on the GPU

build() {
  command -v nvcc >/dev/null || export PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
  if ! "$PYTHON" -m pip install --no-build-isolation --no-deps -e .; then
    echo "pip cannot install into this Python: built in place instead"
    "$PYTHON" setup.py build_ext --inplace || return
    # What an installation maps to that name.
    if [ -d kernels ] && [ ! -e cxrgan_fast/kernels ]; then ln -sv ../kernels cxrgan_fast/; fi
  fi
  "$PYTHON" -c "from cxrgan_fast import _C; print(_C.__file__, _C.build_info())"
}

environment() { # once: to start PyTorch and the GPU takes seconds
  "$PYTHON" -m cxrgan_fast.env --json | tee "$OUT/env.json"
}

tests() { # NAME PYTEST-ARGUMENTS...
  # What a tile of Triton's computes does not depend on its size: tests are not to look for the
  # fastest, at each of their hundreds of shapes.
  export CXRGAN_TRITON_TUNE=0
  exec_python -m pytest -q --junitxml="$OUT/$1.xml" "${@:2}"
}

tests_in_parallel() { # where pytest-xdist is installed
  local workers
  workers=$(nproc)
  if "$PYTHON" -c "import xdist" 2>/dev/null; then
    tests "$@" -n $((workers < MOST_WORKERS ? workers : MOST_WORKERS))
  fi
  tests "$@"
}

triton_tests() { # but for hundreds of shapes a test: each class of them is compiled for
  tests_in_parallel triton-tests tests/ops tests/kernels/test_kernels.py \
    -k "(triton-cuda and not any_shape) or test_kernels"
}

sanitize() { # TOOL OPTIONS...
  local sanitizer cuda=${CUDA_HOME:-/usr/local/cuda}
  sanitizer=$(PATH=$PATH:$cuda/bin:$cuda/compute-sanitizer command -v compute-sanitizer) || {
    echo "there is no compute-sanitizer here"
    return "$SKIPPED"
  }
  # A tensor beside another in one cached block hides what is written past its end.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  exec "$sanitizer" --tool "$1" --error-exitcode 9 "${@:2}" "$PYTHON" -m bench.sanitize
}

kernels() {
  # shellcheck disable=SC2086 # a list
  exec_python -m bench.kernels --device cuda --out "$OUT/kernels.json" --seconds-per-case 0.3 \
    --compiled-shapes $COMPILED
}

throughput() { # RESOLUTION NAME-OF-THE-FILE ARGUMENTS...
  exec_python -m bench.throughput --device cuda --preset base --resolution "$1" --batch-size 64 \
    --out "$OUT/$2_$1.json" "${@:3}"
}

training() { # SECONDS: a run that ends within them, and what it measured
  # The rest is to load the images, to write, and to end. 0 minutes would be no limit.
  local runs seconds=$(($1 > 90 ? $1 - 60 : $1 / 3))
  runs=$(mktemp -d)
  "$PYTHON" -m cxrgan_fast.train --device cuda --data "${DATA:-phantom}" --resolution 64 \
    --steps 1000000 --out "$runs" --max-minutes "$(awk "BEGIN { print $seconds / 60 }")" || return
  local run=("$runs"/*)
  "$PYTHON" -m bench.training_run "${run[0]}" "$OUT/training.json" || return
  cp "$(printf '%s\n' "${run[0]}"/grids/*.png | tail -n 1)" "$OUT/training.png"
  cp "${run[0]}/progress.gif" "$OUT/training.gif"
  rm -rf "$runs"
}

parity() { # RESOLUTION STEPS SNAPSHOTS SECONDS: as many seeds, to 5, as fit into them
  # A seed may take somewhat longer than those before it, by which that is judged.
  exec_python -m bench.parity --device cuda --data "${DATA:-phantom}" --resolution "$1" \
    --steps "$2" --snapshots "$3" --minutes "$(awk "BEGIN { print 0.9 * $4 / 60 }")" \
    --out "$OUT/parity_$1.json"
}

exec_python() { exec "$PYTHON" "$@"; } # so that what ends a step reaches it, not a shell

time_left() {
  local left=$((TOTAL - GRACE - SECONDS))
  echo $((left > LEAST ? left : LEAST))
}

limit_and_command() { # STEP
  case $1 in
  build) echo 75 build ;;
  env) echo 25 environment ;;
  gpu-tests) echo 60 tests_in_parallel gpu-tests tests/gpu ;;
  native-tests) echo 60 tests_in_parallel native-tests tests/ops -k native-cuda ;;
  triton-tests) echo 50 triton_tests ;;
  # PyTorch asks the driver things that it refuses, and copes: no errors of the kernels'.
  memcheck) echo 40 sanitize memcheck --report-api-errors no ;;
  racecheck) echo 40 sanitize racecheck ;;
  large) echo 40 tests large tests/ops/test_large_tensors.py -m slow -k cuda ;;
  kernels) echo "$(time_left)" kernels ;;
  # What compiles would take more than everything else: a step of its own.
  throughput-64 | throughput-128)
    echo 75 throughput "${1#*-}" throughput --seconds 15 \
      --variants reference reference_amp eager graph floor
    ;;
  compiled-64 | compiled-128) echo 440 throughput "${1#*-}" throughput_compiled --seconds 20 ;;
  training) echo "$(time_left)" training "$(time_left)" ;;
  parity-64) echo "$(time_left)" parity 64 1000 5 "$(time_left)" ;;
  parity-128) echo "$(time_left)" parity 128 500 5 "$(time_left)" ;;
  *) return 1 ;;
  esac
}

# --- Running steps -----------------------------------------------------------------------------

SKIPPED=77

if [ "${1:-}" = --step ]; then # how the script calls itself, in a process that can be stopped
  shift
  "$@"
  exit
fi

steps=("$@")
[ $# -gt 0 ] ||
  steps=(build env gpu-tests native-tests triton-tests memcheck racecheck large kernels)
for step in "${steps[@]}"; do
  limit_and_command "$step" >/dev/null || {
    echo "error: no step $step; see the head of $0" >&2
    exit 2
  }
done

name=$("$PYTHON" -c "import torch; print(torch.cuda.get_device_name())") || {
  echo "error: $PYTHON has no PyTorch that sees a GPU" >&2
  exit 2
}
slug=$(echo "$name" | tr 'A-Z ' 'a-z_' | tr -cd 'a-z0-9_-')
OUT=${OUT:-bench/results/$slug}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 2
export PYTHON OUT SKIPPED PYTHONUNBUFFERED=1

scratch=$(mktemp -d)
child=
trap 'rm -rf "$scratch"' EXIT
trap '[ -z "$child" ] || kill -INT -- "-$child" 2>/dev/null; exit 130' INT TERM
if [ -n "${WHEELS:-}" ]; then
  "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$scratch/site" "$WHEELS"/*.whl ||
    exit 2
  export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH}
fi

: >"$OUT/log.txt"
failed=0
rows=()
for step in "${steps[@]}"; do
  read -r limit command <<<"$(limit_and_command "$step")"
  echo "== $step, at most $limit s" | tee -a "$OUT/log.txt"
  start=$SECONDS
  # A process group of its own: what it has started ends with it, and SIGINT is not ignored.
  set -m
  # shellcheck disable=SC2086 # words
  timeout --signal=INT --kill-after=$GRACE "$limit" \
    bash "$PWD/bench/gpu.sh" --step $command </dev/null >"$scratch/log" 2>&1 &
  child=$!
  set +m
  wait "$child"
  status=$?
  kill -KILL -- "-$child" 2>/dev/null
  child=
  cat "$scratch/log" >>"$OUT/log.txt"
  # A sanitizer that cannot look into this GPU, or is not let, has found nothing either way.
  case $step in
  memcheck | racecheck) grep -q "Device not supported" "$scratch/log" && status=$SKIPPED ;;
  esac
  shown=3
  case $status in
  0) result=passed ;;
  "$SKIPPED") result=skipped ;;
  124 | 137) result="stopped at its limit" ;;
  *) result="failed ($status)" ;;
  esac
  if [ "$result" != passed ] && [ "$result" != skipped ]; then
    failed=$((failed + 1))
    shown=40
  fi
  tail -n $shown "$scratch/log"
  rows+=("$(printf '%-12s %5d s  %s' "$step" $((SECONDS - start)) "$result")")
done
{
  echo "$name: $failed of ${#steps[@]} steps failed, $SECONDS s"
  printf '%s\n' "${rows[@]}"
} | tee "$OUT/summary.txt"
exit "$failed"
