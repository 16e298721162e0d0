"""The table of codes: what there is to choose from, by name.

The library's own codes are the first rows. ``register_code`` adds a row of yours, and from then on
its name is accepted by every optimiser, hook and recipe.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from thinwire.quantize.code import Code, check_code
from thinwire.quantize.floats import Bfloat16Code, Float32Code
from thinwire.quantize.kernel_code import RotatedSignCode, SignCode, UniformCode


@dataclass(frozen=True)
class CodeSpec:
    """One row of the table of codes.

    Attributes:
        name: what users write and checkpoints store; the made code has the same.
        bits: bits a value on the wire, apart from levels and padding.
        summary: one line for help texts.
        make: returns the code.
        exact: whether decoded values are the values themselves.
        kind: what tells this code from others of as many bits, where runs are compared: a run over
            the code "rotated", 1 bit of kind "rotated", is called "rotated 1-bit SGD".
    """

    name: str
    bits: float
    summary: str
    make: Callable[[], Code]
    exact: bool = False
    kind: str = ""

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set(":/, \t\n"):
            raise ValueError(
                f"name: expected one word without colon, slash or comma, got {self.name!r}"
            )
        if not self.bits > 0:
            raise ValueError(f"bits: expected > 0 bits a value for {self.name}, got {self.bits}")
        if len(self.summary.splitlines()) != 1:
            raise ValueError(f"summary: expected one line about {self.name}, got {self.summary!r}")


_SPECS: dict[str, CodeSpec] = {}


def register_code(spec: CodeSpec) -> None:
    """Add a code to the table.

    Every worker registers the same codes, since each decodes what the others encode.

    Raises:
        TypeError: what ``spec.make`` returns lacks a method of ``Code``.
        ValueError: the name is taken, the code calls itself something else, or its payload is not
            a multiple of 4 bytes.
    """
    if spec.name in _SPECS:
        raise ValueError(f"name: {spec.name!r} is taken by a registered code, choose another")
    own = check_code(spec.make()).name
    if own != spec.name:
        raise ValueError(f"name: expected {own!r}, which the code calls itself, got {spec.name!r}")
    _SPECS[spec.name] = spec


def code_names() -> tuple[str, ...]:
    """Return the names of all registered codes, in the order of their registration."""
    return tuple(_SPECS)


def code_spec(name: str) -> CodeSpec:
    """Return the row of the table with this name.

    Raises:
        ValueError: there is none.
    """
    if name not in _SPECS:
        raise ValueError(f"code: expected one of {', '.join(_SPECS)}, got {name!r}")
    return _SPECS[name]


def named_code(name: str) -> Code:
    """Return a code by its name, one of ``code_names()``.

    Raises:
        ValueError: there is none.
    """
    return code_spec(name).make()


for _spec in (
    CodeSpec("sign", 1, "signs and two means a column, as in the paper", SignCode),
    CodeSpec("float32", 32, "all bits: the exact twin", Float32Code, exact=True),
    CodeSpec("bfloat16", 16, "values rounded to bfloat16", Bfloat16Code, kind="bfloat16"),
    CodeSpec("rotated", 1, "signs of rotated blocks", RotatedSignCode, kind="rotated"),
    CodeSpec("2-bit", 2, "4 even steps between the extremes of a run", partial(UniformCode, 2)),
    CodeSpec("4-bit", 4, "16 even steps between the extremes of a run", partial(UniformCode, 4)),
    CodeSpec("8-bit", 8, "256 even steps between the extremes of a run", partial(UniformCode, 8)),
):
    register_code(_spec)
