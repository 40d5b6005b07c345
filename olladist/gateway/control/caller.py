"""Who calls: a client through a worker, with or without an API key, or the operator over a socket of his own."""

from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest

from starlette.requests import Request

from olladist.gateway import access
from olladist.gateway.lease import Key
from olladist.gateway.settings import Settings

# Set by workers (edge.head.for_control), which drop what a client sends under this name.
KEY_HEADER = "x-olladist-key"


@dataclass(frozen=True, slots=True)
class Caller:
    """`key` is None where the gateway has no keys, and for the operator and an administrator, who may do everything."""

    key: Key | None = None
    admin: bool = False
    operator: bool = False

    @property
    def may_manage(self) -> bool:
        """Whether they may change which models there are."""
        return self.operator or self.admin or self.key is None or self.key.manage

    @property
    def may_administrate(self) -> bool:
        return self.operator or self.admin

    def may_use(self, model: str) -> bool:
        """Whether they may know of a model, given by any spelling of its name."""
        return access.may_use(self.key, model)


# Who comes without a key, to what is always open, or with one that a reload has taken away since.
_NOTHING = Key("", "", ("-",))


def caller(request: Request, settings: Settings, keys: Mapping[str, Key]) -> Caller:
    """`keys` by name. A worker has checked the key already; the token of an administrator is checked here, in constant time."""
    server = request.scope.get("server") or ("", None)
    if server[0] == settings.operator_socket:
        return Caller(operator=True)
    if _is_admin(request, settings):
        return Caller(admin=True)
    return Caller(key=keys.get(request.headers.get(KEY_HEADER, ""), _NOTHING) if keys else None)


def _is_admin(request: Request, settings: Settings) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not settings.admin_digest or scheme.lower() != "bearer":
        return False
    return compare_digest(access.digest_of(token.strip().encode()), settings.admin_digest)
