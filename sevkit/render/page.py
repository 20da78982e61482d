"""HTML pages from the templates beside this module."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

_LINK = re.compile(r"&lt;(https?://[^\s&<>\"']+(?:&amp;[^\s&<>\"']+)*)&gt;")


def page(template: str, **values: Any) -> str:
    """Fill in a template: everything is escaped, and a missing value is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sevkit.render", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["linked"] = linked
    return environment.get_template(template).render(**values)


def linked(text: str) -> "Markup":
    """Text for HTML, in which each address in angle brackets is a link."""
    from markupsafe import Markup, escape

    return Markup(_LINK.sub(r'<a href="\1">\1</a>', str(escape(text))))  # noqa: S704 - escaped before
