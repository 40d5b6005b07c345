import json
import resource
import subprocess
import sys

from olladist.gateway.settings import Settings, encode

CHILD = """
import asyncio, resource
from olladist.gateway.child import raise_descriptor_limit, receive_settings, start_log, when_parent_ends
import structlog

async def main():
    settings = receive_settings()
    raise_descriptor_limit()
    start_log("child", verbose=settings.verbose)
    print(settings.inventory, resource.getrlimit(resource.RLIMIT_NOFILE)[0], flush=True)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("said", node="gpu1")
    ended = asyncio.Event()
    when_parent_ends(asyncio.get_running_loop(), ended.set)
    await ended.wait()
    print("parent is gone", flush=True)

asyncio.run(main())
"""


def test_a_child_takes_its_settings_and_ends_when_stdin_does() -> None:
    """Settings are one line; the stream stays open until the parent is gone; events go to stderr as JSON, with the process's name."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard if hard != resource.RLIM_INFINITY else max(soft, 10_240)
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(encode(Settings("/run/x", "inventory.toml")))
        child.stdin.flush()
        assert child.stdout.readline().decode() == f"inventory.toml {limit}\n"
        assert child.poll() is None

        child.stdin.close()

        assert child.stdout.readline() == b"parent is gone\n"
        event = json.loads(child.stderr.readline())
        assert (event["process"], event["event"], event["node"]) == ("child", "said", "gpu1")
