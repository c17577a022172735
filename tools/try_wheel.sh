#!/usr/bin/env bash
# Build the wheel, then install it in an empty environment of each Python and use it away from this checkout.
#
#   tools/try_wheel.sh                        with python3
#   tools/try_wheel.sh python3.12 python3.13  with each of them
#
# Installs what sidelight depends on from pip's index, torch among it, into a temporary folder that is removed at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
[ $# -gt 0 ] || set -- python3
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
unset PYTHONPATH

try=$(mktemp -d)
trap 'rm -rf "$try"' EXIT
"$1" -m venv "$try/build"
"$try/build/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$try/dist" "$root"
wheel=$(ls "$try"/dist/sidelight-*.whl)
size=$(wc -c < "$wheel")
echo "$(basename "$wheel"): $size bytes"
[ "$size" -le 4000000 ] || { echo "try_wheel: the wheel is larger than 4 MB" >&2; exit 1; }

cd "$try"  # so that nothing is imported from the checkout
for python in "$@"; do
    echo "== $("$python" --version)"
    "$python" -m venv empty
    empty/bin/python -m pip install --quiet "$wheel"
    empty/bin/python -m pip check
    empty/bin/python - "$try/empty" "$root" <<'PYTHON'
import pathlib, re, sys
import sidelight

assert pathlib.Path(sidelight.__file__).is_relative_to(sys.argv[1]), sidelight.__file__
declared = re.search(r'^version = "(.+)"', pathlib.Path(sys.argv[2], "pyproject.toml").read_text(), re.M)[1]
assert sidelight.__version__ == declared, (sidelight.__version__, declared)
PYTHON
    empty/bin/sidelight --version
    empty/bin/sidelight methods > methods.txt
    empty/bin/sidelight run phone-watch --methods kl --output run --folds 2 --seeds 1 training.epochs=2
    empty/bin/sidelight show run
    empty/bin/python - <<'PYTHON'
import numpy as np
import sidelight as sl

student = sl.load_student("run")
rows = {m: np.zeros((3, *about["shape"][1:])) + 9.8 for m, about in student.inputs.items()}
print(student, student.predict(rows))
PYTHON
    test -s run/report.html
    rm -rf empty run methods.txt
done
echo "the wheel works with: $*"
