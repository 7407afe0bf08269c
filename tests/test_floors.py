"""What import-linter cannot say: of SciPy, the pure floor may use `scipy.special` alone."""

from __future__ import annotations

import ast
from pathlib import Path

import detectors


def test_detectors_use_no_other_part_of_scipy():
    found = []
    for file in Path(detectors.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "scipy":
                names = [f"scipy.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found += [(file.name, name) for name in names if name.startswith("scipy")]
    assert {name for _, name in found} <= {"scipy.special"}, found
