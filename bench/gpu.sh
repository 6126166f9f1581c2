#!/usr/bin/env bash
# Builds, tests and measures on this machine's GPU, without a network. Each of these takes under
# 9 minutes, the limits of its steps added up, and begins with what it would cost most not to have:
#
#   bench/gpu.sh                                              is it right? how fast is what trains?
#   bench/gpu.sh build throughput-128 training compiled-64    a run; steps against what compiles
#   bench/gpu.sh build triton-tests compile-tests large parity-64    are the images as good?
#
# and for what those leave: bench/gpu.sh build compiled-128, and bench/gpu.sh build parity-128.
#
#   bench/gpu.sh [STEP...]    of: build first-minute kernels-bf16 throughput-64 gpu-tests
#                                 native-tests memcheck racecheck kernels throughput-128 training
#                                 compiled-64 compiled-128 triton-tests compile-tests large
#                                 parity-64 parity-128; without any, the first nine
#
#   PYTHON     an interpreter that has PyTorch (default: python3)
#   OUT        where results go (default: bench/results/NAME-OF-THE-GPU)
#   WHEELS     a folder of wheels that PYTHON lacks; they are installed for this run only. What
#              lacks and how to have it is said first: see STEPS
#   EXTENSION  cxrgan_fast/_C.*.so as it was built elsewhere, for the same version of Python and
#              this GPU, instead of building it here. For an H100, where nvcc is but no GPU:
#                  CXRGAN_CUDA_ARCHS=90 python3 setup.py build_ext --inplace
#   DATA       what is trained on: a folder of images (default: phantom, the embedded set)
#
# A step that fails, meets its limit of time or lacks a package does not stop the next. The exit
# status is how many did. The benchmark of the ops, what compiles and the parity take what time is
# left; parity keeps its trainings in runs/, so that a second call adds the seeds that did not fit
# into the first. OUT gets first_minute.json, kernels*.json, throughput_*.json, parity_*.json, the
# tests' *.xml, training.json with its last grid and progress.gif, log.txt and, last, summary.txt.
# Each of them holds what was measured when its step was stopped.

# A step, the seconds that it may take (rest: what is left of all), the Python packages that it needs
# beside PyTorch, which brings NumPy and Triton, by the names that pip knows, and after the colon what
# it does. Without the packages in brackets it loses a part, or time, only. What is compiled is
# measured on a few shapes: compiling takes most of a benchmark's time. PyTorch asks the driver things
# that it refuses, and copes: API errors are none of the kernels'.
STEPS="
build           75    pybind11 setuptools : build
first-minute    65    (pillow safetensors tqdm) : first_minute
kernels-bf16    60    tqdm : kernels kernels_bf16 --dtypes bfloat16 --layouts channels_last --against eager --compiled-shapes
throughput-64   60    pillow safetensors tqdm : throughput 64 throughput --seconds 12 --variants reference_amp eager graph floor
gpu-tests       40    pytest (pillow safetensors tqdm pytest-xdist) : gpu_tests
native-tests    45    pytest (hypothesis pillow tqdm pytest-xdist) : native_tests
memcheck        40    : sanitize memcheck 25 --report-api-errors no
racecheck       35    : sanitize racecheck 20
kernels         rest  tqdm : kernels kernels --compiled-shapes 64x64x32x32 64x32x128x128
throughput-128  60    pillow safetensors tqdm : throughput 128 throughput --seconds 12 --variants reference_amp eager graph floor
training        150   pillow pydantic pyyaml safetensors tensorboard tqdm tyro : training 150
compiled-64     rest  pillow safetensors tqdm : throughput 64 throughput_compiled --seconds 15
compiled-128    rest  pillow safetensors tqdm : throughput 128 throughput_compiled --seconds 15
triton-tests    180   pytest (hypothesis pillow tqdm pytest-xdist) : triton_tests
compile-tests   50    pytest (pillow tqdm pytest-xdist) : compile_tests
large           60    pytest : tests large tests/ops/test_large_tensors.py -m slow -k cuda
parity-64       rest  pillow pydantic safetensors scipy tqdm : parity 64 1000 5 REST
parity-128      rest  pillow pydantic safetensors scipy tqdm : parity 128 500 5 REST
"

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
TOTAL=530 # seconds that everything may take
LEAST=35  # of them for the step that takes what is left, however long those before it took
GRACE=8 # seconds between asking a step to stop, so that it keeps what it has, and ending it
MOST_WORKERS=8 # each has a context of its own on the GPU

build() {
  if [ -n "${EXTENSION:-}" ]; then
    [ "$EXTENSION" -ef "cxrgan_fast/${EXTENSION##*/}" ] || cp -v "$EXTENSION" cxrgan_fast/ || return
    link_kernels
  else
    command -v nvcc >/dev/null || export PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
    if ! "$PYTHON" -m pip install --no-build-isolation --no-deps -e .; then
      echo "pip cannot install into this Python: built in place instead"
      "$PYTHON" setup.py build_ext --inplace || return
      link_kernels
    fi
  fi
  check_extension
}

link_kernels() { # what an installation maps to that name
  if [ -d kernels ] && [ ! -e cxrgan_fast/kernels ]; then ln -sv ../kernels cxrgan_fast/; fi
}

check_extension() { # a carried one may be of another Python, of another GPU, or without CUDA
  "$PYTHON" -c "
import os, sys
from cxrgan_fast.ops import available_backends
from cxrgan_fast.ops.backend import load_native
core, reason = load_native()
if core is None:
    sys.exit(reason)
print(core.__file__, core.build_info())
carried = os.environ.get('EXTENSION')
if carried and os.path.basename(carried) != os.path.basename(core.__file__):
    sys.exit(f'EXTENSION: {carried} is not what this Python imports')
sys.exit(available_backends()['native'].why_not.get('cuda'))"
}

first_minute() {
  exec_python -m bench.first_minute --device cuda --json "$OUT/first_minute.json"
}

tests() { # NAME PYTEST-ARGUMENTS...
  # What a tile of Triton's computes does not depend on its size: tests are not to look for the
  # fastest, at each of their hundreds of shapes.
  export CXRGAN_TRITON_TUNE=0
  # A file that cannot be imported, since a package is missing, does not cost the others. Both tiers
  # and whole products of parameters run: on a GPU each case takes milliseconds.
  exec_python -m pytest -q -m "not slow" --products --continue-on-collection-errors \
    --junitxml="$OUT/$1.xml" "${@:2}"
}

tests_in_parallel() { # where pytest-xdist is installed
  local workers
  workers=$(nproc)
  if "$PYTHON" -c "import xdist" 2>/dev/null; then
    tests "$@" -n $((workers < MOST_WORKERS ? workers : MOST_WORKERS))
  fi
  tests "$@"
}

# Triton's kernels are compiled for every class of shapes, and inductor's for every test: that takes
# minutes, and is not what a training runs in. The tests of hundreds of shapes leave Triton out.
COMPILED_TESTS="compile or inductor or one_graph"

gpu_tests() {
  tests_in_parallel gpu-tests tests/gpu -k "not triton and not backends_agree"
}

native_tests() {
  tests_in_parallel native-tests tests/ops -k "native-cuda and not ($COMPILED_TESTS)"
}

triton_tests() {
  tests_in_parallel triton-tests tests/gpu tests/ops tests/kernels/test_kernels.py \
    -k "(triton-cuda and not any_shape and not ($COMPILED_TESTS)) or backends_agree or test_kernels"
}

compile_tests() {
  tests_in_parallel compile-tests tests/ops -k "native-cuda and ($COMPILED_TESTS)"
}

sanitize() { # TOOL SECONDS OPTIONS...: as many calls as fit into them, each op and path first
  local sanitizer cuda=${CUDA_HOME:-/usr/local/cuda}
  sanitizer=$(PATH=$PATH:$cuda/bin:$cuda/compute-sanitizer command -v compute-sanitizer) || {
    echo "there is no compute-sanitizer here"
    return "$SKIPPED"
  }
  # A tensor beside another in one cached block hides what is written past its end.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  # PyTorch's kernels are not looked into: ours are all in a namespace of that name.
  exec "$sanitizer" --tool "$1" --error-exitcode 9 --kernel-name kernel_substring=cxrgan "${@:3}" \
    "$PYTHON" -m bench.sanitize --seconds "$2"
}

kernels() { # NAME-OF-THE-FILE ARGUMENTS...
  exec_python -m bench.kernels --device cuda --out "$OUT/$1.json" --seconds-per-case 0.3 "${@:2}"
}

throughput() { # RESOLUTION NAME-OF-THE-FILE ARGUMENTS...
  exec_python -m bench.throughput --device cuda --preset base --resolution "$1" --batch-size 64 \
    --out "$OUT/$2_$1.json" "${@:3}"
}

training() { # SECONDS: a run that ends within them, and what it measured
  # The rest is to load the images, to write, and to end. 0 minutes would be no limit.
  local runs status seconds=$(($1 > 90 ? $1 - 60 : $1 / 3))
  runs=$(mktemp -d)
  trap : INT # the training saves what it has, and that is kept
  "$PYTHON" -m cxrgan_fast.train --device cuda --data "${DATA:-phantom}" --resolution 64 \
    --steps 1000000 --out "$runs" --max-minutes "$(awk "BEGIN { print $seconds / 60 }")"
  status=$?
  local run=("$runs"/*)
  "$PYTHON" -m bench.training_run "${run[0]}" "$OUT/training.json" || return
  cp "$(printf '%s\n' "${run[0]}"/grids/*.png | tail -n 1)" "$OUT/training.png"
  cp "${run[0]}/progress.gif" "$OUT/training.gif"
  rm -rf "$runs"
  return "$status"
}

parity() { # RESOLUTION STEPS SNAPSHOTS SECONDS: as many seeds, to 5, as fit into them
  # A seed may take somewhat longer than those before it, by which that is judged.
  exec_python -m research.parity --device cuda --data "${DATA:-phantom}" --resolution "$1" \
    --steps "$2" --snapshots "$3" --minutes "$(awk "BEGIN { print 0.9 * $4 / 60 }")" \
    --out "$OUT/parity_$1.json"
}

exec_python() { exec "$PYTHON" "$@"; } # so that what ends a step reaches it, not a shell

time_left() {
  local left=$((TOTAL - GRACE - SECONDS))
  echo $((left > LEAST ? left : LEAST))
}

row() { awk -v step="$1" '$1 == step' <<<"$STEPS"; } # STEP

limit_and_command() { # STEP
  local row limit
  row=$(row "$1")
  [ -n "$row" ] || return 1
  limit=$(awk '{ print $2 }' <<<"$row")
  [ "$limit" != rest ] || limit=$(time_left)
  row=${row#*: }
  echo "$limit ${row/REST/$limit}"
}

# --- What is carried in -------------------------------------------------------------------------

needs() { # STEP: the packages that it needs, those that cost it a part only in brackets
  # A build that is carried in needs nothing.
  [ "$1" = build ] && [ -n "${EXTENSION:-}" ] && return
  row "$1" | awk '{ sub(/ *:.*/, ""); $1 = $2 = ""; print }'
}

lacking() { # NAMES: those of them that are missing
  local name found=
  for name in $*; do
    case $missing in *" $name "*) found+=" $name" ;; esac
  done
  echo "${found# }"
}

install_wheels() { # FOLDER TARGET: all but what this PyTorch was built with
  local wheel wheels=()
  for wheel in "$1"/*.whl; do
    case ${wheel##*/} in
    torch-* | numpy-* | triton-* | nvidia_*) echo "not taken from WHEELS: ${wheel##*/}" ;;
    *.whl) [ ! -e "$wheel" ] || wheels+=("$wheel") ;;
    esac
  done
  if [ ${#wheels[@]} -eq 0 ]; then
    echo "WHEELS: $1 has no wheels to install"
    return
  fi
  local install=("$PYTHON" -m pip install --quiet --no-index --no-deps --target "$2")
  "${install[@]}" "${wheels[@]}" && return
  echo "one at a time, so that a wheel for another Python costs itself alone"
  for wheel in "${wheels[@]}"; do
    "${install[@]}" "$wheel" || echo "WHEELS: ${wheel##*/} cannot be installed"
  done
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
  steps=(build first-minute kernels-bf16 throughput-64 gpu-tests native-tests memcheck racecheck
    kernels)
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
  install_wheels "$WHEELS" "$scratch/site"
  export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH}
fi

: >"$OUT/log.txt"
for step in "${steps[@]}"; do needs "$step"; done | tr -d '()' | tr '\n' ' ' >"$scratch/needed"
# shellcheck disable=SC2046 # words
missing=" $("$PYTHON" -m bench.packages $(cat "$scratch/needed")) "
if [ "$missing" != "  " ]; then
  {
    for step in "${steps[@]}"; do
      all=$(needs "$step")
      without=$(lacking "${all%%(*}")
      [ -z "$without" ] || echo "$step cannot start without $without"
      without=$(lacking "$(tr -d '()' <<<"${all#"${all%%(*}"}")")
      [ -z "$without" ] || echo "$step loses a part without $without"
    done
    echo "To carry them, run where there is a network, and give the folder as WHEELS=wheels:"
    # shellcheck disable=SC2086 # words
    echo "  $("$PYTHON" -m bench.packages --how $missing | tail -n 1)"
  } | tee -a "$OUT/log.txt"
fi
failed=0
rows=()
for step in "${steps[@]}"; do
  all=$(needs "$step")
  without=$(lacking "${all%%(*}")
  if [ -n "$without" ]; then
    echo "== $step lacks $without" | tee -a "$OUT/log.txt"
    rows+=("$(printf '%-14s %5d s  %s' "$step" 0 "lacks $without")")
    failed=$((failed + 1))
    continue
  fi
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
  rows+=("$(printf '%-14s %5d s  %s' "$step" $((SECONDS - start)) "$result")")
done
{
  echo "$name: $failed of ${#steps[@]} steps failed, $SECONDS s"
  printf '%s\n' "${rows[@]}"
} | tee "$OUT/summary.txt"
exit "$failed"
