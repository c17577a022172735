#!/usr/bin/env bash
# fastavro 1.13.1 (Python 3.11) writes whole numbers as 32-bit floats where a union offers both.
#
# A field of type ["null", "float", "long"] that gets a Python int: fastavro takes the first branch that an int fits, float,
# and stores 24 bits of it. A time stamp in µs, 1700000000123456, is read back as 1699999998017536.0: off by 2105920 µs,
# 2.1 s, without an error. avro 1.12.2 (the reference implementation) writes the long, and the number is kept. Reading is
# right in both: fastavro reads the file that avro wrote to the last digit.
#
# Expected: the branch that holds the number exactly.
# What helps: put "long" before "float" in the schema, or write (("long", value)) with the branch named.
# Our side: we only read Avro; tests/formats/test_embrace.py::test_a_long_in_a_union_with_float_is_read_exactly.
#
# Exits 0 while this is so, and 1 when it has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" -q install fastavro==1.13.1 avro==1.12.2
cd "$place"
venv/bin/python - <<'PY'
import io
import json
import sys

import avro.datafile
import avro.io
import avro.schema
import fastavro

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "t", "type": ["null", "float", "long"]}]}
TIME = 1_700_000_000_123_456

written = io.BytesIO()
fastavro.writer(written, fastavro.parse_schema(SCHEMA), [{"t": TIME}])
written.seek(0)
fast = next(fastavro.reader(written))["t"]

with open("a.avro", "wb") as file:
    writer = avro.datafile.DataFileWriter(file, avro.io.DatumWriter(), avro.schema.parse(json.dumps(SCHEMA)))
    writer.append({"t": TIME})
    writer.close()
with open("a.avro", "rb") as file:
    reference = next(fastavro.reader(file))["t"]
print(f"written by fastavro: {fast!r}, off by {fast - TIME:.0f} µs; written by avro, read by fastavro: {reference!r}")
sys.exit(0 if fast - TIME == -2_105_920 and reference == TIME else 1)
PY
