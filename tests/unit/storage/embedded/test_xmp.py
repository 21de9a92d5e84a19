from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.embedded.xmp import IPTC, OWN, RDF, SourceType, fit_for_xml, packet, parse

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS)
def test_a_record_comes_back_as_the_same_json(text: str) -> None:
    record = json.dumps({"prompt": text}, ensure_ascii=False)

    source, found, extended = parse(packet(SourceType.MADE, record))

    assert (source, extended) == (SourceType.MADE, None)
    assert found is not None
    assert json.loads(found) == {"prompt": text}


@given(TEXTS)
def test_json_for_xml_means_the_same(text: str) -> None:
    record = json.dumps(text, ensure_ascii=False)

    assert json.loads(fit_for_xml(record)) == text


@pytest.mark.parametrize(
    "body",
    [
        '<rdf:Description i:DigitalSourceType="t" r:record="{}"/>',
        "<rdf:Description><i:DigitalSourceType>t</i:DigitalSourceType>"
        "<r:record>{}</r:record></rdf:Description>",
        '<rdf:Description><i:DigitalSourceType rdf:resource="t"/></rdf:Description>'
        '<rdf:Description r:record="{}"/>',
    ],
    ids=["attributes", "elements", "a resource"],
)
def test_what_other_programs_wrote_anew_is_read(body: str) -> None:
    data = f'<rdf:RDF xmlns:rdf="{RDF}" xmlns:i="{IPTC}" xmlns:r="{OWN}">{body}</rdf:RDF>'

    assert parse(data.encode()) == ("t", "{}", None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<",
        b"no xml",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    ],
)
def test_what_is_no_packet_says_nothing(data: bytes) -> None:
    assert parse(data) == (None, None, None)


def test_source_types_are_the_full_names_of_the_newscodes() -> None:
    start = "http://cv.iptc.org/newscodes/digitalsourcetype/"

    assert f"{start}trainedAlgorithmicMedia" == SourceType.MADE
    assert f"{start}compositeWithTrainedAlgorithmicMedia" == SourceType.COMPOSED
