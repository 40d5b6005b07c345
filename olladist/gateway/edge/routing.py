"""Which requests need a lease, and which the control process answers. Pure."""

from typing import Final

from olladist.ollama.routes import ROUTES, Meaning, ModelIn, Route, find

# What takes a slot of one backend. Everything else is the control process' to answer.
_LEASED: Final = {
    (method.encode(), route.path): route
    for route in ROUTES
    if route.meaning is Meaning.ONE_BACKEND and route.inference and route.model_in in {ModelIn.BODY, ModelIn.FORM}
    for method in route.methods
}


def leased_route(method: bytes, path: str) -> Route | None:
    """The route of a request that needs a lease; None where the control process answers."""
    route = _LEASED.get((method, path))
    if route is None and "%" in path:
        found = find(method.decode("ascii"), path)
        route = found if found in _LEASED.values() else None
    return route
