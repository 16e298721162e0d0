"""A made-up profile with round numbers: 1 ms a sample, a model of 1 024 000 values."""

from dataclasses import replace
from typing import Any

from thinwire.plan import CodeTimes, Link, Network, Profile, SubBatchTimes
from thinwire.plan.methods import Setting

VALUES = 1_024_000
LINK = Link(1e6, latency=0.001)


def profile(**changes: Any) -> Profile:
    made = Profile(
        name="made up",
        buckets=(((1000, 1024),),),
        compute=SubBatchTimes((1, 1000), (0.001, 1.0)),
        collect=1e-9,
        post=4e-9,
        apply=1e-9,
        codes={
            "float32": CodeTimes(2e-9, 1e-9, 1e-9, 0.002),
            "sign": CodeTimes(3e-9, 1e-9, 1e-9, 0.002),
        },
        product_ratio=2.0,
        forward_ratio=0.25,
        link=LINK,
        processors=2,
        threads=1,
        workers=2,
        versions={"thinwire": "0"},
    )
    return replace(made, **changes)


def setting(link: Link = LINK, **changes: Any) -> Setting:
    return Setting(profile(), Network(link), **changes)
