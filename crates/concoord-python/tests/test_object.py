from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from concoord.object.counter import Counter


def test_a_local_counter_counts() -> None:
    counter = Counter()
    counter.increment()
    counter.increment(by=2**80)
    counter.decrement(2)
    assert counter.getvalue() == 2**80 - 1
    assert str(counter) == f"The counter value is {2**80 - 1}"
    counter.__concoordinit__(7)
    assert counter.getvalue() == 7
    assert Counter(5).getvalue() == Counter(value=5).getvalue() == 5


def test_it_looks_like_a_class_written_in_python() -> None:
    assert Counter.__name__ == "Counter"
    assert Counter.__module__ == "concoord.object.counter"
    assert Counter.__doc__
    assert Counter.increment.__doc__ == "Add `by`."
    assert str(inspect.signature(Counter.increment)) == "(self, by: 'int' = 1) -> 'None'"


def test_wrong_arguments_are_type_errors_in_pythons_words() -> None:
    counter = Counter()
    with pytest.raises(TypeError) as raised:
        counter.increment(1, 2)
    words = "Counter.increment() takes from 1 to 2 positional arguments but 3 were given"
    assert str(raised.value) == words
    with pytest.raises(TypeError, match="unexpected keyword argument 'to'"):
        counter.increment(to=1)
    with pytest.raises(TypeError, match="takes an int, not str"):
        counter.increment("a")
    with pytest.raises(TypeError, match="argument 1: cannot encode object"):
        counter.increment(object())
    assert counter.getvalue() == 0


def test_an_attribute_that_is_not_there_is_not_made() -> None:
    counter = Counter()
    with pytest.raises(AttributeError):
        counter.value = 3


def test_it_can_be_copied_and_pickled() -> None:
    counter = Counter(3)
    for twin in (copy.copy(counter), copy.deepcopy(counter), pickle.loads(pickle.dumps(counter))):
        twin.increment()
        assert (twin.getvalue(), counter.getvalue()) == (4, 3)


def test_it_can_be_built_upon() -> None:
    class Loud(Counter):
        def shout(self) -> str:
            return str(self).upper()

    assert Loud(2).shout() == "THE COUNTER VALUE IS 2"
