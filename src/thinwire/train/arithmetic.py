"""What the last bits of a run depend on beside its recipe: threads and the processor."""

import os
from collections.abc import Mapping

import torch

Arithmetic = dict[str, str]

# torch cuts a sum over many values into a part for each thread and each lane of a vector register,
# so all of these change the order of additions and with it the rounding.
_WORDS = {
    "threads": "threads a worker",
    "instructions": "vector instructions",
    "mkl": "MKL_CBWR",
}


def arithmetic() -> Arithmetic:
    """Return how this process rounds: threads, torch's vector instructions, MKL's branch."""
    return {
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "mkl": os.environ.get("MKL_CBWR", "unset"),
    }


def rounding_remark(before: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """Say in one line that a run goes on with another arithmetic.

    Args:
        before: what ``arithmetic`` returned when the checkpoint was written; None if it was written
            by a version that did not store it.
        now: what ``arithmetic`` returns now.

    Returns:
        The line; "" if nothing has changed that is known.
    """
    if before is None:
        return ""
    changed = [name for name in _WORDS if before.get(name, now[name]) != now[name]]
    if not changed:
        return ""
    differences = ", ".join(
        f"{_WORDS[name]} {before[name]} then, {now[name]} now" for name in changed
    )
    return f"the run goes on to rounding and not to the bit: {differences}"
