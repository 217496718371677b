"""The pages' templates, everything in them escaped, nothing undefined left out in silence."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from byheart.show.words import number, percent


def template(name: str) -> Template:
    """A page of this folder, such as page.html."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=FunctionLoader(_text)
    )
    environment.filters |= {"percent": percent, "number": number}
    return environment.get_template(name)


def _text(name: str) -> str:
    return resources.files("byheart.show").joinpath(name).read_text(encoding="utf-8")
