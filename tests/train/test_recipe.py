from pathlib import Path

import pytest

from thinwire.cli.train import recipe_of
from thinwire.cli.usage import UsageError
from thinwire.train import Recipe, find_recipe, recipe_names
from thinwire.train.recipe_files import to_toml


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_survive_toml(name: str, tmp_path: Path) -> None:
    short, recipe = recipe_of(name, [])
    assert short == name
    path = tmp_path / "copy.toml"
    path.write_text(to_toml(recipe))
    assert recipe_of(str(path), []) == ("copy", recipe)


def test_flag_over_file_over_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 7\n[optimizer]\nlr = 0.5\n[model]\nhidden = [3, 4]\n")
    _, recipe = recipe_of(str(path), ["--optimizer.lr", "0.25"])
    assert (recipe.epochs, recipe.optimizer.lr, recipe.minibatch) == (7, 0.25, Recipe().minibatch)
    assert recipe.model.hidden == (3, 4)


def test_awkward_values_survive_toml(tmp_path: Path) -> None:
    recipe = Recipe(data=Path('/a "quoted"/back\\slash'), out=Path("/x y"), timeout=1e6)
    path = tmp_path / "awkward.toml"
    path.write_text(to_toml(recipe))
    assert recipe_of(str(path), [])[1] == recipe


TEXT = 'epochs = 7\n\n[model]\nhidden = [3, 4]\n\n[data]\npath = "d"\ninputs = ["a"]\n'
FORMS = {
    "byte-order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "line ends of Windows": TEXT.replace("\n", "\r\n").encode(),
    "both": b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode(),
    "empty lines": ("\n\n" + TEXT.replace("\n", "\n\n")).encode(),
    "one value for a list": TEXT.replace('["a"]', '"a"').encode(),
    "an empty section": (TEXT + "[optimizer]\n").encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_recipes_as_editors_write_them(form: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(FORMS[form])
    short, recipe = recipe_of(str(path), [])
    assert (short, recipe.epochs, recipe.model.hidden) == ("mine", 7, (3, 4))
    assert (recipe.data.path, recipe.data.inputs) == ("d", ("a",))


HUGE = "0x" + "f" * 5000
MISTAKES = [
    ('epochs = "3"', "epochs: expected a whole number, got '3'"),
    ("epochs = true", "epochs: expected a whole number, got True"),
    ("epochs = 3.0", "epochs: expected a whole number, got 3.0"),
    ("epochs = [3]", "epochs: expected a whole number, got a list of 1"),
    ("epochs = {}", "epochs: expected a whole number, got a table of 0"),
    ('epochs = "--help"', "epochs: expected a whole number, got '--help'"),
    (f"epochs = {HUGE}", "epochs: expected at most"),
    (f"timeout = {HUGE}", "timeout: expected a number, got an integer of 20000 bits"),
    (f"checkpoint_every = {HUGE}", "checkpoint_every: expected a number, got an integer of 20000"),
    (f"epochs = {'9' * 5000}", "not a TOML file: Exceeds the limit"),
    ("out = 1979-05-27", "out: expected text, got datetime.date"),
    (
        '[model]\nhidden = ["--help"]',
        "model.hidden: expected a list, each a whole number, got a li",
    ),
    ('[model]\nhidden = [1, "--seed", "5"]', "model.hidden: expected a list, each a whole number"),
    ('[model]\nactivation = "tanh"', "model.activation: expected one of relu, sigmoid, got 'tanh'"),
    ("[model]\nrank = 0.5", "model.rank: expected a whole number, got 0.5"),
    ("[exchange]\ncode = [[]]", "exchange.code: expected text or [text, text], got a list of 1"),
    ("[exchange]\nbits = []", "exchange.bits: expected 1, 2, 4 or 8, or two of them"),
    (f"[exchange]\nbits = {HUGE}", "exchange.bits: expected 1, 2, 4 or 8, or two of them"),
    ("[exchange]\ndouble_buffer = 1", "exchange.double_buffer: expected true or false, got 1"),
    (
        "[optimiser]\nlr = 1",
        "'optimiser.lr': no recipe has such a field, did you mean 'optimizer.lr'",
    ),
    ("a.b.c.d = 1", "'a.b': no recipe has such a field"),
    ("model = 3", "'model': no recipe has such a field"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_values_of_another_kind_are_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"mine\.toml: ") as caught:
        recipe_of(str(path), [])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'mnist-dense'"):
        find_recipe("mnist-dens")


@pytest.mark.parametrize("field", ["epochs", "minibatch", "workers", "log_every", "timeout"])
def test_fields_that_must_be_positive(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected >= 1, got 0"):
        Recipe(**{field: 0})  # type: ignore[arg-type]
