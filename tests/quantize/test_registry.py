"""The table of codes, and codes of one's own in it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.quantize.cases import example
from thinwire import quantize
from thinwire.quantize import (
    Code,
    CodeSpec,
    Columns,
    SignCode,
    UniformCode,
    code_names,
    code_spec,
    named_code,
    register_code,
    registry,
    stage_codes,
)

TERNARY: CodeSpec = example("ternary_code").TERNARY


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the table, so that what a test registers is gone after it."""
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))


class Renamed(SignCode):
    """A sign code with another name and another size."""

    def __init__(self, name: str, extra: int = 0) -> None:
        super().__init__()
        self.name, self._extra = name, extra

    def payload_bytes(self, columns: Columns) -> int:
        return super().payload_bytes(columns) + self._extra


def spec(name: str, make: Callable[[], Code] | None = None) -> CodeSpec:
    return CodeSpec(name, 1, "for a test", make or (lambda: Renamed(name)))


def test_the_shipped_codes_call_themselves_by_their_names() -> None:
    assert code_names() == ("sign", "float32", "bfloat16", "rotated", "2-bit", "4-bit", "8-bit")
    assert [named_code(name).name for name in code_names()] == [*code_names()]
    assert [name for name in code_names() if code_spec(name).exact] == ["float32"]


@pytest.mark.parametrize("name", ["sign", "rotated", "2-bit", "4-bit", "8-bit", "ternary"])
def test_bits_are_what_a_long_payload_has_for_each_value(name: str) -> None:
    row = TERNARY if name == "ternary" else code_spec(name)
    columns = Columns.from_lengths([2**22])  # so long that a group's levels do not count
    bits = 8 * row.make().payload_bytes(columns) / columns.values
    if name == "rotated":
        bits -= 16 / 512  # a bfloat16 level for each block of 512
    if name in ("2-bit", "4-bit", "8-bit"):
        bits -= 32 * columns.runs.groups / columns.values  # two for each run of about 144
        assert columns.values / columns.runs.groups == pytest.approx(144, rel=1e-3)
    assert bits == pytest.approx(row.bits, rel=1e-4)


def test_a_registered_code_is_accepted_where_names_are() -> None:
    register_code(TERNARY)
    assert code_names()[-1] == "ternary"
    assert stage_codes("ternary").name == "ternary"
    assert stage_codes(("ternary", "8-bit")).name == "ternary/8-bit"
    with pytest.raises(ValueError, match=r"one of sign, .*, 8-bit, ternary, got 'ternery'"):
        named_code("ternery")


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ValueError, match="name: 'sign' is taken"):
        register_code(spec("sign"))
    register_code(TERNARY)
    with pytest.raises(ValueError, match="name: 'ternary' is taken"):
        register_code(TERNARY)


def test_what_could_not_travel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'odd': expected a payload of a multiple of 4 .* got 2"):
        register_code(spec("odd", lambda: Renamed("odd", 2)))
    with pytest.raises(ValueError, match="expected 'mine', which the code calls itself, got 'my'"):
        register_code(spec("my", lambda: Renamed("mine")))
    with pytest.raises(TypeError, match="expected an object with a method payload_bytes"):
        register_code(spec("none", lambda: object()))  # type: ignore[arg-type,return-value]
    assert not {"odd", "my", "none"} & set(code_names())


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a b", "a,b"])
def test_names_that_would_be_misread_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name: expected one word"):
        spec(name)


def test_bits_and_summary_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^bits: expected > 0"):
        replace(TERNARY, bits=0)
    with pytest.raises(ValueError, match=r"^summary: expected one line"):
        replace(TERNARY, summary="")


def test_a_code_itself_is_accepted() -> None:
    code = Renamed("own")
    assert stage_codes(code) == (code, code)
    assert stage_codes((code, "float32")).name == "own/float32"
    with pytest.raises(TypeError, match="expected an object with a method"):
        stage_codes(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="multiple of 4"):
        stage_codes(Renamed("own", 1))
    with pytest.raises(ValueError, match="expected a name"):
        stage_codes(Renamed(""))


def test_codes_of_both_stages() -> None:
    assert stage_codes("4-bit").name == "4-bit"
    assert stage_codes(["sign", "8-bit"]).name == "sign/8-bit"
    with pytest.raises(ValueError, match=r"start: expected one of sign, .* got 'warm'"):
        stage_codes("warm", "start")
    with pytest.raises(ValueError, match="one code, or one for each of 2 stages, got 3"):
        stage_codes(("sign",) * 3)


def test_codes_refuse_what_they_do_not_have() -> None:
    with pytest.raises(ValueError, match="one of"):
        UniformCode(3)
    with pytest.raises(ValueError, match="float64"):
        SignCode(torch.float64)


def test_the_former_constant_warns() -> None:
    with pytest.warns(DeprecationWarning, match="code_names"):
        names = quantize.CODE_NAMES
    assert names == code_names()
