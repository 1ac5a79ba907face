"""Text files are read by RFC 4180: cells keep separators, quotes and line ends, and no open quote swallows rows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from zigong.behavior.sources.records import Dialect, opened, records


def read(text: str, dialect: Dialect | None = None) -> list[tuple[int, list[str], bool]]:
    return [tuple(record) for record in records(io.StringIO(text, newline=""), dialect or Dialect())]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        (r'1,"SHOP \","a, b"', ["1", "SHOP \\", "a, b"]),
        (r'1,"C:\dir\",x', ["1", "C:\\dir\\", "x"]),
        ('1,"she said ""x"", so",""""', ["1", 'she said "x", so', '"']),
        ('1,"two\r\nlines",x', ["1", "two\r\nlines", "x"]),
        ('1,5" pipe,x', ["1", '5" pipe', "x"]),
    ],
)
def test_a_backslash_is_a_letter_and_quotes_are_doubled(line: str, cells: list[str]) -> None:
    assert [found for _, found, _ in read(f"id,name,note\r\n{line}\r\n")] == [["id", "name", "note"], cells]


def test_an_escape_of_the_mapping_is_taken_off() -> None:
    assert read('a,b\n1,"x\\"y"\n', Dialect(escape="\\"))[1] == (2, ["1", 'x"y'], False)


def test_an_open_quote_costs_its_own_line_only() -> None:
    rows = "".join(f"{number},x\n" for number in range(3, 3_000))
    found = read(f'a,b\n1,"open\n2,"quoted"\n{rows}')
    assert [(line, broken) for line, _, broken in found if broken] == [(2, True)]
    assert len(found) == 3_000
    assert found[2] == (3, ["2", "quoted"], False)
    assert found[-1] == (3_000, ["2999", "x"], False)


def test_a_quote_closed_in_a_later_row_does_not_join_them() -> None:
    found = read('a,b,c\n1,"open,x\n2,y,z\n3,"q",r\n4,s,t\n')
    assert [(line, cells[0], broken) for line, cells, broken in found[1:]] == [
        (2, "1", True),
        (3, "2", False),
        (4, "3", False),
        (5, "4", False),
    ]


def test_without_multiline_a_quoted_line_end_breaks_its_row() -> None:
    assert [broken for _, _, broken in read('a,b\n1,"x\ny"\n2,z\n', Dialect(multiline=False))] == [
        False, True, False, False,
    ]  # fmt: skip


def test_lines_are_numbered_over_skipped_blank_and_quoted_ones() -> None:
    found = read('a note\n\nid,x\n1,"p\nq"\n\n2,r\n', Dialect(skip_lines=2))
    assert [(line, cells[0]) for line, cells, _ in found] == [(3, "id"), (4, "1"), (7, "2")]


def test_a_byte_order_mark_of_joined_files_is_no_part_of_a_cell() -> None:
    found = read('\ufeff"id","x"\n1,a\n\ufeff"id","x"\n2,b\n')
    assert [cells[0] for _, cells, _ in found] == ["id", "1", "id", "2"]


@pytest.mark.parametrize("encoding", ["utf-8", "windows-1252", "utf-16", "utf-16-le"])
def test_a_declared_encoding_is_read_and_no_byte_order_mark_is_left(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding in ("utf-8", "utf-16-le") else ""
    (tmp_path / "x.csv").write_bytes(f'{mark}"ID",x\n1,Größe\n'.encode(encoding))
    with opened(tmp_path / "x.csv", encoding) as text:
        assert [record.cells for record in records(text, Dialect())] == [["ID", "x"], ["1", "Größe"]]
