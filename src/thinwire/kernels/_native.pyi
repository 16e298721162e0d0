"""The compiled kernels; ``native.py`` is the only caller and checks every argument."""

from typing import Any, Protocol

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

def __getattr__(name: str) -> Any:
    """NAME_encode (Encode), NAME_decode (Decode) and NAME_sum (Sum) of every family."""

def instruction_sets() -> list[str]: ...
