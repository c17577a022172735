#!/usr/bin/env bash
# Building one transformer gives every torch module a new public attribute, so that a ModuleDict refuses a key.
#
# Versions: transformers 5.24.0, torch 2.13.0 (CPU).
# What one would guess: a library that builds on torch leaves torch's own classes as they are.
# What happens: the first model that initialises its weights sets `torch.nn.Module.smart_apply`. From then on
#   `torch.nn.ModuleDict({"smart_apply": ...})`, which worked before, raises KeyError in unrelated code.
# Why it matters: names of modalities are keys of a ModuleDict. Whether a name is allowed depends on whether a transformer
#   was built earlier in the process, so a stored network may load in one program and not in another.
# Output seen:
#   before: not an attribute, key accepted; after: an attribute, KeyError
# Exits non-zero when this changes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0
"$dir/venv/bin/python" - <<'PY'
from torch import nn
from transformers import BertConfig, BertModel


def accepts() -> bool:
    try:
        nn.ModuleDict({"smart_apply": nn.Identity()})
    except KeyError:
        return False
    return True


before = hasattr(nn.Module, "smart_apply"), accepts()
BertModel(BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
after = hasattr(nn.Module, "smart_apply"), accepts()
print("attribute, key accepted: before", before, "after", after)
assert before == (False, True), before
assert after == (True, False), after
PY
