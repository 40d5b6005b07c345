"""Inventories for parts of a control process that need one."""

from pathlib import Path

from olladist.gateway.control.declared import Declaration, Declared
from olladist.gateway.control.modes import serving_of
from olladist.gateway.settings import Overrides
from olladist.inventory.parse import parse


def declaration(text: str = "[hosts.gpu1]\n") -> Declaration:
    inventory = parse(text, Path("inventory.toml"))
    gateway = inventory.gateway
    serving = serving_of(gateway, Overrides())
    return Declaration(inventory, tuple(inventory.hosts.values()), gateway.strategy, gateway.transport, serving, text)


def declared(text: str = "[hosts.gpu1]\n") -> Declared:
    return Declared(declaration(text))
