from tests.gateway.edge.conftest import gate, pytest_asyncio_loop_factories, run_dir

__all__ = ["gate", "pytest_asyncio_loop_factories", "run_dir"]
