"""What the documentation shows runs: every block of Python, and the launch on two machines."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

import thinwire
from thinwire.data import MinibatchSampler
from thinwire.quantize import CodeSpec, register_code, registry
from thinwire.train.tasks import Metric

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    (page.stem, number, block)
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]
Names = dict[str, Any]


class Layered(nn.Module):
    """A model with ``layers``, as FSDP2 takes them one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 3)])


def common() -> Names:
    """What a reader has before the first line."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(16, 8), torch.randint(3, (16,))
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    batches = [(inputs, targets)] * 3
    return dict.fromkeys(
        ("share_of_this_worker", "this_workers_share", "this_workers_halves"), batches
    ) | {
        "torch": torch,
        "nn": nn,
        "F": F,
        "math": math,
        "thinwire": thinwire,
        "DistributedDataParallel": DistributedDataParallel,
        "fully_shard": fully_shard,
        "TensorDataset": TensorDataset,
        "Metric": Metric,
        "register_code": register_code,
        "CodeSpec": CodeSpec,
        "model": model,
        "build": lambda: model,
        "loss": F.cross_entropy,
        "inputs": inputs,
        "targets": targets,
        "batch": (inputs, targets),
        "rank": 0,
        "world": 1,
        "workers": 1,
    }


def hooked(names: Names, folder: Path) -> Names:
    """After a step of a model under DDP."""
    ddp = DistributedDataParallel(names["model"])
    hook = thinwire.compress(ddp)
    names["loss"](ddp(names["inputs"]), names["targets"]).backward()
    return {"hook": hook, "states": [hook.state_dict()], "path": str(folder), "ddp_model": ddp}


def embedded(names: Names, folder: Path) -> Names:
    model = SimpleNamespace(embed=nn.Embedding(5, 2, padding_idx=0))
    return {"model": model, "optimizer": torch.optim.SGD(model.embed.parameters(), 0.1)}


def ternary(names: Names, folder: Path) -> Names:
    import ternary_code  # of the examples

    return {"TernaryCode": ternary_code.TernaryCode}


def sampled(names: Names, folder: Path) -> Names:
    optimizer = thinwire.OneBitSGD(names["model"].parameters(), 0.1)
    sampler = MinibatchSampler(4096, 64, 0)
    return {"optimizer": optimizer, "sampler": sampler, "accuracy_of_trial": lambda size: 0.5}


def trained(names: Names, folder: Path) -> Names:
    """A run folder, as a recipe leaves it."""
    from safetensors.torch import save_file

    run = folder / "runs" / "mnist-onebit"
    run.mkdir(parents=True)
    model = thinwire.models.build_model(784, [512, 512, 512], 10, "relu", seed=1)
    save_file(model.state_dict(), run / "model.safetensors")
    save_file({"mean": torch.zeros(()), "scale": torch.ones(())}, run / "normalisation.safetensors")
    return {"images": torch.rand(2, 784)}


def deep(names: Names, folder: Path) -> Names:
    return {"model": thinwire.models.build_model(128, [128, 128], 10, "relu", seed=0)}


def sgd_states(names: Names, folder: Path) -> Names:
    optimizer = thinwire.OneBitSGD(names["model"].named_parameters(), 0.1)
    names["loss"](names["model"](names["inputs"]), names["targets"]).backward()
    optimizer.step()
    ranks = {"data_rank": 0, "data_ranks": 1, "model_rank": 0, "model_ranks": 1}
    return {"optimizer": optimizer, "states": [optimizer.state_dict()], **ranks}


# What else a block needs, by page and number.
BEFORE: dict[tuple[str, int], Callable[[Names, Path], Names]] = {
    ("checkpoints", 0): hooked,
    ("checkpoints", 1): hooked,
    ("codes", 0): embedded,
    ("codes", 1): ternary,
    ("data", 0): lambda *_: {"places": torch.ones(3, 2), "heights": torch.ones(3)},
    ("data", 2): lambda *_: {"pinball": lambda outputs, targets: (outputs - targets).abs().mean()},
    ("ddp", 1): lambda names, _: {"ddp_model": DistributedDataParallel(names["model"])},
    ("fsdp", 0): lambda *_: {"model": Layered()},
    ("hessian-free", 0): lambda *_: {"targets": torch.tensor([0, 1, -1, 2] * 4)},
    ("hessian-free", 1): lambda *_: {"inputs": torch.randn(16, 784)},
    ("minibatch-size", 0): sampled,
    ("models", 0): trained,
    ("models", 2): deep,
    ("model-parallel", 1): sgd_states,
}
# These need several workers, which a mesh spans; examples/model_parallel.py is run as a whole.
ONLY_COMPILED = {("curvature", 0), ("model-parallel", 0)}


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered codes, the path and modules are as before after a test."""
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    # Set first, so that what a test imports is taken away again.
    monkeypatch.setitem(sys.modules, "ternary_code", None)
    del sys.modules["ternary_code"]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize(
    ("page", "number", "block"), BLOCKS, ids=[f"{page}-{number}" for page, number, _ in BLOCKS]
)
def test_blocks_run(
    page: str,
    number: int,
    block: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    code = compile(block, f"{page}.md", "exec")
    if (page, number) in ONLY_COMPILED:
        return
    monkeypatch.chdir(tmp_path)
    if (page, number) == ("onebit", 0):  # begins its process group itself
        monkeypatch.setattr(dist, "init_process_group", lambda backend: None)
    else:
        request.getfixturevalue("alone")
    names = common()
    if (page, number) in BEFORE:
        names |= BEFORE[page, number](names, tmp_path)
    exec(code, names)


def test_blocks_that_are_prepared_are_there() -> None:
    there = {(page, number) for page, number, _ in BLOCKS}
    assert BEFORE.keys() | ONLY_COMPILED <= there


@pytest.mark.slow
def test_two_machines_meet_as_the_page_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "launching.md").read_text()
    (shown,) = re.findall(r"^(torchrun --nnodes 2 .*\n.*) train\.py$", page, re.MULTILINE)
    words = shown.replace("\\\n", " ").replace("10.0.0.1", "127.0.0.1").split()[1:]
    assert words.count("--node-rank") == 1
    nodes = []
    for rank in ("0", "1"):
        words[words.index("--node-rank") + 1] = rank
        command = [sys.executable, "-m", "torch.distributed.run", *words]
        nodes.append(
            subprocess.Popen(
                [*command, str(ROOT / "examples" / "ddp_two_lines.py")],
                env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [node.communicate(timeout=110)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "step 150" in said[0]
