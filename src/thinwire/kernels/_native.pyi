"""The compiled kernels; ``native.py`` is the only caller and checks every argument."""

def sign_encode(
    gradient: int,
    gradient_type: int,
    scale: float,
    residual: int,
    offsets: int,
    words: int,
    groups: int,
    new_residual: int,
    levels: int,
    level_type: int,
    bits: int,
    threads: int,
    isa: str,
) -> None: ...
def sign_decode(
    levels: int,
    level_type: int,
    bits: int,
    offsets: int,
    words: int,
    groups: int,
    out: int,
    accumulate: bool,
    threads: int,
    isa: str,
) -> None: ...
def instruction_sets() -> list[str]: ...
