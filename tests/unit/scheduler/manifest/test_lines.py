"""Reading a text file line by line in flat memory."""

from __future__ import annotations

import errno
import hashlib
import io
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest import lines
from scheduler.manifest.lines import LineReader, decoded
from scheduler.manifest.problems import ManifestProblems, Problems

BOM = b"\xef\xbb\xbf"


def reader(data: bytes, *, max_bytes: int = 100, **options: Any) -> LineReader:
    return LineReader(io.BytesIO(data), Problems("a.txt"), max_bytes=max_bytes, **options)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\rb\r\r\n", [b"a\rb\r"]),
        (b"a\n\n\nb\n", [b"a", b"", b"", b"b"]),
        (BOM + b"a\nb", [b"a", b"b"]),
        (BOM, []),
        (b"a\n" + BOM + b"b", [b"a", BOM + b"b"]),
        (b"a\x0bb\x0cc\x85d\n", [b"a\x0bb\x0cc\x85d"]),
    ],
)
def test_lines_end_at_line_feeds_and_nowhere_else(data: bytes, expected: list[bytes]) -> None:
    assert list(reader(data)) == expected


def test_a_byte_order_mark_further_down_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_BLOCK", 2)
    assert list(reader(b"a\n" + BOM + b"b\n")) == [b"a", BOM + b"b"]


def test_carriage_returns_can_be_kept() -> None:
    assert list(reader(b"a\r\nb\r", keep_return=True)) == [b"a\r", b"b\r"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x" * 10, [b"x" * 10]),
        (b"x" * 10 + b"\n", [b"x" * 10]),
        (b"x" * 11, [None]),
        (b"x" * 11 + b"\na\n", [None, b"a"]),
        (b"a\n" + b"x" * 1000 + b"\nb", [b"a", None, b"b"]),
        (b"x" * 1000, [None]),
        (b"x" * 1000 + b"\n" + b"y" * 1000 + b"\n", [None, None]),
    ],
)
def test_a_line_that_is_too_long_is_passed_over_and_noted(
    data: bytes, expected: list[bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in (1, 7, 10, 11, 4096):
        monkeypatch.setattr(lines, "_BLOCK", block)
        assert list(reader(data, max_bytes=10)) == expected


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line)), st.integers(1, 40))
def test_lines_do_not_depend_on_the_blocks_they_are_read_in(some: list[bytes], block: int) -> None:
    data = b"x" + b"\n".join(some).replace(b"\0", b".") + b"\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK", block)
        found = list(reader(data))
    assert found == [line.removesuffix(b"\r") for line in data.split(b"\n")[:-1]]


@given(st.binary(max_size=300))
def test_the_digest_is_that_of_the_files_bytes(data: bytes) -> None:
    it = reader(b"x" + data.replace(b"\0", b"."))
    list(it)
    assert it.digest == hashlib.sha256(b"x" + data.replace(b"\0", b".")).hexdigest()


def test_the_digest_covers_the_byte_order_mark_and_lines_too_long() -> None:
    data = BOM + b"x" * 500 + b"\r\nb"
    it = reader(data)
    list(it)
    assert it.digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("data", "said", "hint"),
    [
        ("a".encode("utf-16"), "is encoded as UTF-16", "save it as UTF-8 and try again"),
        (b"\xfe\xff\0a", "is encoded as UTF-16", "save it as UTF-8 and try again"),
        ("abc".encode("utf-16-le"), "is a binary file, not text", None),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a binary file, not text", None),
    ],
    ids=["UTF-16", "UTF-16 big", "UTF-16 without mark", "PNG"],
)
def test_what_is_no_utf8_text_at_all_is_refused(data: bytes, said: str, hint: str | None) -> None:
    with pytest.raises(ManifestProblems) as caught:
        list(reader(data))
    assert caught.value.message == f"a.txt: {said}"
    assert caught.value.hint == hint


@pytest.mark.parametrize("endings", [True, False], ids=["of many lines", "of one line"])
def test_memory_stays_flat_over_a_long_file(endings: bool) -> None:
    class Endless(io.RawIOBase):
        """20 MB that are nowhere in memory."""

        left = 20

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            line = b"a prompt\n" if endings else b"a prompt."
            return line * (size // len(line)) if self.left >= 0 else b""

    stream: Any = Endless()
    tracemalloc.start()
    count = sum(1 for _ in LineReader(stream, Problems("a.txt"), max_bytes=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 1_000_000 if endings else count == 1
    assert peak < 16 << 20


def test_a_disk_that_fails_is_a_clear_error() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    stream: Any = Failing()
    with pytest.raises(ManifestProblems, match=r"a\.txt: cannot be read: Input/output error"):
        list(LineReader(stream, Problems("a.txt"), max_bytes=10))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\xff", "byte 1 is 0xff"),
        (b"abc\xe9d", "byte 4 is 0xe9"),
        ("日本".encode()[:-1], "byte 4 is 0xe6"),
        ("日本".encode("cp932"), "byte 1 is 0x93"),
        (b"ab\xed\xa0\x80", "byte 3 is 0xed"),
    ],
)
def test_a_line_that_is_not_utf8_is_named_by_its_byte(line: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=f"^is not UTF-8: {said}$"):
        decoded(line)


@given(st.text(st.characters(codec="utf-8")))
def test_utf8_is_decoded(text: str) -> None:
    assert decoded(text.encode()) == text


def test_what_is_too_long_names_the_limit() -> None:
    assert reader(b"").too_long == (
        "the line is too long; the limit is 100 (RENDERMILL_MAX_ROW_BYTES)"
    )
