"""olladist turns a TOML list of GPU machines into one Ollama."""

from importlib.util import find_spec

__version__ = "0.1.0.dev0"


def is_compiled() -> bool:
    """Whether what each request runs through is compiled here, as it is in a wheel that was built where there was a C compiler."""
    found = find_spec("olladist.scheduling.adaptive")
    return found is not None and not str(found.origin).endswith(".py")
