"""Readers: one per public data set, from its official layout to a prepared folder."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sidelight.errors import ConfigError, unknown

if TYPE_CHECKING:
    from sidelight.readers.base import Reader

__all__ = ["READERS", "make_reader", "reader_class"]

READERS: dict[str, str] = {
    "activitynet": "sidelight.readers.activitynet:ActivityNet",
    "affwild2": "sidelight.readers.affwild2:AffWild2",
    "biovid": "sidelight.readers.biovid:BioVid",
    "casia-cefa": "sidelight.readers.casia_cefa:CasiaCefa",
    "casia-surf": "sidelight.readers.casia_surf:CasiaSurf",
    "hf": "sidelight.readers.hf:HuggingFace",
    "iemocap": "sidelight.readers.iemocap:IEMOCAP",
    "mmsa": "sidelight.readers.mmsa:MMSA",
    "multibench": "sidelight.readers.multibench:MultiBench",
    "nyuv2": "sidelight.readers.nyuv2:NYUv2",
    "recola": "sidelight.readers.recola:Recola",
    "sunrgbd": "sidelight.readers.sunrgbd:SUNRGBD",
    "ucf101": "sidelight.readers.ucf:UCF101",
    "ucf51": "sidelight.readers.ucf:UCF51",
}
"""Name -> module and class. A reader is imported when it is asked for."""


def reader_class(name: str) -> type[Reader]:
    """The reader of that name; raises ConfigError for an unknown one."""
    if name not in READERS:
        raise ConfigError(unknown("reader", name, READERS))
    module, _, attribute = READERS[name].partition(":")
    found: type[Reader] = getattr(import_module(module), attribute)
    return found


def make_reader(name: str, options: Mapping[str, Any] | None = None) -> Reader:
    """The reader of that name with its options, typed or as texts; raises ConfigError naming what is wrong."""
    from sidelight.config.io import read_arguments

    made = reader_class(name)
    try:
        return made(**read_arguments(made, options or {}, f"reader {name!r}"))
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if repr(name) in message else f"reader {name!r}: {message}") from None
