import inspect

import quantcore


def test_all_is_what_is_exported():
    names = {
        name
        for name, value in vars(quantcore).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert names == set(quantcore.__all__)
