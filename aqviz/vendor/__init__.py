"""Other people's code that our pages load: plotly.js with the three traces that are drawn here.

The whole of plotly.js, which the plotly package brings along, is four times as long, and a browser
that meets it for the first time is busy for a second before anything can be drawn: with this build
it takes a fifth of that. `make vendor` (npm) builds it anew from `plotly.entry.js`.
"""

from pathlib import Path

PLOTLY_VERSION = "4.1.1"  # that of the pinned plotly package
PLOTLY = Path(__file__).parent / "plotly.min.js"
