#!/usr/bin/env bash
# pip 26.3 and mlflow: beside pyarrow 26 an unpinned `mlflow` becomes 1.26.1, a release of 2022, without a word.
#
# Current releases bound pyarrow from above (3.17.2: pyarrow < 26), so that pip goes back through them to the last one that
# fits, and ends with success. Code for the mlflow of today fails there at the first call that is younger than it.
#
# Expected: an error, or a current release. Seen: "Would install … mlflow-1.26.1 …".
#
# What helps: a lower bound, `mlflow>=3`, turns the silence into an error. mlflow-skinny with sqlalchemy and alembic needs no
# pyarrow and logs to SQLite (3.17.2).
# Our side: the extra `trackers` asks for mlflow-skinny (docs/tracking.md), tests/tracking.
#
# Exits 0 while this is so, and 1 when it has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip="$place/venv/bin/pip"
"$pip" -q install pip==26.3
"$pip" install --dry-run --only-binary :all: pyarrow==26.0.1 pandas==3.1.1 mlflow > "$place/said" 2> "$place/errors" ||
    { tail -3 "$place/errors"; echo "changed: pip refuses"; exit 1; }
found=$(tr ' ' '\n' < "$place/said" | sed -n 's/^mlflow-\([0-9][0-9.]*\)$/\1/p')
echo "pyarrow 26.0.1, pandas 3.1.1 and mlflow of any version: pip takes mlflow $found"
test "${found%%.*}" = 1 || { echo "changed: expected a 1.x"; exit 1; }
if "$pip" install --dry-run --only-binary :all: pyarrow==26.0.1 "mlflow>=3" > /dev/null 2> "$place/errors"; then
    echo "changed: mlflow>=3 goes with pyarrow 26"
    exit 1
fi
echo "with mlflow>=3: $(grep -m 1 -o 'ResolutionImpossible' "$place/errors")"
