"""A wheel in which the path of a request is compiled (mypyc), where the machine can; elsewhere the same sources, interpreted.

Compiled, the gateway needs about half the CPU for what is not the kernel's (docs/performance.md). A machine without a C compiler or the headers
of Python still gets a wheel that does all the same. An editable install is never compiled: what is edited is what runs.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# setuptools looks for settings where it runs; these would be those of the project.
_SETUP = """
from mypyc.build import mypycify
from setuptools import setup

setup(name="olladist", packages=[], py_modules=[], ext_modules=mypycify({files!r}, opt_level="2", debug_level="0"))
"""


class Compiled(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        # Until the process ends: what is built here is read when the wheel is written, after this.
        self.place = TemporaryDirectory(prefix="olladist-compiled-")
        try:
            built = self._built(Path(self.place.name))
        except subprocess.CalledProcessError as failed:
            self.place.cleanup()
            print(failed.stdout)  # seen with `pip install -v`
            self.app.display_warning("olladist was not compiled, for the reason above: the gateway will be interpreted")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update(built)

    def _built(self, place: Path) -> dict[str, str]:
        """What was compiled, and where in the wheel it goes."""
        root = Path(self.root)
        # Beside the sources mypyc would leave what Python imports before them, even when they have changed since.
        shutil.copytree(root / "olladist", place / "olladist", ignore=shutil.ignore_patterns("__pycache__"))
        found = {path.relative_to(root) for pattern in self.config["compiled"] for path in root.glob(pattern)}
        files = sorted(str(path) for path in found if path.name not in self.config["interpreted"])
        (place / "setup.py").write_text(_SETUP.format(files=files))
        command = [sys.executable, "setup.py", "build_ext", "--build-lib", "built", "--build-temp", "objects"]
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        built = place / "built"
        return {str(path): str(path.relative_to(built)) for path in built.rglob("*") if path.is_file()}
