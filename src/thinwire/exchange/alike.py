"""Whether all workers were given the same thing, asked once, before anything is trained.

Workers that differ in a learning rate, in the order of their parameters or in a code do not fail:
they train to the end with replicas that drift apart, or wait for packets of other sizes. So every
front end states what must agree as a flat table of facts, and one exchange of 32 bytes compares
them. Only where they differ do the tables themselves travel, so that the error can name the field.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from thinwire.exchange.wire import Wire

_LONGEST = 160  # characters of a value in the message
_STAGE = "agreement"


class DifferentWorkersError(ValueError):
    """The workers were not given the same thing; the message names the first field that differs."""


def check_alike(facts: Mapping[str, Any], wire: Wire, what: str) -> None:
    """Refuse to go on unless every worker states the same facts.

    Every worker must call it at the same point, since it is a collective.

    Args:
        facts: what must be the same everywhere, in the order in which to report it; values are
            anything that has one ``repr`` for one meaning: numbers, texts, tuples, dtypes.
        wire: the workers; 32 bytes go to each of the others, entered as "agreement".
        what: whose facts they are, the first words of the message, such as "OneBitSGD".

    Raises:
        DifferentWorkersError: on every worker, with the first field that differs, its values, and
            which workers have which.
    """
    if wire.world == 1:
        return
    content = _written(facts)
    digest = torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8)
    digests = wire.all_gather(digest, _STAGE)
    if all(torch.equal(other, digests[0]) for other in digests):
        return
    tables = [dict(json.loads(text)) for text in _gather(content, wire)]
    raise DifferentWorkersError(f"{what}: {_first_difference(tables)}")


def digest_of(facts: Mapping[str, Any]) -> int:
    """Return a number from 0 to 65535 that stands for facts, to travel in a packet's header.

    Other facts have another number but for one case in 65536, and every change is another case.
    """
    return int.from_bytes(hashlib.sha256(_written(facts)).digest()[:2], "little")


def _first_difference(tables: Sequence[Mapping[str, str]]) -> str:
    """What to say of the first field that is not the same in all tables.

    >>> _first_difference([{"lr": "0.1"}, {"lr": "0.2"}, {"lr": "0.1"}])
    'lr is not the same on all workers: 0.1 on workers 0, 2; 0.2 on worker 1'
    >>> _first_difference([{"code": "'sign'"}, {}])
    "code is not the same on all workers: 'sign' on worker 0; nothing on worker 1"
    """
    names = {name: None for table in tables for name in table}
    for name in names:
        workers_with: dict[str, list[int]] = {}
        for worker, table in enumerate(tables):
            workers_with.setdefault(table.get(name, "nothing"), []).append(worker)
        if len(workers_with) > 1:
            parts = [f"{_short(v)} on {_listed(ranks)}" for v, ranks in workers_with.items()]
            return f"{name} is not the same on all workers: {'; '.join(parts)}"
    return "the fields do not stand in the same order on all workers"


def _gather(content: bytes, wire: Wire) -> list[bytes]:
    """Every worker's bytes, in rank order."""
    own = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    sizes = [
        int(n)
        for n in wire.all_gather(
            torch.tensor([len(content)], dtype=torch.int64, device="cpu"), _STAGE
        )
    ]
    received = wire.exchange([own] * wire.world, sizes, _STAGE)
    return [bytes(raw.tolist()) for raw in received]


def _written(facts: Mapping[str, Any]) -> bytes:
    return json.dumps([[name, _text(value)] for name, value in facts.items()]).encode()


def _text(value: Any) -> str:
    """How a fact is written: tensors by their values, everything else by ``repr``."""
    return repr(value.tolist()) if isinstance(value, torch.Tensor) else repr(value)


def _listed(workers: Sequence[int]) -> str:
    return f"worker{'s' if len(workers) > 1 else ''} {', '.join(map(str, workers))}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
