"""Which unfinished frames have to go when others need their memory."""

import pytest

from server.budget import Budget, Unfinished
from server.errors import Overloaded, ServerError


def test_the_largest_unfinished_frame_makes_room_for_a_smaller_one_and_not_for_one_that_gets_as_large() -> None:
    budget, gone = Budget(100), list[str]()

    def frame(name: str) -> Unfinished:
        def cut_off(error: ServerError) -> None:
            assert "takes most of it" in str(error)
            gone.append(name)

        return Unfinished(budget, cut_off)

    small, large, late = frame("small"), frame("large"), frame("late")
    small.add(30)
    large.add(60)
    with pytest.raises(Overloaded, match="no memory left for 60 more bytes"):
        late.add(60)
    assert gone == []
    late.add(50)
    assert (gone, large.size, late.size) == (["large"], 0, 50)
    late.add(20)
    budget.take(0)
    with pytest.raises(Overloaded):
        budget.take(1)
