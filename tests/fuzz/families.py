"""What is fuzzed: for each family a seed input, its mutations, and who reads them."""

import contextlib
import hashlib
import io
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tests.conftest import write_idx
from tests.fuzz.mutate import encode, mutate_bytes, mutate_json, nested
from tests.plan.examples import profile
from thinwire.cli.plan.fields import PlanFields
from thinwire.cli.train import recipe_of
from thinwire.cli.usage import UsageError
from thinwire.data.idx import read_idx
from thinwire.plan import make_plan as plan_speeds
from thinwire.plan import read_profile
from thinwire.report import load_run, page_html, render
from thinwire.train import Display, Plan, Recipe, prepare, train
from thinwire.train.checkpoint import MANIFEST, Checkpoint, checkpoints_in, open_checkpoint
from thinwire.train.loop import begin_training
from thinwire.train.recipe import ExchangeFields, ModelFields
from thinwire.train.recipe_files import to_toml
from thinwire.train.resume import check_fits

REFUSALS = (ValueError, OSError, UsageError)
CANARY = "canary"

Family = Callable[[random.Random], str]


class Families:
    """Seed inputs in a folder of one process, and the families that mutate them.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        torch.set_num_threads(1)
        self.root = root
        self.canary = root / CANARY
        self.canary.write_text("untouched")
        data = root / "data"
        data.mkdir()
        generator = torch.Generator().manual_seed(0)
        for name, count in (("train", 40), ("t10k", 20)):
            images = torch.randint(0, 256, (count, 2, 2), generator=generator)
            write_idx(data / f"{name}-images-idx3-ubyte", images)
            write_idx(data / f"{name}-labels-idx1-ubyte", torch.arange(count) % 10)
        recipe = Recipe(
            data=data,  # type: ignore[arg-type]
            out=root / "run",
            epochs=1,
            minibatch=10,
            log_every=1,
            model=ModelFields(hidden=(3,)),
            exchange=ExchangeFields(start_samples=10),
        )
        self.job = prepare("tiny", recipe, lambda _: None)
        train(self.job, Display(1, None), None, Plan(anew=True))
        self.recipe = to_toml(recipe)
        self.idx = (data / "train-images-idx3-ubyte").read_bytes()
        self.checkpoint = checkpoints_in(self.job.folder)[0]
        self.manifest = json.loads((self.checkpoint / MANIFEST).read_text())
        self.files = {
            name: (self.checkpoint / name).read_bytes() for name in self.manifest["files"]
        }
        events = (self.job.folder / "events.jsonl").read_text().splitlines()
        self.events = [json.loads(line) for line in events]
        self.profile = json.loads(profile().to_json())
        self.all: dict[str, Family] = {
            "idx": self.read_idx,
            "recipe": self.read_recipe,
            "manifest": self.read_manifest,
            "events": self.read_run,
            "profile": self.read_profile,
        }

    def read_idx(self, rng: random.Random) -> str:
        """An IDX file: header and bytes."""
        content = bytearray(self.idx)
        if rng.random() < 0.5:
            at = rng.randrange(0, 16, 4)
            content[at : at + 4] = struct.pack(">I", rng.choice((0, 1, 2**31, 2**32 - 1, 2049)))
        path = self.put("x-idx", mutate_bytes(bytes(content), rng), rng)
        return refused(lambda: read_idx(path))

    def read_recipe(self, rng: random.Random) -> str:
        """A recipe: values replaced, lines dropped and doubled, encodings."""
        lines = self.recipe.splitlines()
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(lines))
            key = lines[at].split(" = ")[0]
            kind = rng.randrange(5)
            if kind == 0:
                lines.insert(at, lines[at])
            elif kind == 1:
                del lines[at]
            else:
                lines[at] = f"{key} = {rng.choice(_TOML)}"
        content = "\n".join(lines).encode(errors="surrogatepass")
        kind = rng.randrange(10)
        if kind == 0:
            content = mutate_bytes(content, rng)
        elif kind == 1:
            content = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
        elif kind == 2:
            content = content.decode(errors="replace").encode("utf-16")
        path = self.put("r.toml", content, rng)
        return refused(lambda: to_toml(recipe_of(str(path), [])[1]))

    def read_manifest(self, rng: random.Random) -> str:
        """A checkpoint with right digests: its manifest and headers of its tensors."""
        facts = {key: value for key, value in self.manifest.items() if key != "sha256"}
        name, content = "worker-0.safetensors", None
        if rng.random() < 0.3:
            name = rng.choice(sorted(self.files))
            content = _other_header(self.files[name], rng)
            text = f"{len(content)} {hashlib.sha256(content).hexdigest()}"
            facts = {**facts, "files": {**facts["files"], name: text}}
        else:
            facts = mutate_json(facts, rng)
        with contextlib.suppress(ValueError):
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
            facts = {**facts, "sha256": digest} if isinstance(facts, dict) else facts
        (self.checkpoint / name).write_bytes(self.files[name] if content is None else content)
        text = json.dumps(facts).encode()
        (self.checkpoint / MANIFEST).write_bytes(text)
        try:
            found: list[Checkpoint] = []
            outcome = refused(lambda: found.append(self._opened()))
            if found:
                begin_training(self.job, 1).state.restore(found[0], 0, 1)
            return outcome
        finally:
            (self.checkpoint / name).write_bytes(self.files[name])

    def _opened(self) -> Checkpoint:
        checkpoint = open_checkpoint(self.checkpoint)
        check_fits(checkpoint, self.job)
        return checkpoint

    def read_run(self, rng: random.Random) -> str:
        """A run folder's events: values, kinds, order and numbers of lines."""
        events = list(self.events)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(events))
            events[at] = mutate_json(events[at], rng)
            if rng.random() < 0.1:
                events[at:at] = [events[at]] * rng.choice((1, 50))
            if rng.random() < 0.05:
                events[at] = {"event": "step", "loss": nested(1, 900)}
        lines = [json.dumps(event).encode() for event in events]
        content = b"\n".join(lines) + b"\n"
        if rng.random() < 0.1:
            content = mutate_bytes(content, rng)
        folder = self.root / "events"
        folder.mkdir(exist_ok=True)
        self.put("events/events.jsonl", content, rng)
        return refused(lambda: self._report(folder, rng.random() < 0.004))

    def _report(self, folder: Path, page: bool) -> None:
        runs = [load_run(folder)]
        for form in ("md", "csv", "json"):
            render(runs, form)  # type: ignore[arg-type]
        if page:
            page_html(runs)

    def read_profile(self, rng: random.Random) -> str:
        """A profile, and plans from it."""
        path = self.put("p.json", encode(mutate_json(self.profile, rng), rng), rng)
        fields = PlanFields(bandwidth="1Gbit/s")

        def plan() -> None:
            setting = fields.setting(read_profile(path))
            plan_speeds(setting, [1, 4, 64], [256, 1024])

        return refused(plan)

    def put(self, name: str, content: bytes, rng: random.Random) -> Path:
        """A file with this content, or now and then something strange in its place."""
        path = self.root / name
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        kind = rng.randrange(300)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            path.symlink_to(self.canary)
        elif kind == 2:
            with path.open("wb") as file:
                file.truncate(1 << 40)
        else:
            path.write_bytes(content)
        return path

    def check_canary(self) -> None:
        """Fail if something was written where nothing may be."""
        if self.canary.read_text() != "untouched":
            raise AssertionError("the canary file was overwritten")


_TOML = (
    *("true", "-1", "0", "1e30", "nan", "inf", "-inf", "9" * 30, "9" * 5000, "0x" + "f" * 5000),
    *('"3"', '""', '"[bold]"', '"a\\nb"', '"\\u0000"', "[]", "[1, 2]", "{}", "{a = {b = 1}}"),
    *("[" * 2000, "2", "0.5", "1979-05-27", "'x'", '"' + "x" * 5000 + '"', "[true]", '"--help"'),
)


def _other_header(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header says something else."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    if "facts" in metadata and rng.random() < 0.6:
        metadata["facts"] = json.dumps(mutate_json(json.loads(metadata["facts"]), rng))
    else:
        header = mutate_json(header, rng)
    text = json.dumps(header).encode()
    length = rng.choice((len(text), len(text), len(text), 2**63, 0))
    return length.to_bytes(8, "little") + text + content[8 + size :]


def refused(read: Callable[[], Any]) -> str:
    """Whether an input is read, or refused as a user's mistake is."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            read()
    except REFUSALS as error:
        if len(str(error)) > 20_000:
            raise AssertionError(f"a message of {len(str(error))} characters") from None
        Console(file=io.StringIO()).print(str(error), markup=False)
        return "refused"
    return "read"
