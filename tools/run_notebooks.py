"""Run the notebooks of examples/notebooks from top to bottom, and keep their outputs.

    python tools/run_notebooks.py            every one
    python tools/run_notebooks.py own_method

Each runs in an empty folder of its own, where it may write what it likes. The first cell that fails ends it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "examples" / "notebooks"
SECONDS = 1800
"""The longest that a cell may take."""


def run(path: Path) -> nbformat.NotebookNode:
    """Run a notebook; returns it with its outputs, without what differs from machine to machine."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources=where, coalesce_streams=True
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [
                _tidy(output, folder) for output in cell.outputs if "IProgress" not in output.get("text", "")
            ]
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _tidy(output: nbformat.NotebookNode, folder: str) -> nbformat.NotebookNode:
    """An output without the folders of this machine, which warnings and paths name."""
    if "text" in output:
        for place in (f"{folder}/", f"{ROOT}/"):
            output.text = output.text.replace(place, "")
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="names without .ipynb (default: every notebook)")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = parser.parse_args().names or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    for name in names:
        path = NOTEBOOKS / f"{name}.ipynb"
        nbformat.write(run(path), path)
        print(path.name, "ran", flush=True)


if __name__ == "__main__":
    main()
