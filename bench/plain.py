"""What one writes in an hour: a proxy of aiohttp, client and server, that takes the backends in turn. The baseline of a library.

python -m bench.plain PORT BACKEND_PORT...
"""

import asyncio
import itertools
import sys

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = {"connection", "host", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"}


async def serve(port: int, backends: list[int]) -> None:
    turns = itertools.cycle(f"http://127.0.0.1:{backend}" for backend in backends)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
            asked = session.request(
                request.method, next(turns) + request.raw_path, headers=headers, data=await request.read()
            )
            async with asked as answer:
                response = web.StreamResponse(status=answer.status)
                response.content_type = answer.content_type
                if answer.content_length is not None:
                    response.content_length = answer.content_length
                await response.prepare(request)
                async for data in answer.content.iter_any():
                    await response.write(data)
                await response.write_eof()
                return response

        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), [int(word) for word in sys.argv[2:]]))
