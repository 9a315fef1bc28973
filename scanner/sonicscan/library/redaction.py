"""Hides secrets in texts of libraries: those of a URL, of any other address in the text, and of the environment."""

from __future__ import annotations

import os
import re
import urllib.parse

from sonicscan.library.urls import CONTAINERS, HIDDEN, LEFT_OUT, Url

_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
_QUERY_IN_TEXT = re.compile(r"(?<=[\w/.%~-])[?#][^\s'\"?#=]*=[^\s'\"]*")
_PARAMETER = re.compile(
    r"((?:signature|credential|token|secret|password|passwd|sig|key|keyid|key-id|policy)=)[^&\s'\"]+", re.I
)
_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|ACCESS_KEY|API_KEY|ACCOUNT_KEY|CONNECTION_STRING|SAS", re.I)
_MIN_VALUE = 4  # shorter values of a query are numbers and switches, and would match parts of any message
_MIN_SECRET = 8  # shorter values of such variables are switches and numbers


def scrubbed(text: str, url: Url) -> str:
    """`text` without the secrets of `url`, of any other URL in it, and of the environment."""
    text = text.replace(url.address, str(url))
    for name, value in os.environ.items():
        if len(value) >= _MIN_SECRET and _SECRET_NAME.search(name):
            text = text.replace(value, HIDDEN)
    for secret in _secrets_of(url):
        text = text.replace(secret, HIDDEN)
    text = _QUERY_IN_TEXT.sub(LEFT_OUT, _USER.sub(f"{HIDDEN}@", text))
    return _PARAMETER.sub(rf"\g<1>{HIDDEN}", text)


def _secrets_of(url: Url) -> list[str]:
    """The secrets that a message must not contain: user, password and query values, as typed and decoded, longest
    first. Single values are replaced because libraries rewrite addresses, and servers redirect to other addresses with
    the same values.
    """
    rest = url.address.split("://", 1)[1]
    user = rest.partition("/")[0].rpartition("@")[0] if url.protocol not in CONTAINERS else ""
    found = {user, user.partition(":")[2]}
    query = url.query.search(rest)
    if query is not None:
        values = (part.partition("=")[2] for part in re.split(r"[?#&;]", query[0]))
        found |= {query[0][1:], *(value for value in values if len(value) >= _MIN_VALUE)}
    decoded = {decode(secret) for secret in found for decode in (urllib.parse.unquote, urllib.parse.unquote_plus)}
    quoted = {urllib.parse.quote(secret, safe="") for secret in found | decoded}
    return sorted((found | decoded | quoted) - {""}, key=len, reverse=True)
