"""A backend as a strategy sees it: a value, taken at the moment of the decision."""

from typing import NamedTuple


class Candidate(NamedTuple):
    """An Ollama instance that holds the model asked for and may take the request.

    `slots` is its OLLAMA_NUM_PARALLEL for that model; `in_flight` counts our own requests on the whole backend and
    `in_flight_model` those for this model; `warm` means that the model is in its memory.
    """

    id: int
    slots: int
    in_flight: int
    in_flight_model: int
    warm: bool
