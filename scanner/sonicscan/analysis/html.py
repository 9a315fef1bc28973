"""Writes self-contained pages: one file with all scripts and pictures, which fetches nothing and executes no data.

Three measures stop a name such as `<img src=x onerror=...>` from running code. Jinja2 escapes all text. Data are
embedded as JSON that is never executed. The content security policy allows only these scripts, by SHA-256, and no
fetches.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonicscan.analysis.drawing import import_matplotlib
from sonicscan.errors import InputError, ReportError
from sonicscan.extras import missing_extra
from sonicscan.files import write_whole

if TYPE_CHECKING:
    import jinja2

_LIBRARIES = ("jinja2", "itables", "plotly", "matplotlib")


@dataclass(frozen=True)
class Script:
    """A script of this project or of a library, with its digest for the content security policy."""

    text: str

    @property
    def digest(self) -> str:
        """`sha256-...`, as a policy names it."""
        return "sha256-" + base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode("ascii")


def require_libraries() -> None:
    """Import the drawing libraries; raises `InputError` if the extra `report` is not installed."""
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(missing_extra(f"pictures and pages need {', '.join(missing)}", "report"))
    import_matplotlib()


def render(template: str, scripts: tuple[Script, ...], media: str = "data:", **values: Any) -> str:
    """A page from one of the templates, with `scripts` at its end in that order.

    Half surrogate pairs, such as those of file names that are not UTF-8, are escaped: the page is valid Unicode.
    `media` are the places from which the page may play sound, as its content security policy names them.
    """
    policy = (
        f"default-src 'none'; script-src {' '.join(repr(s.digest) for s in scripts) or repr('none')}; "
        f"style-src 'unsafe-inline'; img-src data:; media-src {media}; base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template).render(policy=policy, scripts=[s.text for s in scripts], **values)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def write_page(text: str, path: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        ReportError: it cannot be written.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise ReportError(f"the page {path} cannot be written: {error.strerror or error}.") from error


def embedded(data: object) -> str:
    """JSON for a `<script>` element: it has no `<`, which could end the element or open a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Half a surrogate pair is legal in a Python string and in JSON, and not in UTF-8.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def own_script(name: str) -> Script:
    """One of the scripts beside the templates."""
    return Script((importlib.resources.files(__package__) / "templates" / name).read_text(encoding="utf-8"))


def plotly_script() -> Script:
    """Plotly.js (MIT), as the package `plotly` ships it."""
    text = (importlib.resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return _library(text, "plotly")


def table_script() -> Script:
    """jQuery and DataTables (MIT), as the package `itables` ships them; sets `window.jQuery`."""
    bundle = (importlib.resources.files("itables") / "html" / "dt_bundle.js").read_text(encoding="utf-8")
    # The file is a module for import by address. Here it is embedded in the page and exports jQuery.
    exported = re.search(r"export\s*\{([^}]*)\}", bundle)
    jquery = re.search(r"([\w$]+) as jQuery\b", exported[1]) if exported else None
    if exported is None or jquery is None:
        raise ReportError("the installed itables lacks the expected files; install another version of itables.")
    bundle = bundle[: exported.start()] + f"window.jQuery={jquery[1]}" + bundle[exported.end() :]
    return _library("{" + bundle + "}", "itables")


def table_style() -> str:
    """The style sheet of DataTables, as `itables` ships it."""
    return (importlib.resources.files("itables") / "html" / "dt_bundle.css").read_text(encoding="utf-8")


def _library(text: str, name: str) -> Script:
    # Normalise line ends, as browsers do before they compute the digest.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in text.lower():
        raise ReportError(f"the script of the installed {name} cannot be put into a page.")
    return Script(text)


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2

    folder = str(importlib.resources.files(__package__) / "templates")
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
