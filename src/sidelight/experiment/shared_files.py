"""The files of `shared/`, which several jobs of a run use: T-Nets, branches, and outputs of cross-fitted teachers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from sidelight.errors import RunError, SidelightWarning
from sidelight.utils.distributed import from_first, is_first, on_first
from sidelight.utils.tensorfile import read_tensors, write_tensors


class SharedFiles:
    """The files of `shared/`, each written once and read by every job that needs it.

    Args:
        folder: the run folder.
        data: the digest of the data; a file of other data is made again.
    """

    def __init__(self, folder: Path, data: str):
        self.folder, self.data = folder / "shared", data

    def path(self, name: str) -> Path:
        """The file of a name."""
        return self.folder / f"{name}.safetensors"

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Store tensors under a name."""
        on_first(lambda: write_tensors(self.path(name), tensors, {"name": name, "data": self.data}))

    def read(self, name: str) -> dict[str, Tensor] | None:
        """Read the tensors of a name. None if there are none, or, with a warning, if they cannot be used.

        Process 0 decides for all whether they can be used.
        """
        found = self._read(name) if is_first() else None
        if not from_first(found is not None):
            return None
        if not is_first() and (found := self._read(name)) is None:
            raise RunError(f"{self.path(name)} can be read by process 0 alone: all processes must see the run folder.")
        return found

    def _read(self, name: str) -> dict[str, Tensor] | None:
        file = self.path(name)
        if not file.exists():
            return None
        try:
            tensors, metadata = read_tensors(file, mend="It is made again.")
        except RunError as error:
            warnings.warn(str(error), SidelightWarning, stacklevel=2)
            return None
        # Files of earlier versions have no metadata to compare.
        if metadata and metadata != {"name": name, "data": self.data}:
            warnings.warn(
                f"{file} was stored as {metadata.get('name')!r}, or belongs to other data. It is made again.",
                SidelightWarning,
                stacklevel=2,
            )
            return None
        return tensors

    def train_once(self, module: nn.Module, name: str, train: Callable[[], object]) -> None:
        """Load the stored weights of a module; without them, train the module and store its weights.

        Args:
            module: the module, changed in place.
            name: the name under which its weights are stored.
            train: trains the module.

        Raises:
            RunError: the stored weights belong to another network.
        """
        stored = self.read(name)
        if stored is None:
            train()
            self.write(name, dict(module.state_dict()))
            return
        try:
            module.load_state_dict(stored)
        except RuntimeError as error:
            raise RunError(
                f"{self.path(name)} belongs to another network: {error}. Delete it to train this one again."
            ) from error
