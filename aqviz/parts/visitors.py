"""Who asks: a random name that the browser keeps in a cookie, or the open page's own.

It is no login. It only keeps one visitor's runs apart from another's: who may cancel what, whose
turn it is. The cookie is set with the first page (`aqviz.serving`).
"""

from gradio.context import LocalContext

COOKIE = "aqviz-visitor"


def visitor() -> str:
    """The name of whoever caused the event that is being handled; "" outside of one."""
    request = LocalContext.request.get(None)
    if request is None:
        return ""
    named = (getattr(request, "cookies", None) or {}).get(COOKIE)
    return str(named or getattr(request, "session_hash", None) or "")
