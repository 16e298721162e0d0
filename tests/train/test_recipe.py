from pathlib import Path

import pytest

from thinwire.cli.train import recipe_of
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


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'mnist-dense'"):
        find_recipe("mnist-dens")


@pytest.mark.parametrize("field", ["epochs", "minibatch", "workers", "log_every", "timeout"])
def test_fields_that_must_be_positive(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected >= 1, got 0"):
        Recipe(**{field: 0})  # type: ignore[arg-type]
