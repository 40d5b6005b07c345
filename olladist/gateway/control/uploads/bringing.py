"""Uploaded blobs from the node that has them to the one that will make a model of them."""

from collections.abc import Mapping

from olladist.errors import StoreError
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.moves.bar import Bar
from olladist.gateway.control.moves.hearing import Tell
from olladist.gateway.control.parts import Parts
from olladist.modelstore.bring import Wanted
from olladist.ollama.manifest import Layer


async def bring_blobs(parts: Parts, builder: Backend, lacking: Mapping[str, str], tell: Tell) -> None:
    """`lacking`: the blobs by digest, with the node that has each. HostError where one cannot be brought."""
    hosts = {backend.node: backend.host.name for backend in parts.roster.nodes.values()}
    goal = builder.host.name
    holders = {digest: hosts[node] for digest, node in lacking.items() if hosts[node] != goal}
    async with parts.stores.moving, parts.stores.opened((goal, *holders.values())) as opened:
        for problem in opened.problems.values():
            raise problem
        wanted = []
        for digest, holder in holders.items():
            size = opened.contents[holder].blobs.get(digest)
            if size is None:
                hint = "is models_dir what its Ollama uses (OLLAMA_MODELS)?"
                raise StoreError(holder, "looking for a blob", f"{digest[:19]} is not in its store", hint=hint)
            wanted.append(Wanted(Layer("", digest, size), holder))
        bars = {
            each.blob.digest: Bar(f"copying to {goal}", each.blob.digest, {goal: each.blob.size}) for each in wanted
        }
        for bar in bars.values():
            tell(bar.start())

        def moved(blob: Layer, done: int) -> None:
            if line := bars[blob.digest].moved(goal, done):
                tell(line)

        await opened.bring(goal, wanted, moved)
        for bar in bars.values():
            if line := bar.finish():
                tell(line)
