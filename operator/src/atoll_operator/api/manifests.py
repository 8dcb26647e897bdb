"""Reads manifest files and validates their documents, each with its file and line."""

import codecs
import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atoll_operator.api.problems import Problem
from atoll_operator.api.validation import check, is_atoll
from atoll_operator.api.yaml import YamlDocument, YamlError, read_documents
from atoll_operator.sweeps.template import template_problems

STANDARD_INPUT = Path("-")
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class LocatedProblem:
    """A problem with file and line, which is None for a file as a whole. `object` is `Kind/name`, or empty where the
    file cannot be read."""

    source: str
    line: int | None
    object: str
    problem: Problem

    def __str__(self) -> str:
        subject = f"{self.object}: " if self.object else ""
        line = "" if self.line is None else f"{self.line}:"
        return f"{self.source}:{line} {subject}{self.problem}"


@dataclass(frozen=True)
class Manifest:
    """One document of a file.

    `value` has its defaults if it is one of Atoll's kinds; other objects (`is_atoll` false) are not validated. Only
    valid where there are no problems.
    """

    source: str
    line: int
    value: Mapping[str, Any]
    is_atoll: bool
    problems: tuple[LocatedProblem, ...] = ()

    @property
    def kind(self) -> str:
        return str(self.value.get("kind") or "object")

    @property
    def name(self) -> str:
        return str(self._metadata.get("name") or self._metadata.get("generateName") or "")

    @property
    def namespace(self) -> str | None:
        namespace = self._metadata.get("namespace")
        return str(namespace) if namespace else None

    @property
    def title(self) -> str:
        return f"{self.kind}/{self.name}" if self.name else self.kind

    @property
    def _metadata(self) -> Mapping[str, Any]:
        metadata = self.value.get("metadata")
        return metadata if isinstance(metadata, dict) else {}


@dataclass(frozen=True)
class ManifestFiles:
    """The documents of some files, and `unreadable`: the problems of files that cannot be read."""

    manifests: tuple[Manifest, ...]
    unreadable: tuple[LocatedProblem, ...] = ()

    @property
    def problems(self) -> tuple[LocatedProblem, ...]:
        """Every problem, in the order of the files' lines."""
        return self.unreadable + tuple(problem for manifest in self.manifests for problem in manifest.problems)


def read_files(paths: Iterable[Path]) -> ManifestFiles:
    """Reads the manifests in `paths`. As with kubectl, a folder stands for every .yaml, .yml and .json file in it,
    and `-` for standard input."""
    manifests: list[Manifest] = []
    unreadable: list[LocatedProblem] = []
    for path in paths:
        try:
            for file in _files(path):
                manifests += read_text(_content(file), source=str(file))
            if not manifests and path.is_dir():
                message = "the folder holds no .yaml, .yml or .json file; name a file, or another folder"
                unreadable.append(_file_problem(str(path), message, line=None))
        except YamlError as error:
            unreadable.append(_file_problem(str(file), error.message, line=error.line))
        except UnicodeDecodeError as error:
            unreadable.append(_file_problem(str(file), _no_text(error), line=1))
        except OSError as error:
            unreadable.append(_file_problem(str(path), f"cannot be read: {error.strerror}", line=None))
    return ManifestFiles(tuple(_without_repetition(manifests)), tuple(unreadable))


def read_text(text: str, *, source: str) -> tuple[Manifest, ...]:
    """The manifests in `text`; `source` names it in problems.

    Raises:
        YamlError: it is not YAML.
    """
    documents = read_documents(text)
    if not documents:
        raise YamlError("there is no object in it", line=1)
    return tuple(_manifest(document, source) for document in documents)


def _content(file: Path) -> str:
    # Standard input is read as UTF-8, too, whatever the locale is.
    data = sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes()
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()


def _no_text(error: UnicodeDecodeError) -> str:
    if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return 'UTF-16 text, as ">" in PowerShell writes it; save it as UTF-8'
    return f"not UTF-8 text (byte {error.start}); name a .yaml or .json file, saved as UTF-8"


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    yield from sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())


def _manifest(document: YamlDocument, source: str) -> Manifest:
    value, line = document.value, document.line(())
    if isinstance(value, dict) and value.get("apiVersion") and value.get("kind") and not is_atoll(value):
        return Manifest(source, line, value, is_atoll=False)
    checked = check(value)
    found = Manifest(source, line, checked.value if isinstance(value, dict) else {}, is_atoll=True)
    problems = checked.problems
    if not problems and found.kind == "TrainingSweep":
        problems = template_problems(checked.value)
    located = (LocatedProblem(source, document.line(problem.path), found.title, problem) for problem in problems)
    return replace(found, problems=tuple(sorted(located, key=lambda item: item.line or 0)))


def _without_repetition(manifests: Iterable[Manifest]) -> Iterator[Manifest]:
    """Adds a problem to an object that is there twice: which of them counts would depend on the order of files."""
    seen: dict[tuple[str, str, str | None], Manifest] = {}
    for manifest in manifests:
        identity = (manifest.kind, manifest.name, manifest.namespace)
        first = seen.setdefault(identity, manifest)
        if first is not manifest and manifest.is_atoll and manifest.name:
            message = f"is in {first.source}:{first.line} already; give one of them another name"
            again = LocatedProblem(manifest.source, manifest.line, manifest.title, Problem((), message))
            yield replace(manifest, problems=(again, *manifest.problems))
        else:
            yield manifest


def _file_problem(source: str, message: str, *, line: int | None) -> LocatedProblem:
    return LocatedProblem(source, line, "", Problem((), message))
