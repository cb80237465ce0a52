"""Writes Testing/slicer_names.json: of Slicer's names, those that the project uses.

Run as ``python Testing/slicer_standin/update_names.py`` where the full list is (see surface.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slicer_standin import surface  # noqa: E402
from slicer_standin.names import project  # noqa: E402


def as_text(names: dict) -> str:
    """One class a line, so that differences read well."""
    parts = []
    for section, content in names.items():
        if isinstance(content, dict):
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in content.items())
            parts.append(f"{json.dumps(section)}: {{\n{rows}\n }}" if rows else f"{json.dumps(section)}: {{}}")
        else:
            parts.append(f"{json.dumps(section)}: {json.dumps(content)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def main() -> int:
    full = surface.full()
    if full is None:
        print("The full list of Slicer's names is not here; set MEDIMGAI_SLICER_API.", file=sys.stderr)
        return 1
    record = project.check(full, *project.files())
    for finding in record.findings:
        print(finding, file=sys.stderr)
    surface.TRIMMED.write_text(as_text(record.trimmed()), encoding="utf-8")
    print(f"wrote {surface.TRIMMED}; {len(record.findings)} findings")
    return 1 if record.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
