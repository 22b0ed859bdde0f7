"""Does an environment go on exactly where it was? Found out by restoring it in fresh processes.

`check` runs an environment in several processes, captures and restores it in mid-episode, and compares everything it
returns. `assert_exact` is for your own tests; `perdure check-env` is the same from the command line.

Vocabulary: *spec*: a serializable description from which a subprocess builds the environment; *child*: that
subprocess; *outputs*: what its steps and resets returned.
"""

from perdure.check_env._check import CheckReport, Finding, assert_exact, check, check_subject
from perdure.check_env._env_spec import Subject, subject
from perdure.check_env._report import UNCHECKED as UNCHECKED
from perdure.errors import EnvSpecError

__all__ = [
    "CheckReport",
    "EnvSpecError",
    "Finding",
    "Subject",
    "assert_exact",
    "check",
    "check_subject",
    "subject",
]
