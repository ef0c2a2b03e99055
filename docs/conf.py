"""Sphinx settings: ``sphinx-build -W -b html docs docs/build/html``, with the package installed."""

import os
from importlib.metadata import version as installed_version

project = "metatensor-sklearn"
author = "The metatensor-sklearn developers"
copyright = f"2026, {author}"  # noqa: A001
release = version = installed_version("metatensor-sklearn")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["build", "gallery/*.zip", "README.md"]

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature is for reading, numpydoc sections say shapes and types
autodoc_preserve_defaults = True
# what scikit-learn adds to every estimator refers to pages of its own documentation
routing = ["fit", "partial_fit", "predict", "score", "transform", "inverse_transform"]
autodoc_default_options = {
    "exclude-members": ",".join(f"set_{method}_request" for method in routing)
}
numpydoc_show_class_members = False
numpydoc_use_plots = False

# The continuous check runs the examples by themselves; METATENSOR_DOCS_RUN=1 runs them here too,
# for their output and pictures.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "plot_gallery": bool(os.environ.get("METATENSOR_DOCS_RUN")),
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
}


def skip_routing(app, what, name, member, skip, options):
    """Leave out what scikit-learn adds to every estimator for metadata routing."""
    is_routing = name == "get_metadata_routing" or (
        name.startswith("set_") and name.endswith("_request")
    )
    return True if is_routing else None


def setup(app):
    """Connect what autodoc asks."""
    app.connect("autodoc-skip-member", skip_routing)
