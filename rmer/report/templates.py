"""Templates of HTML pages."""

from __future__ import annotations

import jinja2


def template(name: str, **shared: object) -> jinja2.Template:
    """Return a template of this room; every text put into it is escaped, and what it lacks is an error.

    ``shared`` is seen by its macros too.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rmer.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(shared)
    return environment.get_template(name)
