"""The XMP packet: that a picture was made by AI, and our record where no text chunk holds it.

Source of the terms: IPTC's NewsCodes "Digital Source Type"; XMP Specification Part 3 for how a
packet lies in a JPEG file.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

_TERMS: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"

RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
XMP: Final = "http://ns.adobe.com/xap/1.0/"
NOTE: Final = "http://ns.adobe.com/xmp/note/"
OWN: Final = "urn:rendermill:1.0#"

CREATOR: Final = "Rendermill"

_UNFIT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
"""Signs that XML cannot carry, or that it advises against."""


class SourceType(StrEnum):
    """How a picture came to be, by IPTC's full names."""

    MADE = f"{_TERMS}trainedAlgorithmicMedia"
    COMPOSED = f"{_TERMS}compositeWithTrainedAlgorithmicMedia"  #: an input picture is in it


def packet(source: SourceType, record: str | None = None, *, extended: str | None = None) -> bytes:
    """An XMP packet; `record` is JSON, `extended` the name of the packet that holds more."""
    attributes = [f'Iptc4xmpExt:DigitalSourceType="{source}"', f'xmp:CreatorTool="{CREATOR}"']
    if extended is not None:
        attributes.append(f'xmpNote:HasExtendedXMP="{extended}"')
    return _wrapped(attributes, record)


def extension(record: str) -> bytes:
    """The packet of a record too long for one segment of a JPEG file."""
    return _wrapped([], record)


def parse(data: bytes) -> tuple[str | None, str | None, str | None]:
    """Source type, our record, and the name of the extension of a packet; None each if absent.

    Other programs may have written it anew, with properties as elements or as attributes. A
    packet that is no XML says nothing.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # no packet has them; bombs do
        return None, None, None
    try:
        root = ElementTree.fromstring(data.strip(b"\0 \r\n\t\xef\xbb\xbf"))  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError):
        return None, None, None
    found: dict[str, str] = {}
    for element in root.iter(f"{{{RDF}}}Description"):
        found |= element.attrib
        for child in element:
            value = child.get(f"{{{RDF}}}resource") or child.text
            if value:
                found[child.tag] = value
    names = (f"{{{IPTC}}}DigitalSourceType", f"{{{OWN}}}record", f"{{{NOTE}}}HasExtendedXMP")
    source, record, extended = (found.get(name) for name in names)
    return source, record, extended


def _wrapped(attributes: list[str], record: str | None) -> bytes:
    inside = ""
    if record is not None:
        inside = f"<rendermill:record>{escape(fit_for_xml(record))}</rendermill:record>"
    text = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{IPTC}" xmlns:xmp="{XMP}"'
        f' xmlns:xmpNote="{NOTE}" xmlns:rendermill="{OWN}" {" ".join(attributes)}>'
        f"{inside}</rdf:Description></rdf:RDF></x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    )
    return text.encode()


def fit_for_xml(json_text: str) -> str:
    r"""JSON with what XML cannot carry written as ``\u0000``; the same to a JSON reader."""
    return _UNFIT.sub(lambda sign: f"\\u{ord(sign[0]):04x}", json_text)
