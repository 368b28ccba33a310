"""Who is next: visitors take turns, and the jobs of one visitor keep their order."""


class Line:
    """Jobs that wait, each with the visitor who asked for it."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}  # job -> visitor, in the order they came
        self._turns: dict[str, int] = {}  # visitor -> when the last of theirs was begun

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, job: str) -> bool:
        return job in self._waiting

    def add(self, job: str, visitor: str) -> None:
        """A job comes in."""
        self._waiting[job] = visitor

    def remove(self, job: str) -> None:
        """A job is not wanted any more."""
        del self._waiting[job]

    def pop(self) -> str:
        """The next job, which is begun."""
        job = _next(self._waiting, self._turns)
        visitor = self._waiting.pop(job)
        if not self._waiting:  # nobody is passed over any more
            self._turns.clear()
        _take(self._turns, visitor)
        return job

    def order(self) -> list[str]:
        """The jobs as they will be begun if nobody else comes."""
        waiting, turns, found = dict(self._waiting), dict(self._turns), []
        while waiting:
            found.append(_next(waiting, turns))
            _take(turns, waiting.pop(found[-1]))
        return found


def _next(waiting: dict[str, str], turns: dict[str, int]) -> str:
    """The first job of the visitor whose last turn is longest ago."""
    return min(waiting, key=lambda job: turns.get(waiting[job], 0))


def _take(turns: dict[str, int], visitor: str) -> None:
    turns[visitor] = 1 + max(turns.values(), default=0)
