"""Carrying out a plan on a host."""

from collections.abc import Callable
from contextlib import suppress

from olladist.errors import ConnectionLost, HostError
from olladist.host.plan import Plan
from olladist.host.steps import Progress, Step, unwatched
from olladist.ssh.runner import Runner

# (step, its number from 1, how many there are)
OnStep = Callable[[Step, int, int], None]


async def apply(
    runner: Runner,
    plan: Plan,
    on_step: OnStep = lambda step, number, of: None,
    progress: Progress = unwatched,
) -> None:
    """Does every step in its order. A step that fails is undone and its HostError raised; what was done before stays.

    A second plan then begins where this one ended. With problems in the plan nothing is done.
    """
    if plan.problems:
        first = plan.problems[0]
        text = "; ".join(problem.text for problem in plan.problems)
        raise HostError(plan.host, "planning", text, hint=first.hint)
    for number, step in enumerate(plan.steps, 1):
        on_step(step, number, len(plan.steps))
        try:
            await step.execute(runner, progress)
        except ConnectionLost:
            raise  # nothing can be undone over it; a copy that was cut off is resumed by the next run
        except HostError:
            with suppress(HostError):  # the failure is what matters, not that it could not be tidied up
                await step.undo(runner)
            raise
