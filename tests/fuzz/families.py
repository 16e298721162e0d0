"""What is fuzzed: for each family a seed input, its mutations, and who reads them."""

import contextlib
import hashlib
import io
import json
import math
import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tests.conftest import write_idx
from tests.data.kaldi_folder import write_folder
from tests.fuzz.mutate import encode, mutate_bytes, mutate_json, nested
from tests.fuzz.watch import CANARY, CODE
from tests.plan.examples import profile
from thinwire.cli.plan import draw as draw_plan
from thinwire.cli.plan import print_plan
from thinwire.cli.plan.fields import PlanFields
from thinwire.cli.train import recipe_of
from thinwire.cli.usage import UsageError
from thinwire.data import DataFields, inspect_kaldi, open_dataset
from thinwire.data.idx import read_idx
from thinwire.plan import Profile, read_profile
from thinwire.plan import make_plan as plan_speeds
from thinwire.report import (
    FORMATS,
    Run,
    load_run,
    page_html,
    price_rows,
    price_tables,
    render,
    terminal_table,
)
from thinwire.train import Display, Job, Plan, Recipe, check_grid, make_plan, prepare, train
from thinwire.train.checkpoint import MANIFEST, Checkpoint, checkpoints_in, open_checkpoint
from thinwire.train.loop import begin_training
from thinwire.train.recipe import (
    DecayFields,
    ExchangeFields,
    HessianFreeFields,
    ModelFields,
    SelectionFields,
)
from thinwire.train.recipe_files import to_toml
from thinwire.train.resume import check_fits

REFUSALS = (ValueError, OSError, UsageError)
PAGES = 0.01  # of the runs and plans also draw figures, which take a hundred times as long

Family = Callable[[random.Random], str]

_MINIBATCHES: dict[str, Any] = {"epochs": 1, "minibatch": 10, "log_every": 1}
_RUNS: dict[str, dict[str, Any]] = {
    "plain": {**_MINIBATCHES, "exchange": ExchangeFields(start_samples=10)},
    "adaptive": {
        **_MINIBATCHES,
        "exchange": ExchangeFields(code=("sign", "4-bit"), start="serial", double_buffer=True),
        "selection": SelectionFields(every=20, trial=160, largest=20),
        "decay": DecayFields(held_out=8),
    },
    "hessian-free": {
        "algorithm": "hessian-free",
        "hessian_free": HessianFreeFields(iterations=2, curvature_batch=10),
    },
}
_FOLDERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "text": {"text": True},
    "small": {"compression": 2},
}
_FORMER = """epochs = 1
data = "data"
[exchange]
code = "sign"
bits = [1, 4]
cold_start = 30
cold_start_mode = "serial"
[model]
hidden = [3]
"""


@dataclass(frozen=True)
class Trained:
    """A finished run: what checkpoints and event files are mutated from.

    Attributes:
        job: the run.
        manifest: of its last checkpoint.
        files: of the checkpoint, their content.
        events: of its event file.
    """

    job: Job
    manifest: dict[str, Any]
    files: dict[str, bytes]
    events: list[Any]

    @property
    def checkpoint(self) -> Path:
        """The folder of the last checkpoint."""
        return checkpoints_in(self.job.folder)[0]


class Families:
    """Seed inputs in a folder of one process, and the families that mutate them.

    Args:
        root: an empty folder, and the one the process works in: recipes name others from there.
    """

    def __init__(self, root: Path) -> None:
        torch.set_num_threads(1)
        self.root = root
        data = root / "data"
        data.mkdir()
        generator = torch.Generator().manual_seed(0)
        for name, count in (("train", 40), ("t10k", 20)):
            images = torch.randint(0, 256, (count, 2, 2), generator=generator)
            write_idx(data / f"{name}-images-idx3-ubyte", images)
            write_idx(data / f"{name}-labels-idx1-ubyte", torch.arange(count) % 10)
        self.idx = (data / "train-images-idx3-ubyte").read_bytes()
        self.folders: list[tuple[str, dict[str, bytes]]] = []
        for kind, options in _FOLDERS.items():
            made = write_folder(Path(kind), **options)
            files = {path.name: path.read_bytes() for path in made.path.iterdir()}
            self.folders.append((kind, files))
        self.runs = [self._trained(name, fields) for name, fields in _RUNS.items()]
        self.recipes = [*(to_toml(run.job.recipe) for run in self.runs), _FORMER]
        self.profile = json.loads(profile().to_json())
        self._report([load_run(self.runs[0].job.folder)], page=True)  # imports what it needs
        with contextlib.redirect_stdout(io.StringIO()):
            self._plan(PlanFields(bandwidth="1Gbit/s"), profile(), draw=True)
        self.all: dict[str, Family] = {
            "idx": self.read_idx,
            "kaldi": self.read_kaldi,
            "recipe": self.read_recipe,
            "manifest": self.read_manifest,
            "events": self.read_run,
            "profile": self.read_profile,
        }

    def _trained(self, name: str, fields: dict[str, Any]) -> Trained:
        recipe = Recipe(
            data="data",  # type: ignore[arg-type]
            out=Path(name),
            model=ModelFields(hidden=(3,)),
            **fields,
        )
        job = prepare(name, recipe, _ignore)
        train(job, Display(1, None), None, Plan(anew=True))
        checkpoint = checkpoints_in(job.folder)[0]
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        files = {file: (checkpoint / file).read_bytes() for file in manifest["files"]}
        lines = (job.folder / "events.jsonl").read_text().splitlines()
        return Trained(job, manifest, files, [json.loads(line) for line in lines])

    def read_idx(self, rng: random.Random) -> str:
        """An IDX file: header and bytes."""
        content = bytearray(self.idx)
        if rng.random() < 0.5:
            at = rng.randrange(0, 16, 4)
            content[at : at + 4] = struct.pack(">I", rng.choice((0, 1, 2**31, 2**32 - 1, 2049)))
        path = self.put("x-idx", mutate_bytes(bytes(content), rng), rng)
        return refused(lambda: read_idx(path))

    def read_kaldi(self, rng: random.Random) -> str:
        """A Kaldi folder: one of its files damaged, at times with a line of another one."""
        folder, files = rng.choice(self.folders)
        name = rng.choice(sorted(files))
        content = bytearray(files[name])
        if name.endswith(".ark") and rng.random() < 0.5:
            marks = [at for at in range(len(content) - 40) if content[at : at + 2] == b"\0B"]
            if marks:
                at = rng.choice(marks) + rng.randrange(24)
                content[at : at + 4] = struct.pack("<i", rng.choice(_COUNTED))
        elif not name.endswith(".ark") and rng.random() < 0.5:
            lines = bytes(content).splitlines()
            words = lines[rng.randrange(len(lines))].split(b" ", 1)
            lines[rng.randrange(len(lines))] = words[0] + b" " + rng.choice(_PLACES)
            content = bytearray(b"\n".join(lines))
        else:
            content = bytearray(mutate_bytes(bytes(content), rng))
        self.put(f"{folder}/{name}", bytes(content), rng)
        try:
            cmvn: Any = rng.choice(("none", "speaker"))
            fields = DataFields(path=folder, test_share=0.3, splice=2, cmvn=cmvn, memory_mb=1)
            outcome = refused(lambda: self._read_frames(fields))
            refused(lambda: inspect_kaldi(Path(folder)))
            return outcome
        finally:
            (self.root / folder / name).unlink()
            (self.root / folder / name).write_bytes(files[name])

    def _read_frames(self, fields: DataFields) -> None:
        """All frames of a folder that has been opened."""
        dataset = open_dataset(fields)
        for source in (dataset.train, dataset.test):
            source.batch(torch.arange(len(source)))

    def read_recipe(self, rng: random.Random) -> str:
        """A recipe: values replaced, lines dropped and doubled, encodings."""
        lines = rng.choice(self.recipes).splitlines()
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            at = rng.randrange(len(lines))
            key = lines[at].split(" = ")[0]
            kind = rng.randrange(12)
            if kind == 0:
                lines.insert(at, lines[at])
            elif kind == 1:
                del lines[at]
            elif kind == 2:
                lines[at] = rng.choice(("x", key + "x", '""', "a.b.c", key + ".y")) + " = 1"
            else:
                lines[at] = f"{key} = {rng.choice(_TOML)}"
        content = "\n".join(lines).encode(errors="surrogatepass")
        kind = rng.randrange(20)
        if kind == 0:
            content = mutate_bytes(content, rng)
        elif kind == 1:
            content = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
        elif kind == 2:
            content = content.decode(errors="replace").encode("utf-16")
        path = self.put("r.toml", content, rng)
        return refused(lambda: self._prepare(path))

    def _prepare(self, path: Path) -> None:
        """All that is checked before work begins, but for what fetches data or imports code."""
        name, recipe = recipe_of(str(path), [])
        assert recipe_of(str(self.put_plain("again.toml", to_toml(recipe))), [])[1] == recipe
        check_grid(recipe.workers, recipe.model_parallel)
        if recipe.data.path == "data" and CODE not in path.read_text("utf-8-sig"):
            make_plan(prepare(name, recipe, _ignore))

    def read_manifest(self, rng: random.Random) -> str:
        """A checkpoint with right digests: its manifest and headers of its tensors."""
        run = rng.choice(self.runs)
        facts = {key: value for key, value in run.manifest.items() if key != "sha256"}
        name, content = "worker-0.safetensors", None
        if rng.random() < 0.5:
            name = rng.choice(sorted(run.files))
            content = _other_header(run.files[name], rng)
            text = f"{len(content)} {hashlib.sha256(content).hexdigest()}"
            facts = {**facts, "files": {**facts["files"], name: text}}
        else:
            facts = mutate_json(facts, rng)
        with contextlib.suppress(ValueError):
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
            facts = {**facts, "sha256": digest} if isinstance(facts, dict) else facts
        if content is not None:
            (run.checkpoint / name).write_bytes(content)
        (run.checkpoint / MANIFEST).write_text(json.dumps(facts))
        try:
            found: list[Checkpoint] = []
            outcome = refused(lambda: found.append(_opened(run)), named=False)
            if found:  # from here on nothing may be refused
                with contextlib.closing(begin_training(run.job, 1)) as training:
                    training.state.restore(found[0], 0, 1)
            return outcome
        finally:
            if content is not None:
                (run.checkpoint / name).write_bytes(run.files[name])

    def read_run(self, rng: random.Random) -> str:
        """A run folder's events: values, kinds, order and numbers of lines."""
        events = list(rng.choice(self.runs).events)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(events))
            events[at] = mutate_json(events[at], rng)
            if rng.random() < 0.1:
                events[at:at] = [events[at]] * rng.choice((1, 50))
        if rng.random() < 0.05:
            deep = {"event": "step", "loss": nested(1, 900)}
            events[rng.randrange(len(events))] = deep
        lines = [json.dumps(event).encode() for event in events]
        content = b"\n".join(lines) + b"\n"
        if rng.random() < 0.1:
            content = mutate_bytes(content, rng)
        folder = self.root / "events"
        folder.mkdir(exist_ok=True)
        self.put("events/events.jsonl", content, rng)
        page = rng.random() < PAGES
        return refused(lambda: self._report([load_run(folder)], page))

    def _report(self, runs: list[Run], page: bool) -> None:
        """All that ``thinwire report`` prints; what cannot be encoded cannot be printed."""
        for form in FORMATS:
            render(runs, form).encode()
        console = Console(file=io.StringIO())
        console.print(terminal_table(runs))
        console.print(price_tables([*runs, *runs]) if price_rows(runs) else "")
        if page:
            page_html(runs).encode()

    def read_profile(self, rng: random.Random) -> str:
        """A profile, and plans from it, at times with strange flags."""
        path = self.put("p.json", encode(mutate_json(self.profile, rng), rng), rng)
        flags: dict[str, Any] = {"bandwidth": "1Gbit/s"}
        if rng.random() < 0.3:
            path = self.put_plain("p.json", json.dumps(self.profile))
            flags |= {name: rng.choice(_FLAGS[name]) for name in rng.sample(sorted(_FLAGS), 2)}
        draw = rng.random() < PAGES
        return refused(
            lambda: self._plan(PlanFields(**flags), read_profile(path), draw), named=False
        )

    def _plan(self, fields: PlanFields, found: Profile, draw: bool) -> None:
        """All that ``thinwire plan`` prints and draws."""
        plan = plan_speeds(
            fields.setting(found),
            fields.worker_counts,
            fields.minibatches,
            model_parallel=fields.model_parallel,
        )
        print_plan(plan, draw_plan(plan, self.root / "plan.svg") if draw else [])

    def put(self, name: str, content: bytes, rng: random.Random) -> Path:
        """A file with this content, or now and then something strange in its place."""
        path = self.root / name
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        kind = rng.randrange(300)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            path.symlink_to(self.root / CANARY)
        elif kind == 2:
            with path.open("wb") as file:
                file.truncate(1 << 40)
        else:
            path.write_bytes(content)
        return path

    def put_plain(self, name: str, content: str) -> Path:
        """A file with this content."""
        path = self.root / name
        path.unlink(missing_ok=True)
        path.write_text(content)
        return path


def _ignore(_: str) -> None:
    """Say nothing."""


def _opened(run: Trained) -> Checkpoint:
    checkpoint = open_checkpoint(run.checkpoint)
    check_fits(checkpoint, run.job)
    return checkpoint


_TOML = (
    *("true", "-1", "0", "1e30", "nan", "inf", "-inf", "9" * 30, "9" * 5000, "0x" + "f" * 5000),
    *('"3"', '""', '"[bold]"', '"a\\nb"', '"\\u0000"', "[]", "[1, 2]", "{}", "{a = {b = 1}}"),
    *("[" * 2000, "2", "0.5", "1979-05-27", "'x'", '"' + "x" * 5000 + '"', "[true]", '"--help"'),
    *('["--help"]', '[1, "--out", "canary"]', f'"{CODE}:run"', f'["{CODE}:run"]', "20", "1e9"),
    *('"canary"', "['sign', 'sign']", '"serial"', "[[[]]]", "[0.5, 2]", "1e400"),
)
_COUNTED = (0, 1, -1, 2, 8, 12, 255, 2**20, 2**22, 2**24, 2**30, 2**31 - 1, -(2**31))
_PLACES = (
    *(b"touch canary |", b"| touch canary", b"canary", b"/dev/zero", b"-", b"", b"|", b"ark:x:3"),
    *(b"raw.ark:3[0:2]", b"raw.ark:3[2:0]", b"raw.ark[0:0]", b"raw.ark:3[0:1,0:1]", b"raw.ark:"),
    *(b"raw.ark:" + b"9" * 18, b"raw.ark:" + b"9" * 5000, b"x" * 5000, b"\xff\xfe", b"a\0b", b"."),
    *("raw.ark:\N{ARABIC-INDIC DIGIT THREE}".encode(), b"s0", b"../" * 300, b"x[[[:]"),
)
_COUNTS = (None, "1", "1..8", "1e18", "nan", "-1", "9" * 5000, "1.." + "9" * 30, "1,," * 9, "0..4")
_RATES = ("1Gbit/s", "nanbit", "1e400bit", "0bit", "-1bit", "9" * 400 + "bit", "." * 99, "\ud800")
_TIMES = (None, "50us", "nan s", "9" * 400 + "s", "-1s", "0s", "1e9s", "x" * 5000)
_SIZES = (1, 2, 0, -1, 10**6, 2**63, 10**400, -(10**400))
_REALS = (0.5, 1.0, 0.0, -1.0, 1e-300, 1e300, math.nan, math.inf, -math.inf)
_FLAGS: dict[str, tuple[Any, ...]] = {
    "workers": _COUNTS,
    "minibatch": _COUNTS[1:],
    "sizes": _COUNTS[1:],
    "bandwidth": _RATES,
    "inner_bandwidth": _RATES,
    "latency": _TIMES,
    "per_node": _SIZES,
    "model_parallel": _SIZES,
    "layers": ((784, 10), (), (1,), (0, 1), (2**63, 2**63), (1,) * 5000, (10**400, 2)),
    **dict.fromkeys(("efficiency", "bucket_mb", "target"), _REALS),
    "metric": ("test", "", "x" * 5000, "train_x"),
    "shared": (True, False),
}
# What a message about a recipe, data or a run folder says, so that one knows what to mend.
_NAMED = (
    "model_parallel: ",
    "r.toml",
    "x-idx",
    *(f"{folder}/" for folder in _FOLDERS),
    "events",
    "data",
    "run folder",
    "again.toml",
    ": expected",
    ": got",
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


def refused(read: Callable[[], Any], named: bool = True) -> str:
    """Whether an input is read, or refused as a user's mistake is: in one line.

    Args:
        read: reads it.
        named: what it raises names a file or a folder itself, and no caller does.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            read()
    except REFUSALS as error:
        line = str(error)
        if len(line) > 20_000 or len(line.splitlines()) != 1:
            raise AssertionError(f"no one line: {line[:300]!r}") from error
        if named and not any(part in line for part in _NAMED):
            raise AssertionError(f"it names no file: {line[:300]!r}") from error
        return "refused"
    return "read"
