"""A stage that has been run is not run again, unless what it depends on has changed."""

from pathlib import Path

import numpy as np

from thinwire.speech.fillets.stages import Arrays, Stages


class Work:
    """Two stages, counted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, []

    def do(self, inputs: bytes = b"a", first: int = 1, second: int = 2) -> list[str]:
        self.runs = []
        stages = Stages(self.folder, inputs, lambda *_: None)
        stages.run("first", first, lambda _: self._made("first", first))
        found = stages.run("second", second, lambda _: self._made("second", second))
        assert found["value"].tolist() == [second]
        return self.runs

    def _made(self, name: str, value: int) -> Arrays:
        self.runs.append(name)
        return {"value": np.array([value])}


def test_a_stage_runs_again_where_it_must(tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    assert work.do() == ["first", "second"]
    assert work.do() == []
    assert work.do(second=3) == ["second"]
    assert work.do(first=5, second=3) == ["first", "second"]
    assert work.do(inputs=b"b", first=5, second=3) == ["first", "second"]
    assert len(list(work.folder.iterdir())) == 2


def test_a_damaged_result_is_made_again(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.do()
    for path in tmp_path.glob("first-*"):
        path.write_bytes(path.read_bytes()[:50])
    for path in tmp_path.glob("second-*"):
        with path.open("wb") as file:
            np.save(file, np.array([{}], object))
    assert work.do() == ["first", "second"]
    for path in tmp_path.glob("first-*"):
        with path.open("wb") as file:
            np.save(file, np.array([1]))
    for path in tmp_path.glob("second-*"):
        np.savez(path, value=np.array([{}], object))
    assert work.do() == ["first", "second"]
