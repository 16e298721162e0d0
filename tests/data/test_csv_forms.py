"""CSV files as spreadsheets and other systems write them: read rightly, or refused in one line."""

from pathlib import Path

import pytest
import torch

from thinwire.data import DataFields, open_dataset

ROWS = [f"{i},{2 * i},{i % 3}" for i in range(20)]
PLAIN = "\n".join(["a,b,price", *ROWS, ""])
QUOTED = PLAIN.replace("a,b,price", '"a","b","price"')
BOM = b"\xef\xbb\xbf"

READ = {
    "plain": PLAIN.encode(),
    "byte-order mark": BOM + PLAIN.encode(),
    "line ends of Windows": PLAIN.replace("\n", "\r\n").encode(),
    "line ends of old": PLAIN.replace("\n", "\r").encode(),
    "empty lines": ("\n\n" + PLAIN.replace("\n", "\n\n") + "\n").encode(),
    "no last line end": PLAIN.rstrip().encode(),
    "quoted header": QUOTED.encode(),
    "quoted numbers": PLAIN.replace("19,38,1", '"19","38","1"').encode(),
    "mark, quotes, empty lines and line ends of Windows": BOM
    + b"\r\n"
    + QUOTED.replace("\n", "\r\n\r\n").encode(),
    "a comma in a name": PLAIN.replace("a,b", '"a,b",c').encode(),
}
REFUSED = {
    "UTF-16": (PLAIN.encode("utf-16"), "expected text in UTF-8, got UTF-16; save it as UTF-8"),
    "Latin-1": (PLAIN.replace("a,", "\xe4,").encode("latin-1"), "expected text in UTF-8"),
    "semicolons": (PLAIN.replace(",", ";").encode(), "got no column 'price', expected one of a;b;"),
    "a name twice": (PLAIN.replace("a,b", "a,a").encode(), "each column once, got 'a' several tim"),
    "no rows": (b"a,b,price\n", "got no samples, expected at least 1"),
    "nothing": (b"", "expected a CSV file with a line of names"),
    "a short row": (PLAIN.encode() + b"1,2\n", "expected a CSV file with a line of names"),
    "empty cells": (PLAIN.encode() + b",,\n", "column 'a': 1 missing values, the first in row 21"),
    "a comma for a point": (PLAIN.replace("19,38", '"1,9",38').encode(), "column 'a': got string"),
    "a huge number": (PLAIN.encode() + b"9" * 400 + b",1,1\n", "inputs: got inf in sample 20"),
}


def fields(tmp_path: Path, content: bytes) -> DataFields:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    return DataFields(path=str(path), targets=("price",))


@pytest.mark.parametrize("form", READ)
def test_read_rightly(form: str, tmp_path: Path) -> None:
    found = open_dataset(fields(tmp_path, READ[form]))
    assert len(found.train) + len(found.test) == 20
    for part in (found.train, found.test):
        inputs, targets = part.batch(torch.arange(len(part)))
        assert torch.equal(inputs[:, 1], 2 * inputs[:, 0])
        assert torch.equal(targets, inputs[:, 0].long() % 3)


@pytest.mark.parametrize("form", REFUSED)
def test_refused_in_one_line(form: str, tmp_path: Path) -> None:
    content, said = REFUSED[form]
    with pytest.raises(ValueError, match=r"table\.csv: ") as caught:
        open_dataset(fields(tmp_path, content))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
