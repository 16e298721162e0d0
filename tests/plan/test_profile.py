"""Profiles: written, read back, and refused with the field's name."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.plan.examples import profile
from thinwire.plan import read_profile, write_profile


def test_a_profile_comes_back(tmp_path: Path) -> None:
    for made in (profile(), profile(link=None, buckets=(((), (3,)), ((2, 2),)))):
        write_profile(made, tmp_path / "sub" / "p.json")
        assert read_profile(tmp_path / "sub" / "p.json") == made


BROKEN: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda p: p.pop("post"), "missing post"),
    (lambda p: p.update(colour="red"), "unknown colour"),
    (lambda p: p.update(profile=2), "profile: expected version 1, got 2"),
    (lambda p: p.update(post="fast"), "post: expected a number, got 'fast'"),
    (lambda p: p.update(post=-1), "post: expected 0, or a number from 1e-18 to 1e+06, got -1"),
    (lambda p: p.update(apply=float("nan")), "apply: expected 0, or a number from"),
    (lambda p: p.update(workers=0), "workers: expected a whole number from 1 to 1000000, got 0"),
    (lambda p: p.update(threads=True), "threads: expected a whole number"),
    (lambda p: p.update(buckets=[]), "buckets: expected at least one"),
    (
        lambda p: p.update(buckets=[[[3, 0]]]),
        "buckets: expected a whole number from 1 to",
    ),
    (lambda p: p.update(compute={"sizes": [1]}), "compute: missing seconds"),
    (lambda p: p["compute"].update(seconds=[2.0, 0.0]), "seconds: expected times > 0"),
    (lambda p: p["codes"].pop("sign"), "codes.sign: expected an object"),
    (lambda p: p["codes"]["sign"].update(encode=None), "codes.sign.encode: expected a number"),
    (lambda p: p["link"].update(bandwidth=0), "bandwidth: expected > 0"),
    (lambda p: p.update(link=[1]), "link: expected an object, got list"),
]


@pytest.mark.parametrize(("spoil", "said"), BROKEN, ids=[said for _, said in BROKEN])
def test_a_broken_profile_is_named(
    spoil: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    found = json.loads(profile().to_json())
    spoil(found)
    path = tmp_path / "p.json"
    path.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        read_profile(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_what_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(ValueError, match="not a JSON file"):
        read_profile(tmp_path / "p.json")


def test_more_buckets_than_can_be_planned_are_refused(tmp_path: Path) -> None:
    found = json.loads(profile().to_json())
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**found, "buckets": [[[9]]] * 1001}))
    with pytest.raises(ValueError, match=r"p\.json: buckets: expected at most 1000 with"):
        read_profile(path)
