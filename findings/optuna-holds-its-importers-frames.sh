#!/usr/bin/env bash
# optuna 5.0.0 (without redis): whatever the function holds that imports it first is never freed, and importing monai beside
# it imports optuna.
#
# optuna keeps the error of its optional import of redis, to raise it later. An error keeps its traceback, and a traceback
# every frame below it: that of the function with the `import` line, of whoever called it, and so on to the top. A program
# that imports monai when its first network is built (importing it takes seconds) so keeps the rows, networks and caches of
# that first call until it ends, once somebody installs optuna. `gc.collect()` does not help: nothing there is garbage.
#
# Expected: what a function holds is freed after it has returned. Seen: its 100 MB are alive, by `import optuna`, and by
# `import monai.networks.blocks.convolutions` (monai 1.6.1) too.
#
# What helps: import it in a thread of its own, whose frames hold nothing.
# Our side: `utils/extras.py: import_apart`; tests/utils/test_extras.py.
#
# Exits 0 while this is so, and 1 when it has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" -q install optuna==5.0.0 monai==1.6.1 torch==2.13.0 numpy==2.4.6
cat > "$place/held.py" <<'PY'
import gc, importlib, sys, threading, warnings, weakref

import numpy as np

warnings.simplefilter("ignore")
how, module = sys.argv[1:]


def first():
    rows = np.zeros((100, 250_000), np.float32)  # 100 MB
    if how == "apart":
        thread = threading.Thread(target=importlib.import_module, args=(module,))
        thread.start()
        thread.join()
    else:
        importlib.import_module(module)
    return weakref.ref(rows)


kept = first()
gc.collect()
print("alive" if kept() is not None else "freed")
PY
found=""
for module in optuna monai.networks.blocks.convolutions; do
    for how in here apart; do
        said=$("$place/venv/bin/python" "$place/held.py" $how $module)
        echo "$module imported $how: the importer's 100 MB are $said after it has returned"
        found+="$said "
    done
done
[[ $found == "alive freed alive freed " ]] || { echo "changed"; exit 1; }
