"""The codes of param groups: objects while a job runs, names in what it stores."""

from collections.abc import Mapping, Sequence
from typing import Any

from thinwire.exchange import Codes
from thinwire.quantize import stage_codes

Group = Mapping[str, Any]


def code_name(code: Codes) -> str | tuple[str, str]:
    """Return what a code, or the codes of both stages, are called.

    >>> code_name(("sign", "4-bit")), code_name("rotated")
    (('sign', '4-bit'), 'rotated')
    """
    one, two = (given.name for given in stage_codes(code))
    return one if one == two else (one, two)


def stored_groups(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return param groups with the names of their codes in place of code objects."""
    return [{**group, "code": code_name(group["code"])} for group in groups]


def live_groups(stored: Sequence[Group], own: Sequence[Group]) -> list[dict[str, Any]]:
    """Return stored param groups with this job's own code objects where the names are the same.

    A name that this job does not know already must be registered; nothing is ever imported for it.

    Args:
        stored: of a state dict.
        own: of the optimiser that loads it.

    Raises:
        ValueError: a code that is not registered here.
    """
    found = []
    for i, group in enumerate(stored):
        names = group["code"]
        # JSON has no tuples.
        names = names if isinstance(names, str) else tuple(names)
        known = own[i]["code"] if i < len(own) else None
        if known is None or code_name(known) != names:
            try:
                stage_codes(names)
            except ValueError as error:
                raise ValueError(
                    f"state_dict: param group {i}: {error}; register the code with "
                    "thinwire.quantize.register_code before loading"
                ) from None
            known = names
        found.append({**group, "code": known})
    return found
