"""Great Expectations' Data Docs of a run, as self-contained pages.

GX's own pages fetch styles, scripts and a logo from a dozen hosts (the logo with an id of the data context), and
without scripts their index is empty. These pages make no network request: external resources are removed, a style
sheet is embedded, and the index is a plain table.
"""

from __future__ import annotations

import re
from datetime import UTC
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlparse

from great_expectations.data_context import AbstractDataContext
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

_FETCHED = re.compile(
    r"""<script\b.*?</script>|<footer\b.*?</footer>|<(?:link|img)\b[^>]*?\b(?:href|src)="https?:[^>]*>|url\('https?:[^')]*'\)""",
    re.DOTALL | re.IGNORECASE,
)


def build_docs(context: AbstractDataContext) -> Path | None:
    """Builds the Data Docs; returns the path of their index page."""
    addresses = list(context.build_data_docs().values())
    if not addresses:
        return None
    index, room = _path(addresses[0]), files("zigong.quality")
    style = room.joinpath("data_docs.css").read_text(encoding="utf-8")
    for page in index.parent.rglob("*.html"):
        alone = _FETCHED.sub("", page.read_text(encoding="utf-8"))
        page.write_text(alone.replace("</head>", f"<style>{style}</style></head>", 1), encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        room.joinpath("data_docs.html").read_text(encoding="utf-8")
    )
    results = sorted(_results(context, index.parent), key=lambda result: str(result["evaluated_at"]))
    index.write_text(template.render(results=results, style=Markup(style)), encoding="utf-8")  # noqa: S704 - our own file
    return index


def _results(context: AbstractDataContext, site: Path) -> list[dict[str, object]]:
    """One entry for each validation: table, run, when, rules, broken rules and its page."""
    found = []
    for key in context.validation_results_store.list_keys():
        result = context.validation_results_store.get(key)
        (address,) = context.get_docs_sites_urls(resource_identifier=key)
        found.append(
            {
                "table": key.expectation_suite_identifier.name,
                "run": key.run_id.run_name,
                "evaluated_at": f"{key.run_id.run_time.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
                "rules": result.statistics["evaluated_expectations"],
                "broken": result.statistics["unsuccessful_expectations"],
                "page": _path(str(address["site_url"])).relative_to(site).as_posix(),
            }
        )
    return found


def _path(address: str) -> Path:
    return Path(unquote(urlparse(address).path))
