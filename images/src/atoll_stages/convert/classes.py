"""Class names: cleaned, renamed or ignored by the spec's rules, and ordered for the label map."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from atoll_contract.archive.limits import shown
from atoll_contract.convert_spec import ConvertSpec
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.text import is_control

MAX_LENGTH = 128
# More classes without boxes than these are told in one sentence.
_MAX_NAMED = 5
_MAX_COMPARED = 2000


class ClassNames:
    """The classes of one conversion, collected by name over all of its archives."""

    def __init__(self, spec: ConvertSpec) -> None:
        self._rename = {clean(rule.from_): clean(rule.to) for rule in spec.rename}
        self._ignore = {clean(name) for name in spec.ignore}
        self._only = tuple(dict.fromkeys(clean(name) for name in spec.classes))
        self._limit = spec.limits.classes
        self._order: dict[str, None] = {}
        self._met: set[str] = set()
        self._finals: dict[str, str | None] = {}
        self.ignored: Counter[str] = Counter()

    def declare(self, names: Iterable[str]) -> None:
        """Adds the classes that an export lists; their order is the label map's where the spec gives none."""
        for name in names:
            self._final(name)

    def resolve(self, name: str) -> str | None:
        """Returns the final name of an object's class, or None where the class is ignored.

        Raises:
            DatasetError: the name is empty or too long (AnnotationInvalid), or there are too many classes.
        """
        final = self._final(name)
        if final is None:
            # Bounded, because a hostile export may give each object its own class.
            self.ignored[name if len(self.ignored) < self._limit else "…"] += 1
        return final

    def _final(self, raw: str) -> str | None:
        """Returns the final name of `raw` from a cache: there are few names and many objects."""
        if raw not in self._finals:
            if len(self._finals) >= 10 * self._limit:
                self._finals.clear()
            self._finals[raw] = self._decide(clean(raw))
        return self._finals[raw]

    def _decide(self, name: str) -> str | None:
        final = self._rename.get(name, name)
        if len(self._met) < 10 * self._limit:
            self._met.add(name)
        if name in self._ignore or final in self._ignore or (self._only and final not in self._only):
            return None
        self._order.setdefault(final)
        if len(self._order) > self._limit:
            raise DatasetError(Reason.DATASET_TOO_LARGE, f"more than {self._limit} classes; {shown(final)} is one more")
        return final

    def ordered(self, used: Iterable[str]) -> tuple[str, ...]:
        """Returns the label map's classes: those of the spec as given, else the used ones in order of appearance."""
        if self._only:
            return self._only
        used = set(used)
        return tuple(name for name in self._order if name in used)

    def warnings(self, used: Iterable[str]) -> list[str]:
        """Returns warnings: classes without boxes, names that differ only in case."""
        used = set(used)
        declared = self._only or tuple(self._order)
        unused = [name for name in declared if name not in used and name in self._met_finals()]
        if len(unused) > _MAX_NAMED:
            some = ", ".join(shown(name, 40) for name in unused[:_MAX_NAMED])
            kept = "stay in" if self._only else "are left out of"
            found = [f"classes {some} and {len(unused) - _MAX_NAMED} more have no boxes; they {kept} the label map"]
        else:
            kept = "stays in" if self._only else "is left out of"
            found = [f"class {shown(name)} has no boxes; it {kept} the label map" for name in unused]
        return found + _similar(sorted(used))

    def rule_warnings(self) -> list[str]:
        """Returns warnings about names in `classes`, `rename` and `ignore` that no label has, with the likely one."""
        finals = self._met_finals()
        rules = (
            ("class {} has no boxes; it stays in the label map", self._only, finals),
            ("rename from {} met no object", self._rename, self._met),
            ("ignore {} met no object", sorted(self._ignore), finals),
        )
        return [
            text.format(shown(name)) + _did_you_mean(name, met)
            for text, names, met in rules
            for name in names
            if name not in met
        ]

    def _met_finals(self) -> set[str]:
        return self._met | {self._rename[name] for name in self._met if name in self._rename}


def clean(name: str) -> str:
    """Returns `name` in NFC, without blanks around it.

    Raises:
        DatasetError: AnnotationInvalid, it is empty, longer than MAX_LENGTH, or has control characters.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not name or len(name) > MAX_LENGTH:
        raise DatasetError(
            Reason.ANNOTATION_INVALID,
            f"class name {shown(name, 40)} of {len(name)} characters; allowed are 1 to {MAX_LENGTH}",
        )
    if control := next(filter(is_control, name), None):
        raise DatasetError(
            Reason.ANNOTATION_INVALID,
            f"class name {shown(name)} has the control character U+{ord(control):04X}; allowed is text on one line; "
            "rename the class in the labelling tool and export again",
        )
    return name


def _did_you_mean(name: str, met: Collection[str]) -> str:
    """Returns a question about the name that is most like this one: the same but for case, else one close to it."""
    by_fold = {other.casefold(): other for other in sorted(met)[:_MAX_COMPARED]}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=1)
    return f"; did you mean {shown(by_fold[close[0]])}?" if close else ""


def _similar(names: Sequence[str]) -> list[str]:
    by_fold: dict[str, list[str]] = {}
    for name in names:
        by_fold.setdefault(name.casefold(), []).append(name)
    return [
        f"classes {' and '.join(shown(name) for name in group)} differ only in case; rename one to join them"
        for group in by_fold.values()
        if len(group) > 1
    ]
