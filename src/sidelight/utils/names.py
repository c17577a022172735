"""Names of modalities and targets: check those that become files, columns or settings, and word them for readers."""

from __future__ import annotations

import re
import unicodedata

from sidelight.errors import DataError, SidelightError, shown

LONGEST = 100
"""Most characters of a name."""
LONGEST_BYTES = 200
"""Most bytes of a name in UTF-8: with a suffix it must fit into the 255 bytes that file systems allow."""
SEPARATORS = "./\\"
"""Characters with a meaning: dots separate modality and column, and parts of settings; slashes separate folders."""
INVISIBLE = ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")
"""Unicode categories of control and format characters, surrogates, blanks and line ends."""
RESERVED = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches
    eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty train
    training type update values xpu zero_grad lengths smart_apply
    """.split()  # noqa: SIM905
)
"""Attributes of `nn.ModuleDict`, which cannot be its keys, and the name of lengths in array files.

transformers adds `smart_apply` once it has built a network, so the name is refused whether or not it has.
"""


CHANNELS = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")
"""Channels of another modality: `image[3]`, `image[0:3]`, `image[0,2]`, `bio[eda]`."""


def split_columns(text: str) -> str | list[str]:
    """The columns of "gsr,scl" as a list; a prefix (AU_) and channels (image[0,2]) as they are."""
    if "," not in text or CHANNELS.fullmatch(text.strip()):
        return text
    return [c.strip() for c in text.split(",") if c.strip()]


def check_modality(name: object, where: str = "", error: type[SidelightError] = DataError) -> str:
    """Check the name of a modality and return it.

    Args:
        name: the name.
        where: the file, array or setting that gives it, for the error.
        error: class of the error.

    Raises:
        DataError (or `error`): the name is empty, longer than 100 characters (200 bytes), contains a dot, a slash,
            a backslash, a blank or a control character, or is reserved by PyTorch.
    """
    if wrong := name_fault(name):
        raise error(f"{where}{': ' if where else ''}modality name {shown(name)} {wrong}; rename it")
    return str(name)


def name_fault(name: object) -> str:
    """What is wrong with a modality's name, to follow it in an error; "" if it is valid."""
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
    if name in RESERVED or name.startswith("__"):
        return "is a word that PyTorch or array files keep for themselves"
    return ""


def name_targets(columns: str) -> str:
    """Columns of targets, joined by commas, as readers call them: `mask_file_name` is the mask."""
    return ", ".join(name.removesuffix("_file_name") for name in columns.split(", "))
