"""What a recipe's [data] section says."""

from dataclasses import dataclass
from typing import Literal

from thinwire.named_function import is_function_name

Format = Literal["auto", "idx", "npz", "npy", "parquet", "csv", "kaldi", "function"]


@dataclass(frozen=True, kw_only=True)
class DataFields:
    """The samples: where they are, and which part of them is what."""

    path: str | None = None
    """Folder or file, or package.module:function; MNIST is found or fetched by default."""
    format: Format = "auto"
    """Of the samples; auto tells it by the name."""
    inputs: tuple[str, ...] | None = None
    """Columns of a table that are inputs, all others by default; or the name of one array."""
    targets: tuple[str, ...] | None = None
    """Columns of a table that are targets; or the name of one array."""
    test: str | None = None
    """File or folder of the test samples, like path; of Kaldi features also a list of names."""
    test_share: float = 0.1
    """Share of the samples that are taken for testing where there are no test samples."""
    classes: int | None = None
    """Number of classes; by default one more than the largest class number in training."""
    splice: int = 0
    """Of Kaldi features: how many neighbours a frame brings along on either side."""
    cmvn: Literal["none", "speaker"] = "none"
    """Of Kaldi features: bring those of every speaker to mean 0 and variance 1."""
    memory_mb: int = 1024
    """Of Kaldi features: MiB that a worker keeps of them; frames are shuffled among as many."""

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise ValueError(f"data.test_share: expected in (0, 1), got {self.test_share}")
        if self.classes is not None and self.classes < 1:
            raise ValueError(f"data.classes: expected >= 1, got {self.classes}")
        if not 0 <= self.splice <= 100:
            raise ValueError(f"data.splice: expected 0 to 100, got {self.splice}")
        if not 1 <= self.memory_mb <= 1 << 20:
            raise ValueError(f"data.memory_mb: expected 1 to {1 << 20}, got {self.memory_mb}")
        for name in ("inputs", "targets"):
            given = getattr(self, name)
            if given is not None and len(set(given)) != len(given):
                raise ValueError(f"data.{name}: expected each name once, got {list(given)}")
            if given is not None and not given:
                raise ValueError(f"data.{name}: expected at least one name, got none")
        if self.format == "function" and not is_function_name(self.path or ""):
            raise ValueError(f"data.path: expected package.module:function, got {self.path}")
