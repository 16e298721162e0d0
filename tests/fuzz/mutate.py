"""Mutations that know the structure: of JSON values, of texts and of bytes."""

import copy
import json
import random
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**53, 2**63, 2**64, 10**30, 10**400, -(10**400)),
    *(0.5, -0.0, 1e-320, 1e30, 1e300, -1e300, float("nan"), float("inf"), float("-inf")),
    *("", "3", "true", "[bold]x[/bold]", "\x00\x1b[2J", "../../canary", "x" * 5000, "\ud800"),
    *([], {}, [[]], [1, "2", None], {"": {}}, {"a": [1]}, [[[[[[[[]]]]]]]], [0] * 300),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = list(enumerate(value))[:20]
    return [found for key, item in items for found in ((*at, key), *places(item, (*at, key)))]


def mutate_json(value: Any, rng: random.Random) -> Any:
    """A copy with up to three places replaced, dropped, doubled or swapped."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        found = places(value)
        if not found:
            return rng.choice(STRANGE)
        *way, last = rng.choice(found)
        parent = value
        for key in way:
            parent = parent[key]
        _mutate_at(parent, last, rng)
    return value


def _mutate_at(parent: Any, key: Any, rng: random.Random) -> None:
    kind, old = rng.randrange(8), parent[key]
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(("x", str(key) + "x", "", "\n", "self"))] = parent.pop(key)
    elif kind == 2 and isinstance(old, int | float):
        parent[key] = rng.choice((old + 1, -old, old * 10**6, str(old), bool(old), [old]))
    elif kind == 3 and isinstance(parent, list):
        parent.extend([old] * rng.choice((1, 100)))
    elif kind == 4:
        parent[key] = nested(old, rng.choice((3, 40)))
    else:
        parent[key] = copy.deepcopy(rng.choice(STRANGE))


def nested(value: Any, depth: int) -> Any:
    """A value inside so many lists."""
    for _ in range(depth):
        value = [value]
    return value


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, cut out, doubled or put in."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(made) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            del made[at:]
        elif kind == 1:
            del made[at : at + rng.randrange(9)]
        elif kind == 2:
            made[at:at] = rng.choice((b"\x00", b"\xff" * 8, b"[" * 3000, b'"', b"9" * 5000, b"\n"))
        elif kind == 3:
            made[at:at] = made[: rng.randrange(99)]
        elif at < len(made):
            made[at] = rng.randrange(256)
    return bytes(made)


def encode(value: Any, rng: random.Random) -> bytes:
    """JSON text of a value, at times in another encoding or damaged."""
    content = json.dumps(value).encode()
    kind = rng.randrange(12)
    if kind == 0:
        return b"\xef\xbb\xbf" + content
    if kind == 1:
        return content.decode().encode("utf-16")
    return mutate_bytes(content, rng) if kind == 2 else content
