"""The tables of what is supported are made of the tests: each cell names one that exists."""

from __future__ import annotations

import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from tests.support.support_table import PAGE, TABLES, Not, Table, written

ROOT = Path(__file__).parents[2]
tables = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


def test_the_page_has_the_tables_as_they_are() -> None:
    page = PAGE.read_text()
    assert page == written(page), "python -m tests.support.support_table writes them"


@tables
def test_each_cell_has_a_test_of_its_column_or_says_why_not(table: Table) -> None:
    for row in table.rows:
        for column in table.columns:
            cell = row.cell(column)
            if isinstance(cell, Not):
                assert cell.why, f"{row.says} for {column}"
            else:
                assert cell, f"{row.says} for {column}"
        assert any(not isinstance(row.cell(column), Not) for column in table.columns), row.says


def test_each_test_that_is_named_is_collected() -> None:
    named = sorted({test for table in TABLES for test in table.tests()})
    assert len(named) > 100
    files = [file for file, _ in groupby(test.partition("::")[0] for test in named)]
    words = ["-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", *files]
    done = subprocess.run([sys.executable, *words], check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    collected = set(done.stdout.splitlines())
    assert collected, done.stderr
    assert [test for test in named if test not in collected] == []
