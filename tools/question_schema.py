"""Write the JSON Schema of a question file from the models: `python -m tools.question_schema`.

What this does not do: check a question; `rehearse validate` does.
"""

from __future__ import annotations

import json

from helpers.rehearsal.questions import FOLDER
from helpers.rehearsal.schema import json_schema


def main() -> None:
    """Write `question.schema.json` beside the questions."""
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    (FOLDER / "question.schema.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
