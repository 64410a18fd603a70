#!/usr/bin/env bash
# The GPU path, checked and then measured, in one go: at most six minutes on one H100.
#
#   benchmarks/gpu/run.sh --out OUT [--base FOLDER]    on a machine with a GPU; FOLDER: a real model beside the random ones
#   benchmarks/gpu/run.sh --out OUT --dry-run          the same steps at toy sizes on the CPU: checks this script
#
# Needs torch, transformers, peft, trl, datasets and pydantic; neither vLLM nor Ray. Every step has a time limit of its
# own, a step that fails does not stop the next ones, and the exit status is the number of steps that failed. OUT
# receives each step's output, JSON, and summary.txt.
set -u
cd "$(dirname "$0")/../.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
python=${PYTHON:-python3}

out= base= dry=
while (($#)); do
    case $1 in
    --dry-run) dry=--dry-run ;;
    --base) base=$2 && shift ;;
    --out) out=$2 && shift ;;
    *) echo "run.sh: got $1, allowed are --out FOLDER, --base FOLDER and --dry-run" >&2 && exit 2 ;;
    esac
    shift
done
[[ -n $out ]] || { sed -n '2,10p' "$0" >&2 && exit 2; }
mkdir -p "$out" && out=$(cd "$out" && pwd)

failed=0
step() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 began=$SECONDS status=0
    shift 2
    timeout "$limit" "$@" >"$out/$name.txt" 2>&1 || status=$?
    ((status == 0)) || failed=$((failed + 1))
    {
        echo "== $name: exit $status after $((SECONDS - began)) s: $*"
        # A table is wanted whole, of a failure its end.
        if ((status == 0)); then tail -n 40 "$out/$name.txt"; else tail -n 25 "$out/$name.txt"; fi
    } | tee -a "$out/summary.txt"
}

: >"$out/summary.txt"
step machine 60 "$python" -c '
import platform, torch
from importlib.metadata import version
print("python", platform.python_version(), "torch", torch.__version__, *(f"{name} {version(name)}" for name in ("transformers", "peft")))
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")'

train=(--out "$out/runs" --overwrite --set engine.type=transformers --set runtime.type=local)
if [[ -n $dry ]]; then
    train+=(--set training.steps=2 --set training.prompts_per_step=2 --set evaluation.examples=4)
fi
# First what tells whether anything works: a graph learns, from spec to report, on the shipped base.
step learn 100 "$python" -m neuromas train examples/quickstart.toml "${train[@]}"
step agreement 90 "$python" -m benchmarks.gpu.agreement --json "$out/agreement.json" $dry
step joint_small 90 "$python" -m benchmarks.gpu.joint --shape 0.6B --json "$out/joint_small.json" $dry
[[ -n $dry ]] || step joint_large 150 "$python" -m benchmarks.gpu.joint --shape 4B --nodes 1 64 --prompt 96 --completion 32 \
    --tokens-per-forward 2048 --repeats 3 --json "$out/joint_large.json"
if [[ -n $base ]]; then
    step agreement_base 60 "$python" -m benchmarks.gpu.agreement --base "$base" --json "$out/agreement_base.json"
fi
echo "== $failed steps failed" | tee -a "$out/summary.txt"
exit "$failed"
