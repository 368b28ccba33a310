"""What strangers write where numbers, names and schemes are hoped for, and JSON of any type."""

import copy
from contextlib import suppress

from hypothesis import strategies as st

NUMBERS = (
    *("0", "1", "2", "-1", "-0", "1.5", "1e9", "1e400", "-1e400", "nan", "NaN", "inf", "-Infinity"),
    *("9" * 30, "9" * 5000, "0x10", "1_000", " 1 ", "+1", "٣", "²", "½", "Ⅷ", "1,2,,3", ",", "1,1"),
    *("4294967296", "9223372036854775807", "-9223372036854775809", "1e-400", "0.1", "true"),
)
SCHEMES = (
    *("2x8g8", "1x1g1", "4x16g1", "1x16g8", "2x8 g8", "0x8g8", "2x0g8", "2x8g0", "9x9g9", "2x8g7"),
    *("2x8g999999999999", "2x8g" + "9" * 400, "9" * 5000 + "x8g8", "2x8g" + "9" * 5000, "٢x8g8"),
)
NAMES = (
    *("", " ", "a", "default", "model.layers.0.self_attn.k_proj", "model.layers.10.mlp.down_proj"),
    *("../../etc/passwd", "/etc/passwd", "~", "~nobody/x", ".", "..", "C:\\x", "a/b", "a/b/c"),
    *(
        "<script>alert(1)</script>",
        "'\"><img src=x onerror=alert(1)>",
        "%00",
        "a\x00b",
        "\n",
        "a\nb",
    ),
    *(
        "\r\n",
        "\u2028",
        "\u202e",
        "\x1b[31m",
        "\x85",
        "é",
        "☃",
        "😀",
        "\ud800",
        "x" * 10_000,
        "%s%n",
        "{0}",
    ),
    *("upload-0123456789abcdef", "upload-../../../x", "first", "greedy", "oa-em", "beam", "cpu"),
    *("cuda", "cuda:0", "cuda:" + "9" * 30, "cuda:²", "auto", "feedback-descent", "0-3", "0-9999"),
    *("greedy,oa-em", "greedy,greedy", "wikitext2", "c4", "/dev/zero", "/proc/self/mem", "x" * 300),
)
WORDS = st.sampled_from(NUMBERS + SCHEMES + NAMES) | st.text(max_size=20)
JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(10**30), 10**400, 1 << 63])
    | st.floats()
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)


def queries(names, words=WORDS, most: int = 2):
    """Some of these parameters, each with any word."""
    return st.dictionaries(st.sampled_from(sorted(names)), words, max_size=most)


def strings_of(value: object) -> list[str]:
    """All text in a value, however deep."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in strings_of(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in strings_of(one)]
    return []


def places(value: object, path: tuple = ()):
    """The path of every value in JSON, of long lists those of the first ones."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        pairs = enumerate(value)
    for key, inner in list(pairs)[:12]:
        yield from places(inner, (*path, key))


@st.composite
def altered(draw, document: object):
    """A copy of a document with up to three values changed or left out."""
    found = copy.deepcopy(document)
    spots = list(places(document))
    for _ in range(draw(st.integers(0, 3))):
        *path, last = draw(st.sampled_from(spots))
        inner = found
        with suppress(LookupError, TypeError, AttributeError):  # an earlier change took it away
            for key in path:
                inner = inner[key]
            if draw(st.booleans()):
                inner.pop(last)
            else:
                inner[last] = draw(JSONS)
    return found
