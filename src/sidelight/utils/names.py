"""The one rule for names of modalities: they become names of files, columns, settings and parts of networks."""

from __future__ import annotations

import unicodedata

from sidelight.errors import DataError, SidelightError, shown

LONGEST = 100
"""Characters of a name."""
LONGEST_BYTES = 200
"""Bytes of a name in UTF-8: with a suffix it has to fit into the 255 bytes that file systems allow."""
SEPARATORS = "./\\"
"""A dot separates a modality from its column and settings from one another, slashes separate folders."""
INVISIBLE = ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")
"""Unicode's categories of controls, invisible format characters, halves of characters, blanks and line ends."""
KEPT = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches
    eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty train
    training type update values xpu zero_grad lengths
    """.split()  # noqa: SIM905
)
"""Attributes of torch's containers of modules, which cannot name a part of one; and what array files call lengths."""


def check_modality(name: object, where: str = "", error: type[SidelightError] = DataError) -> str:
    """The name, if a modality may be called so.

    Args:
        name: anything that claims to be a name.
        where: the file, array or setting that names it, for the message.
        error: what to raise.

    Raises:
        DataError (or `error`): the name is empty, longer than 100 characters (200 bytes), holds a dot, a slash, a
            backslash, a blank or a control character, or is a word that PyTorch keeps for itself.
    """
    if wrong := fault(name):
        raise error(f"{where}{': ' if where else ''}modality name {shown(name)} {wrong}; rename it")
    return str(name)


def fault(name: object) -> str:
    """What is wrong with a modality's name, to follow it in a sentence; "" where nothing is."""
    if not isinstance(name, str):
        return f"is a {type(name).__name__}, not text"
    if not name:
        return "is empty"
    found = next((c for c in name if c in SEPARATORS or unicodedata.category(c) in INVISIBLE), "")
    if found:
        words = {".": "a dot", "/": "a slash", "\\": "a backslash", " ": "a space"}
        return f"holds {words.get(found, f'the character U+{ord(found):04X}')}, and names of modalities name files too"
    if len(name) > LONGEST:
        return f"has {len(name)} characters; expected at most {LONGEST}"
    if len(name.encode()) > LONGEST_BYTES:
        return f"has {len(name.encode())} bytes in UTF-8; expected at most {LONGEST_BYTES}"
    if name in KEPT or name.startswith("__"):
        return "is a word that PyTorch or array files keep for themselves"
    return ""
