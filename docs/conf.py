"""How the documentation is built: `make docs` writes build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from _site import api_pages, docstrings, links, method_pages, notebooks  # noqa: E402
from pygments.lexers.special import TextLexer  # noqa: E402

import sidelight  # noqa: E402

project = "sidelight"
author = "The sidelight authors"
copyright = author
version = release = sidelight.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_site", "_static"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}

nb_execution_mode = "off"  # `python tools/run_notebooks.py` runs them, and keeps what they said
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Class attributes", "Attributes")]

linkcheck_timeout = 20
linkcheck_ignore = [r"https?://(localhost|node7|host)\b"]
linkcheck_anchors_ignore_for_url = [r"https://github\.com/"]  # drawn by a script

html_theme = "furo"
html_title = "sidelight"
html_static_path = ["_static"]
html_css_files = ["sidelight.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"


def setup(app) -> None:  # type: ignore[no-untyped-def]
    """Write the pages that the code describes, and read docstrings and links as this project writes them."""
    api_pages.write(HERE / "api")
    method_pages.write(HERE / "methods")
    notebooks.write(HERE / "notebooks")
    app.add_lexer("csv", TextLexer)
    app.connect("source-read", links.complete)
    app.connect("autodoc-skip-member", docstrings.skip_foreign)
    app.connect("autodoc-process-docstring", docstrings.to_rst, priority=400)  # before napoleon
