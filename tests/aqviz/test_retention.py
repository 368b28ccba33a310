import math
import os
import time

import pytest

from aqviz.retention import DAY, make_room


@pytest.fixture
def files(tmp_path):
    """Four files of 10 bytes, written 0, 1, 2 and 3 days ago."""
    made = [tmp_path / str(n) for n in range(4)]
    for days, file in enumerate(made):
        file.write_bytes(b"0123456789")
        then = time.time() - days * DAY - 60
        os.utime(file, (then, then))
    return made


@pytest.mark.parametrize(
    ("count", "size", "days", "stay"),
    [
        (math.inf, math.inf, math.inf, 4),
        (2.0, math.inf, math.inf, 2),
        (math.inf, 35.0, math.inf, 3),
        (math.inf, 9.0, math.inf, 0),
        (math.inf, math.inf, 1.5, 2),
        (0.0, math.inf, math.inf, 0),
    ],
)
def test_the_oldest_go_first(files, count, size, days, stay):
    removed = make_room(reversed(files), count, size, days)
    assert [file for file in files if file.exists()] == files[:stay]
    assert sorted(removed) == files[stay:]


def test_a_file_that_is_gone_already_is_none_of_our_business(files):
    files[0].unlink()
    assert make_room(files, 2.0, math.inf, math.inf) == [files[3]]
