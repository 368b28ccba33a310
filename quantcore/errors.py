"""What can go wrong, as a tree; each message is one sentence: what, why, what to do.

QuantcoreError
├── InputError (also a ValueError)   what was given cannot be used
│   ├── SchemeError                  a scheme that does not fit, or does not fit this layer
│   ├── ProblemError                 a weight or a Hessian that cannot be used
│   └── SourceError                  a model, layer, text or file not found or not readable
├── ResourceError                    more memory asked than there is
└── Cancelled                        an observer asked to stop
"""


class QuantcoreError(Exception):
    """Everything this package raises on purpose."""


class InputError(QuantcoreError, ValueError):
    """What was given cannot be used."""


class SchemeError(InputError):
    """A scheme that does not exist or does not fit the layer."""


class ProblemError(InputError):
    """A weight or a Hessian that cannot be used."""


class SourceError(InputError):
    """A model, layer, text or file that cannot be found or read."""


class ResourceError(QuantcoreError):
    """More memory asked than there is."""


class Cancelled(QuantcoreError):  # noqa: N818 - an outcome the user chose, not a fault
    """Raised by an observer to stop the work; what is finished is kept."""


SHOWN = 200  # letters of what was given that a sentence repeats


def quoted(given: object) -> str:
    """What was given, for a sentence: on one line, and cut where it is long.

    >>> quoted("a b"), quoted(2.5)
    ("'a b'", '2.5')
    """
    return repr(_cut(given)) if isinstance(given, str) else _cut(repr(given))


def as_name(words: str) -> str:
    """A name, for a sentence: as it stands, or quoted where it does not look like one.

    >>> as_name("self_attn.q_proj"), as_name(" ")
    ('self_attn.q_proj', "' '")
    """
    return (
        words if words.strip() and words.isprintable() and words == _cut(words) else quoted(words)
    )


def _cut(words: str) -> str:
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}…"


def first_line(error: Exception) -> str:
    """What a library's error says, for the end of a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    shown = "".join(letter if letter.isprintable() else "?" for letter in lines[0])
    return _cut(shown).rstrip(". ")
