"""Interview rehearsal: the question bank, the session of a question, the mock interview, the days until the date.

Everything works offline, in English and Chinese. Nothing here imports torch, and each name is imported when it is
first used, so that `rehearse --help` answers at once.
"""

from helpers.lazy import names_of

MODULES = {
    "progress": (),
    "schedule": (),
    "state": (),
    "schema": ("Question", "json_schema"),
    "widgets": ("card", "interview", "rehearse"),
    "questions": ("Bank", "BankError", "Head", "Problem", "open_bank", "validate"),
}

__getattr__, __dir__ = names_of(__name__, MODULES)
