import pytest

from quantcore.errors import first_line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("one thing.\nand another"), "one thing"),
        (OSError("\n  late.  \n"), "late"),
        (OSError(), "OSError"),
    ],
)
def test_a_librarys_error_is_told_in_a_line(error, words):
    assert first_line(error) == words
