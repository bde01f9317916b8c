import pytest

from bercail.core.build import Target
from bercail.core.errors import NotFoundError, RefusedError
from bercail.core.launch import Progress
from bercail.core.options import LibraryOptions, Settings
from bercail.flows import Order, build, built
from fakes.house import Fakes, run
from fakes.models import a_build


def test_a_build_is_for_this_machine_with_as_many_compilers_as_it_takes() -> None:
    fakes = Fakes()
    told: list[Progress] = []
    made = run(lambda: build(fakes.house(), Order(), told.append))
    assert made in fakes.workshop.made
    (recipe, jobs, source), *_ = fakes.workshop.orders
    assert (recipe.target, recipe.processor, jobs, source) == (Target.CPU, "Test CPU: avx2 fma", 5, None)
    assert told
    run(lambda: build(fakes.house(), Order(target=Target.CUDA, portable=True, jobs=3, source="/s.tar.gz"), told.append))
    recipe, jobs, source = fakes.workshop.orders[1]
    assert (recipe.target, recipe.portable, recipe.processor, jobs, source) == (Target.CUDA, True, "", 3, "/s.tar.gz")


def test_offline_nothing_is_fetched() -> None:
    fakes = Fakes(settings=Settings(library=LibraryOptions(offline=True)))
    with pytest.raises(RefusedError, match="offline is set"):
        run(lambda: build(fakes.house(), Order(), print))
    assert run(lambda: build(fakes.house(), Order(source="/s.tar.gz"), print)) in fakes.workshop.made


def test_a_build_goes_by_a_part_of_its_name() -> None:
    fakes = Fakes()
    with pytest.raises(NotFoundError, match="none was built here"):
        built(fakes.house(), "native")
    fakes.workshop.made = [a_build("b1-cpu-native-1"), a_build("b1-cpu-portable-2")]
    assert built(fakes.house(), "portable").id == "b1-cpu-portable-2"
    with pytest.raises(NotFoundError, match=r"or more than one .there are: b1-cpu-native-1, b1-cpu-portable-2"):
        built(fakes.house(), "cpu")
