"""Strict XML: a document with a DTD is refused, because entities let XML read other files and fill the memory."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.readers.parsing import invalid

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


# Whether it starts, its depth (1 for the root), and the element, which is whole at its end.
XmlEvent = tuple[bool, int, "Element"]


@contextmanager
def naming_xml_errors(file: Member) -> Iterator[None]:
    """Turns the errors of the parser into DatasetErrors that name the file.

    Raises:
        DatasetError: DatasetUnsafe, it has a DTD; AnnotationInvalid with line and column, it is not XML.
    """
    from xml.etree.ElementTree import ParseError  # the exception that defusedxml raises

    from defusedxml import DefusedXmlException

    try:
        yield
    except DefusedXmlException:
        raise DatasetError(
            Reason.DATASET_UNSAFE, f"DTD not allowed in {shown(file.name)}; remove its <!DOCTYPE …>"
        ) from None
    except ParseError as error:
        line, column = error.position
        raise invalid(file.name, f"line {line} col {column + 1}: {error.args[0]}") from None
    except (ValueError, LookupError) as error:
        # The parser knows UTF-8, UTF-16, Latin-1 and what else has a byte for each character.
        raise invalid(file.name, f"line 1: {error}; save it as UTF-8") from None


def xml_root(file: Member, data: bytes) -> "Element":
    """Returns the root of a document, which may begin with blank lines; raises as `naming_xml_errors`."""
    from defusedxml import ElementTree

    with naming_xml_errors(file):
        root: Element = ElementTree.fromstring(data.lstrip(), forbid_dtd=True)
    return root


def xml_events(file: Member) -> Generator[XmlEvent, None, None]:
    """Yields the starts and ends of elements as the document is read.

    The caller clears what it has used, so that the memory does not grow with the file. Raises as `naming_xml_errors`.
    """
    from defusedxml import ElementTree

    depth = 0
    with file.open() as stream:
        events = ElementTree.iterparse(stream, events=("start", "end"), forbid_dtd=True)
        while True:
            with naming_xml_errors(file):
                found = next(events, None)
            if found is None:
                return
            is_start = found[0] == "start"
            depth += is_start
            yield is_start, depth, found[1]
            depth -= not is_start
