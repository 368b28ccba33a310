"""What the search kernel `visit` takes and gives: one panel of consecutive groups of some rows.

The search visits the groups of a row in order. Every hypothesis about the row carries, for the
groups that it has not visited yet, a pull: what the choices made so far ask of them. In a group
with metric D, with everything taken out of it, placing the words c (their sum) costs

    empty - 2 local . c + c^T D c

so the two searches, in the full Hessian and in its factor, differ only in how `local` and `empty`
follow from the pull t, the error e so far, and what the group holds when it is visited:

    codes given      the group holds their decoded words q;   local = t + D q,
                     empty = e + 2 q . t + q^T D q            (the beam of AQLM; D = H_jj)
    no codes         it holds the target v, still free;       local = D (v + t),
                     empty = e + (v + t)^T D (v + t)          (error feedback; D of the factor)

The codebooks are filled in turn: step i replaces book i mod M in every hypothesis by each of its K
words and keeps the `widths[i]` cheapest, ties to the earlier hypothesis and the lower word. Then
the pulls of the later groups change by (held - c) times the group's rows of `spread`.

Rows are divided by their scale beforehand, so that no scale appears here.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Panel(NamedTuple):
    """The groups of one panel, the same for all rows."""

    blocks: Float[Tensor, "visits group group"]  # D of each group
    spread: Float[Tensor, "columns columns"]  # the panel's own columns; right of each group is used


class Rows(NamedTuple):
    """The rows as they come to the panel."""

    held: Float[Tensor, "rows visits group"]  # what each group holds before its visit
    codes: Int[Tensor, "rows visits books"] | None  # the codes of that, or None: a free target
    pulls: Float[Tensor, "rows beam columns"]
    errors: Float[Tensor, "rows beam"]


class Visited(NamedTuple):
    """The rows as they leave it, hypotheses best first."""

    codes: Int[Tensor, "rows kept visits books"]
    parents: Int[Tensor, "rows kept"]  # the hypothesis that each began as
    changes: Float[Tensor, "rows kept columns"]  # held - chosen
    errors: Float[Tensor, "rows kept"]
