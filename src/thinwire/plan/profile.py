"""A profile: what one machine, one model and one network were measured to take. A JSON file.

Nothing in a profile is guessed: what was not measured is None, and the planner asks for it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thinwire.files import read_text, write_atomically
from thinwire.plan.network import Link
from thinwire.plan.subbatch import SubBatchTimes
from thinwire.plan.wire_format import Shape, values

SCHEMA = 1
MAX_BYTES = 1 << 20
MAX_BUCKETS = 1000
"""Each is planned for every number of workers, which takes milliseconds."""
MOST_SECONDS = 1e6
"""Of any time in a profile, and the largest ratio of two; anything beyond is no measurement."""
LEAST_SECONDS = 1e-18
"""Of any time in a profile but zero."""
MOST_RATE = 1e18
MOST_SIZE = 10**7
MOST_VALUES = 10**13
MOST_WORKERS = 10**6
CODES = ("float32", "sign")


@dataclass(frozen=True)
class CodeTimes:
    """What one code takes, in seconds a value.

    Attributes:
        encode: with error feedback.
        decode: one packet.
        add: each value of each packet in the sum of several.
        overhead: seconds (not a value) an exchange takes beyond these and the profile's other
            parts, which are measured with everything in its place.
    """

    encode: float
    decode: float
    add: float
    overhead: float


@dataclass(frozen=True)
class Profile:
    """Everything the planner needs to know about a machine.

    Attributes:
        name: what it is called in tables.
        buckets: shapes of the parameters, by bucket, in the order in which they leave.
        compute: forward and backward by sub-batch size.
        collect: seconds a value to gather gradients into a bucket.
        post: seconds a value of post-processing at its owner.
        apply: seconds a value to subtract the update from the parameters.
        codes: by name, what quantising takes.
        product_ratio: a curvature product's time over a gradient's.
        forward_ratio: a loss's time over a gradient's.
        link: between the workers that calibrated, or None for one alone.
        processors: of the machine.
        threads: each worker computed with.
        workers: how many measured at the same time.
        versions: of the software.
    """

    name: str
    buckets: tuple[tuple[Shape, ...], ...]
    compute: SubBatchTimes
    collect: float
    post: float
    apply: float
    codes: dict[str, CodeTimes]
    product_ratio: float
    forward_ratio: float
    link: Link | None
    processors: int
    threads: int
    workers: int
    versions: dict[str, str]

    @property
    def values(self) -> int:
        """M, parameters in the model."""
        return sum(values(shapes) for shapes in self.buckets)

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps({"profile": SCHEMA, **asdict(self)}, indent=1) + "\n"


def write_profile(profile: Profile, path: Path) -> None:
    """Write the file, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, profile.to_json())


def read_profile(path: Path) -> Profile:
    """Read and check a profile.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a profile; names the file, the field, what was found and expected.
    """
    try:
        found = json.loads(read_text(path, limit=MAX_BYTES))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    try:
        return _parse(found)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _parse(found: Any) -> Profile:
    """A profile from what JSON holds.

    Raises:
        ValueError: a field is missing, unknown or out of range.
    """
    fields = _record(found, "profile", {"profile", *Profile.__dataclass_fields__})
    if fields["profile"] != SCHEMA:
        raise ValueError(f"profile: expected version {SCHEMA}, got {fields['profile']!r}")
    compute = _record(fields["compute"], "compute", {"sizes", "seconds"})
    sizes = _list(compute["sizes"], "compute.sizes")
    seconds = _list(compute["seconds"], "compute.seconds")

    def number(name: str) -> float:
        return _number(fields[name], name)

    def whole(name: str) -> int:
        return _whole(fields[name], name)

    return Profile(
        name=_name(fields["name"], "name"),
        buckets=_buckets(fields["buckets"]),
        compute=SubBatchTimes(
            tuple(_whole(n, "compute.sizes", 2**31) for n in sizes),
            tuple(_number(t, "compute.seconds") for t in seconds),
        ),
        collect=number("collect"),
        post=number("post"),
        apply=number("apply"),
        codes=_codes(fields["codes"]),
        product_ratio=number("product_ratio"),
        forward_ratio=number("forward_ratio"),
        link=None if fields["link"] is None else _link(fields["link"]),
        processors=whole("processors"),
        threads=whole("threads"),
        workers=whole("workers"),
        versions={
            _name(k, "versions"): _name(v, f"versions.{k[:40]}")
            for k, v in _record(fields["versions"], "versions").items()
        },
    )


def _name(found: Any, field: str) -> str:
    if not isinstance(found, str) or len(found) > 200 or not found.isprintable():
        raise ValueError(f"{field}: expected one line of at most 200 characters")
    return found


def _buckets(found: Any) -> tuple[tuple[Shape, ...], ...]:
    buckets = tuple(
        tuple(
            tuple(_whole(size, "buckets", MOST_SIZE) for size in _list(shape, "buckets"))
            for shape in _list(bucket, "buckets")
        )
        for bucket in _list(found, "buckets")
    )
    if not buckets or not all(buckets):
        raise ValueError("buckets: expected at least one, each with a parameter, got none")
    if len(buckets) > MAX_BUCKETS or sum(map(values, buckets)) > MOST_VALUES:
        raise ValueError(
            f"buckets: expected at most {MAX_BUCKETS} with {MOST_VALUES} values, got more"
        )
    return buckets


def _codes(found: Any) -> dict[str, CodeTimes]:
    codes, expected = {}, set(CodeTimes.__dataclass_fields__)
    for name in CODES:
        times = _record(_record(found, "codes").get(name), f"codes.{name}", expected)
        codes[name] = CodeTimes(**{k: _number(t, f"codes.{name}.{k}") for k, t in times.items()})
    return codes


def _link(found: Any) -> Link:
    fields = _record(found, "link", {"bandwidth", "latency", "message", "waiting"})
    most = {"bandwidth": MOST_RATE}
    return Link(
        **{
            name: _number(value, f"link.{name}", most.get(name, MOST_SECONDS))
            for name, value in fields.items()
        }
    )


def _record(found: Any, field: str, names: set[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{field}: expected an object, got {type(found).__name__}")
    if names is not None and found.keys() != names:
        missing, unknown = sorted(names - found.keys()), sorted(found.keys() - names)
        what = f"missing {', '.join(missing)}" if missing else f"unknown {unknown[0][:60]}"
        raise ValueError(f"{field}: {what}; `thinwire plan --calibrate` writes such files")
    return found


def _list(found: Any, field: str) -> list[Any]:
    if not isinstance(found, list):
        raise ValueError(f"{field}: expected a list, got {_excerpt(found)}")
    return found


def _number(found: Any, field: str, most: float = MOST_SECONDS) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"{field}: expected a number, got {_excerpt(found)}")
    if not (found == 0 or LEAST_SECONDS <= found <= most):
        raise ValueError(
            f"{field}: expected 0, or a number from {LEAST_SECONDS:g} to {most:g}, "
            f"got {_excerpt(found)}"
        )
    return float(found)


def _whole(found: Any, field: str, most: int = MOST_WORKERS) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= most:
        raise ValueError(
            f"{field}: expected a whole number from 1 to {most}, got {_excerpt(found)}"
        )
    return found


def _excerpt(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 60 else text[:60] + "..."
