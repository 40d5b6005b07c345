"""Inventories for parts of a control process that need one."""

from pathlib import Path

from olladist.gateway.control.declared import Declaration, Declared
from olladist.inventory.parse import parse


def declaration(text: str = "[hosts.gpu1]\n") -> Declaration:
    inventory = parse(text, Path("inventory.toml"))
    return Declaration(
        inventory, tuple(inventory.hosts.values()), inventory.gateway.strategy, inventory.gateway.transport, text
    )


def declared(text: str = "[hosts.gpu1]\n") -> Declared:
    return Declared(declaration(text))
