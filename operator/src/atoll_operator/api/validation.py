"""Validates an object as the API server does: metadata, schema, defaults, lists and CEL rules."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from atoll_operator.api import API_VERSION, GROUP
from atoll_operator.api.advice import for_quotes
from atoll_operator.api.cel import broken_rules
from atoll_operator.api.crds import Definition, definitions
from atoll_operator.api.defaults import defaulted
from atoll_operator.api.openapi import duplicates, type_name, unknown_fields, violations
from atoll_operator.api.problems import Problem, invalid
from atoll_operator.api.yaml import Path

MAX_NAME = 253
MAX_LABEL = 63
MAX_ANNOTATION_BYTES = 256 * 1024

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_TEXT = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

_TEXTS = ("name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "creationTimestamp")
_MAPS = ("labels", "annotations")
_LISTS = ("ownerReferences", "finalizers", "managedFields")
_OTHERS = ("generation", "deletionTimestamp", "deletionGracePeriodSeconds")
_FIELDS = (*_TEXTS, *_MAPS, *_LISTS, *_OTHERS)


def metadata_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields the problems of the `metadata` of `document`."""
    metadata = document.get("metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        yield _wrong_type(("metadata",), metadata, "object")
        return
    yield from _unknown(metadata)
    yield from _types(metadata)
    yield from _name(metadata)
    yield from _namespace(metadata.get("namespace"))
    yield from _labels(metadata.get("labels"))
    yield from _annotations(metadata.get("annotations"))


def _unknown(metadata: Mapping[str, Any]) -> Iterator[Problem]:
    for name in metadata:
        if name not in _FIELDS:
            close = difflib.get_close_matches(name, _FIELDS, n=1)
            advice = (
                f'did you mean "{close[0]}"?' if close else "metadata takes name, namespace, labels and annotations"
            )
            yield Problem(("metadata", name), f'unknown field "metadata.{name}"', advice)


def _types(metadata: Mapping[str, Any]) -> Iterator[Problem]:
    expected = {**dict.fromkeys(_TEXTS, str), **dict.fromkeys(_MAPS, dict), **dict.fromkeys(_LISTS, list)}
    names = {str: "string", dict: "object", list: "array"}
    for field, kind in expected.items():
        value = metadata.get(field)
        if value is not None and not isinstance(value, kind):
            yield _wrong_type(("metadata", field), value, names[kind])


def _name(metadata: Mapping[str, Any]) -> Iterator[Problem]:
    name, generated = metadata.get("name"), metadata.get("generateName")
    path: Path = ("metadata", "name")
    if not name and not generated:
        yield Problem(path, "Required value: name or generateName is required", "give the object a name")
    elif isinstance(name, str) and name and not (_SUBDOMAIN.fullmatch(name) and len(name) <= MAX_NAME):
        message = 'a name must consist of a-z, 0-9, "-" and ".", with a letter or digit at both ends'
        yield invalid(path, name, message, f"at most {MAX_NAME} characters")


def _namespace(value: Any) -> Iterator[Problem]:
    if isinstance(value, str) and value and not (_DNS_LABEL.fullmatch(value) and len(value) <= MAX_LABEL):
        message = 'a namespace must consist of a-z, 0-9 and "-", with a letter or digit at both ends'
        yield invalid(("metadata", "namespace"), value, message, f"at most {MAX_LABEL} characters")


def _labels(labels: Any) -> Iterator[Problem]:
    for key, value in _pairs(labels):
        path: Path = ("metadata", "labels", key)
        yield from _qualified(path, key)
        if not isinstance(value, str):
            yield _wrong_type(path, value, "string")
        elif value and not (_LABEL_TEXT.fullmatch(value) and len(value) <= MAX_LABEL):
            message = 'a label must consist of letters, digits, "-", "_" and ".", with a letter or digit at both ends'
            yield invalid(path, value, message, f"at most {MAX_LABEL} characters; longer text goes into annotations")


def _annotations(annotations: Any) -> Iterator[Problem]:
    size = 0
    for key, value in _pairs(annotations):
        path: Path = ("metadata", "annotations", key)
        yield from _qualified(path, key.lower())
        if not isinstance(value, str):
            yield _wrong_type(path, value, "string")
            continue
        size += len(key.encode()) + len(value.encode())
    if size > MAX_ANNOTATION_BYTES:
        message = f"Too long: may not be more than {MAX_ANNOTATION_BYTES} bytes, and has {size}"
        yield Problem(("metadata", "annotations"), message)


def _qualified(path: Path, key: str) -> Iterator[Problem]:
    prefix, slash, name = key.rpartition("/")
    good = _LABEL_TEXT.fullmatch(name) and len(name) <= MAX_LABEL
    if slash:
        good = good and _SUBDOMAIN.fullmatch(prefix) and len(prefix) <= MAX_NAME
    if not good:
        message = 'a key is a name of letters, digits, "-", "_" and ".", optionally after a DNS name and "/"'
        yield invalid(path, key, message, f"the name has at most {MAX_LABEL} characters")


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    # A null value is dropped before validation.
    return ((key, item) for key, item in value.items() if item is not None) if isinstance(value, dict) else iter(())


def _wrong_type(path: Path, value: Any, expected: str) -> Problem:
    advice = "put it in quotes" if expected == "string" and isinstance(value, bool | int | float) else ""
    return invalid(path, value, f'must be of type {expected}: "{type_name(value)}"', advice)


@dataclass(frozen=True)
class Checked:
    """`value` is the object with its defaults, as it would be stored; only valid where there are no problems."""

    value: Mapping[str, Any]
    problems: tuple[Problem, ...]


def is_atoll(document: Any) -> bool:
    """Whether the document claims to be one of Atoll's kinds."""
    version = document.get("apiVersion") if isinstance(document, dict) else None
    return isinstance(version, str) and version.split("/")[0] == GROUP


def check(document: Mapping[str, Any], *, old: Mapping[str, Any] | None = None) -> Checked:
    """Validates `document` as the API server does on creation, or on an update of the stored object `old`.

    Unknown fields of a status are reported and the status is dropped, as by the API server.
    """
    identity = tuple(_identity(document))
    if identity:
        return Checked(document, identity)
    definition = definitions()[document["kind"]]
    unknown = tuple(unknown_fields(document, definition.schema))
    value = defaulted({name: item for name, item in document.items() if name != "status"}, definition.schema)
    basic = (*metadata_problems(document), *_schema_problems(value, definition))
    broken = broken_rules(value, definition.schema, old=old, damaged=[problem.path for problem in basic])
    return Checked(value, tuple(_with_quotes_named(item, document) for item in (*unknown, *basic, *broken)))


def _with_quotes_named(problem: Problem, document: Any) -> Problem:
    """The problem with the advice about typographic quotes if the field or its value has some."""
    value = document
    for part in problem.path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
            break
    name = problem.path[-1] if problem.path else ""
    text = for_quotes(f"{name}{value}" if isinstance(value, str) else str(name))
    return replace(problem, advice=text) if text else problem


def _schema_problems(value: Mapping[str, Any], definition: Definition) -> Iterator[Problem]:
    for problem in (*violations(value, definition.schema), *duplicates(value, definition.schema)):
        if problem.path[:1] != ("metadata",):
            yield problem


def _identity(document: Any) -> Iterator[Problem]:
    if not isinstance(document, dict):
        yield invalid((), document, "an object must be a mapping with apiVersion, kind, metadata and spec")
        return
    version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(version, str) or not version:
        yield Problem(("apiVersion",), "Required value", f"write apiVersion: {API_VERSION}")
    elif version != API_VERSION:
        yield invalid(("apiVersion",), version, f"must be {API_VERSION}")
    if not isinstance(kind, str) or kind not in definitions():
        yield _unknown_kind(kind)


def _unknown_kind(kind: Any) -> Problem:
    names = sorted(definitions())
    if not kind:
        return Problem(("kind",), "Required value", f"kinds are {', '.join(names)}")
    close = difflib.get_close_matches(str(kind), names, n=1)
    advice = f'did you mean "{close[0]}"?' if close else f"kinds are {', '.join(names)}"
    return invalid(("kind",), kind, f"{API_VERSION} has no such kind", advice)
