"""Finds out whether an environment continues exactly where it was, by restoring it in fresh processes.

`check` runs an environment in several processes, captures and restores it in mid-episode, and compares everything it
returns. `assert_exact` is for your own tests; `perdure check-env` does the same from the command line.

Vocabulary: *spec*: a serializable description from which a subprocess builds the environment; *child*: that
subprocess; *outputs*: what its steps and resets return; *untracked state*: state that belongs to no object, which no
checkpoint can hold.
"""

from perdure._lazy import publish
from perdure.check_env._check import assert_exact, check, check_spec
from perdure.check_env._env_spec import EnvSpec, env_spec
from perdure.check_env._report import CheckReport, Finding
from perdure.errors import EnvSpecError

__all__ = [
    "CheckReport",
    "EnvSpec",
    "EnvSpecError",
    "Finding",
    "assert_exact",
    "check",
    "check_spec",
    "env_spec",
]

publish(globals())
