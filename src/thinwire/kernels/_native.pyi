"""The compiled kernels; ``native.py`` is the only caller and checks every argument."""

from typing import Protocol

class Encode(Protocol):
    def __call__(
        self,
        gradient: int,
        gradient_type: int,
        scale: float,
        residual: int,
        layout: int,
        groups: int,
        new_residual: int,
        levels: int,
        level_type: int,
        packed: int,
        bits: int,
        threads: int,
        isa: str,
        /,
    ) -> None: ...

class Decode(Protocol):
    def __call__(
        self,
        levels: int,
        level_type: int,
        packed: int,
        bits: int,
        layout: int,
        groups: int,
        out: int,
        accumulate: bool,
        threads: int,
        isa: str,
        /,
    ) -> None: ...

class Sum(Protocol):
    def __call__(
        self,
        levels: list[int],
        level_type: int,
        packed: list[int],
        bits: int,
        layout: int,
        groups: int,
        out: int,
        threads: int,
        isa: str,
        /,
    ) -> None: ...

sign_encode: Encode
sign_decode: Decode
sign_sum: Sum
rotated_encode: Encode
rotated_decode: Decode
rotated_sum: Sum
uniform_encode: Encode
uniform_decode: Decode
uniform_sum: Sum

def instruction_sets() -> list[str]: ...
