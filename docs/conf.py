"""The static site: `make docs` (Sphinx, whose Markdown is the one that the repository's own pages are read in)."""

from remask import __version__

project = "remask"
author = "The remask authors"
release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 4
root_doc = "index"
html_theme = "furo"
html_title = f"remask {release}"
html_show_sphinx = False
