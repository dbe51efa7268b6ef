"""How Sphinx builds these pages; nothing in them is loaded from another site."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tools.packages import Package, discover  # noqa: E402  (needs the path above)

PACKAGES = discover()

project = "Channels"
author = "The Channels maintainers"
release = PACKAGES["channels-core"].version

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"Channels {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autoclass_content = "both"
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

# `nox -s docs` puts the script there; it is served beside the pages, not from a CDN.
scripts = HERE / "_build" / "static"
if scripts.exists():
    html_static_path.append(str(scripts))
mermaid_use_local = "mermaid.mjs"
mermaid_fullscreen = False


def reference_page(package: Package) -> str:
    """Return the page with every public name of a distribution, each of them once."""
    part = importlib.import_module(package.module)
    page = [package.module, "=" * len(package.module), "", f"Distribution ``{package.name}``.", ""]
    page += automodule(package.module, exclude=borrowed(part))
    for file in sorted(package.source.rglob("*.py")):
        path = file.relative_to(package.source.parent.parent).with_suffix("").parts
        name = ".".join(path).removesuffix(".__init__")
        if name == package.module or any(piece.startswith("_") for piece in name.split(".")):
            continue
        names = getattr(importlib.import_module(name), "__all__", ())
        if set(names) - set(part.__all__):
            page += ["", name, "-" * len(name), "", *automodule(name, exclude=part.__all__)]
    return "\n".join(page) + "\n"


def borrowed(part: ModuleType) -> tuple[str, ...]:
    """Return what a part re-exports from another one, whose page describes it."""
    homes = {name: getattr(getattr(part, name), "__module__", "") for name in part.__all__}
    return tuple(
        name
        for name, home in homes.items()
        if home.startswith("channels.") and not f"{home}.".startswith(f"{part.__name__}.")
    )


def automodule(name: str, exclude: tuple[str, ...]) -> list[str]:
    """Return the directive that documents a module's `__all__`."""
    directive = [f".. automodule:: {name}", "   :members:", "   :show-inheritance:"]
    return [*directive, f"   :exclude-members: {', '.join(exclude)}"] if exclude else directive


for package in PACKAGES.values():
    target = HERE / "reference" / f"{package.module}.rst"
    if not target.exists() or target.read_text("utf-8") != reference_page(package):
        target.write_text(reference_page(package), "utf-8")


def resolve_private(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement
) -> Element | None:
    """Link a name by the module that exports it instead of the private one that defines it."""
    pieces = node.get("reftarget", "").split(".")
    public = ".".join(piece for piece in pieces if not piece.startswith("_"))
    if node.get("refdomain") != "py" or public == node["reftarget"]:
        return None
    python = env.domains["py"]
    kind = node["reftype"]
    return python.resolve_xref(env, node["refdoc"], app.builder, kind, public, node, content)


def skip_tuple_field(
    app: Sphinx, what: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """Leave out the members that a named tuple makes: its docstring describes the fields."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field") else None


def setup(app: Sphinx) -> None:
    """Register what Sphinx does not do by itself."""
    app.connect("autodoc-skip-member", skip_tuple_field)
    app.connect("missing-reference", resolve_private)
