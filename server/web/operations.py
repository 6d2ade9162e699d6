"""The operations of the socket by method and path of HTTP: one table, which routes requests and makes openapi.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from engine import __version__
from engine.values import ExportFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation of HTTP, and the operation of the socket that it is."""

    method: str
    path: str
    op: str
    summary: str
    fields: tuple[str, ...] = ()
    """Fields of the message that the address, the form or the JSON of the request may have."""
    body: bool = False
    """Whether the fields come in the body: a form with files, or JSON."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Fields of the message that the path means."""
    content: bool = False
    """Whether the reply is the content of a file, and not the result as JSON."""


WANTED = ("among", "method", "top", "path")
ABOUT = ("document", "title", "composer", "work", "replace")
OPERATIONS = (
    Operation(
        method="POST",
        path="/query",
        op="query",
        summary="Which documents match a recording, pages, embeddings, or a document of the collection?",
        fields=(
            "media",
            "document",
            "kind",
            "embeddings",
            "network",
            "start_s",
            "end_s",
            "transpose",
            *WANTED,
            "deadline_s",
        ),
        body=True,
    ),
    Operation(
        method="POST",
        path="/segment",
        op="segment",
        summary="What is played from when to when in a long recording, or printed where in a volume?",
        fields=("media", "document", "kind", "among", "start_s", "end_s", "transpose", "deadline_s"),
        body=True,
    ),
    Operation(
        method="GET",
        path="/documents",
        op="documents",
        summary="Which documents are there, by composer, work and title?",
        fields=("search", "kind", "skip", "most"),
    ),
    Operation(
        method="POST",
        path="/documents",
        op="add",
        summary="Add a document.",
        fields=(*ABOUT, "media", "kind", "deadline_s"),
        body=True,
    ),
    Operation(
        method="GET",
        path="/documents/{document}/pages/{page}",
        op="page",
        summary="A picture of a page of a score, from the document's own file.",
        fields=("document", "page", "turn", "width"),
        content=True,
    ),
    Operation(
        method="GET",
        path="/documents/{document}/sound",
        op="sound",
        summary="The sound of a recording, from the document's own file. `Range` gives parts of it.",
        fields=("document",),
        content=True,
    ),
    Operation(
        method="GET",
        path="/documents/{document}/manifest.json",
        op="export",
        summary="A score as a IIIF manifest, with the systems that a recording plays at each second.",
        fields=("document", "recording"),
        given={"format": "iiif"},
        content=True,
    ),
    Operation(
        method="GET",
        path="/documents/{document}/export/{format}",
        op="export",
        summary="A score and a recording of it as a file that other programs read.",
        fields=("document", "format", "recording"),
        content=True,
    ),
    Operation(
        method="GET",
        path="/documents/{document}",
        op="document",
        summary="The facts about a document, with the systems of a score.",
        fields=("document",),
    ),
    Operation(
        method="DELETE",
        path="/documents/{document}",
        op="remove",
        summary="Remove a document.",
        fields=("document", "deadline_s"),
    ),
    Operation(
        method="POST",
        path="/pages",
        op="draw",
        summary="A picture of a page of a score that is sent, in a format that browsers show.",
        fields=("media", "kind", "page", "turn", "width"),
        body=True,
        content=True,
    ),
    Operation(
        method="GET", path="/info", op="info", summary="What does the collection hold?", fields=("list", "after")
    ),
    Operation(method="GET", path="/stats", op="stats", summary="The counters of the server."),
    Operation(method="POST", path="/reload", op="reload", summary="Open the newest generation on disk.", body=True),
    Operation(method="GET", path="/ping", op="ping", summary="Does the server answer?"),
)

_NUMBER, _WHOLE, _TEXT, _TRUTH = ({"type": name} for name in ("number", "integer", "string", "boolean"))
_SCHEMAS: dict[str, dict[str, Any]] = {
    "media": {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "A recording, a PDF, or images of pages. In JSON: a list of {name, data}, data in base64.",
    },
    "embeddings": {
        "type": "object",
        "description": "In JSON alone: {dtype: <f4 or <f2, shape: [n, 32], data: base64}.",
    },
    "kind": _TEXT | {"enum": ["score", "recording"]},
    "among": _TEXT | {"enum": ["score", "recording"]},
    "format": _TEXT | {"enum": list(get_args(ExportFormat))},
    "method": _TEXT | {"enum": ["refine", "exhaustive", "vote", "fingerprint", "sdtw", "dtw"]},
    "top": _WHOLE | {"default": 10},
    "path": _TRUTH | {"default": False, "description": "Whether matches have their path and their time map."},
    "start_s": _NUMBER,
    "end_s": _NUMBER,
    "transpose": {"type": "array", "items": _NUMBER, "description": "Semitones; in a form as -1,1."},
    "deadline_s": _NUMBER,
    "skip": _WHOLE | {"default": 0},
    "most": _WHOLE | {"default": 1000},
    "page": _WHOLE,
    "turn": _WHOLE | {"enum": [0, 90, 180, 270], "default": 0},
    "width": _WHOLE | {"default": 1200},
    "replace": _TRUTH | {"default": False},
    "list": _TRUTH | {"default": False},
}
"""The schema of each field that is no plain text."""


def described() -> dict[str, Any]:
    """Returns the description of the gateway in OpenAPI."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    paths["/stream"] = {
        "get": {
            "operationId": "stream",
            "summary": "A WebSocket: first a text {rate, among, method, top, path, token}, then samples, float32 or "
            "int16 (`samples`), little-endian, mono; each message of them is answered with the matches so far.",
            "responses": {"101": {"description": "a WebSocket"}},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "scorefind", "version": __version__, "description": "docs/protocol.md has the fields."},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    """Returns the description of an operation in OpenAPI."""
    schemas = {name: _SCHEMAS.get(name, _TEXT) for name in operation.fields}
    in_path = [name for name in operation.fields if f"{{{name}}}" in operation.path]
    found: dict[str, Any] = {
        "operationId": "_".join((operation.op, *operation.given.values())),
        "summary": operation.summary,
        "parameters": [{"name": n, "in": "path", "required": True, "schema": schemas[n]} for n in in_path],
        "responses": {
            "200": {"description": "the content" if operation.content else "the field `ok` of the socket's reply"},
            "default": {"description": "{error: {code, message}}, as the socket's"},
        },
    }
    others = {name: schema for name, schema in schemas.items() if name not in in_path}
    if operation.body and others:
        content = {"schema": {"type": "object", "properties": others}}
        found["requestBody"] = {"content": {"multipart/form-data": content, "application/json": content}}
    else:
        found["parameters"] += [{"name": n, "in": "query", "schema": schema} for n, schema in others.items()]
    return found
