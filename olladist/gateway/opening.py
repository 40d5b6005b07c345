"""What must hold before a gateway opens its door; checked by the command that starts it, so that the person reads what is wrong."""

from collections.abc import Mapping
from dataclasses import replace

from olladist.gateway.control.keys import resolve
from olladist.gateway.edge.tls import server_context
from olladist.gateway.exposure import check_exposure
from olladist.gateway.settings import Settings
from olladist.inventory.model import Gateway


def with_door(settings: Settings, gateway: Gateway, environ: Mapping[str, str]) -> Settings:
    """The settings with the inventory's TLS files in them.

    Raises GatewayError or UsageError where keys cannot be found or files not be used, or where strangers could come in.
    """
    if settings.temporary:
        return settings
    keys = resolve(gateway.keys, environ)
    check_exposure(settings.listen_host, keyed=bool(keys), insecure=settings.insecure)
    if gateway.tls_cert is None or gateway.tls_key is None:
        return settings
    server_context(str(gateway.tls_cert), str(gateway.tls_key))
    return replace(settings, tls_cert=str(gateway.tls_cert), tls_key=str(gateway.tls_key))
