"""Codes and optimisers of param groups: objects while a job runs, names in what it stores."""

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
    """Return param groups with names in place of codes and classes of optimisers."""
    return [_stored(group) for group in groups]


def _stored(group: Group) -> dict[str, Any]:
    named = {"code": code_name(group["code"])}
    if "optimizer" in group:
        named["optimizer"] = group["optimizer"].__qualname__
    return {**group, **named}


def live_groups(stored: Sequence[Group], own: Sequence[Group]) -> list[dict[str, Any]]:
    """Return stored param groups with this job's own codes and classes where names are the same.

    A code that this job does not know already must be registered; nothing is ever imported for it.

    Args:
        stored: of a state dict.
        own: of the optimiser that loads it.

    Raises:
        ValueError: a code that is not registered here, or a group of another optimiser.
    """
    return [
        {**group, **_live(i, group, own[i] if i < len(own) else {})}
        for i, group in enumerate(stored)
    ]


def _live(i: int, group: Group, own: Group) -> dict[str, Any]:
    """The code, and the class if there is one, of the i-th stored param group."""
    live: dict[str, Any] = {"code": _live_code(i, group["code"], own.get("code"))}
    if "optimizer" in own:
        name = own["optimizer"].__qualname__
        if group.get("optimizer", name) != name:  # version 0.1 did not store it
            raise ValueError(
                f"state_dict: param group {i} was trained by {group['optimizer']}, here it is "
                f"given to {name}"
            )
        live["optimizer"] = own["optimizer"]
    return live


def _live_code(i: int, stored: Any, known: Codes | None) -> Codes:
    # JSON has no tuples.
    names = stored if isinstance(stored, str) else tuple(stored)
    if known is not None and code_name(known) == names:
        return known
    try:
        stage_codes(names)
    except ValueError as error:
        raise ValueError(
            f"state_dict: param group {i}: {error}; register the code with "
            "thinwire.quantize.register_code before loading"
        ) from None
    return names
