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


def first_line(error: Exception) -> str:
    """What a library's error says, for the end of a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(". ")
