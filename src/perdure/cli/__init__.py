"""The command line: what the store holds, shown to a person or a program; and a demonstration.

Only what a command needs is imported, and when it runs: `--help` must not wait for torch.
"""

from __future__ import annotations

import signal
import warnings
from typing import Any, NoReturn

import click

from perdure import __version__
from perdure.cli.output import clean, error_line, tolerate_any_encoding
from perdure.errors import DamagedError, PerdureError, PerdureWarning

_CODES = """\b
Exit codes:
  0  found, and nothing wrong with it
  1  something is damaged
  2  nothing there, or it cannot be read, or wrong usage"""


class _Main(click.Group):
    """Errors that Perdure raises on purpose become one message and an exit code; a traceback is for bugs."""

    def invoke(self, ctx: click.Context) -> Any:
        tolerate_any_encoding()
        with warnings.catch_warnings():
            warnings.simplefilter("always", PerdureWarning)
            warnings.showwarning = lambda message, *_: error_line(f"note: {message}")
            try:
                code = super().invoke(ctx)
            except PerdureError as error:
                _fail(ctx, error)
            except OSError as error:
                # A pipe whose reader has left is no error; click ends quietly then.
                if isinstance(error, BrokenPipeError):
                    raise
                error_line(f"perdure: {error}")
                ctx.exit(2)
            except KeyboardInterrupt:
                error_line("perdure: interrupted")
                ctx.exit(128 + signal.SIGINT)
        ctx.exit(code if isinstance(code, int) else 0)


def _fail(ctx: click.Context, error: PerdureError) -> NoReturn:
    error_line(f"perdure: {error}")
    ctx.exit(1 if isinstance(error, DamagedError) else 2)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="perdure")
def main() -> None:
    """Look at training runs, check them, and see one survive being killed.

    A run is a directory that perdure.Run wrote its checkpoints into. Looking needs no lock and changes
    nothing, also while the run is going on.
    """


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@main.command(epilog=_CODES)
@click.argument("directory", default=".", type=click.Path())
@_json
def ls(directory: str, as_json: bool) -> int:
    """List the runs below DIRECTORY (by default this one); if it is a run itself, its checkpoints.

    Damage that shows without reading all the data is shown: a damaged manifest, a missing or shortened file.
    `perdure verify` reads everything.
    """
    from perdure.cli.listing import list_runs

    return list_runs(directory, as_json)


@main.command(epilog=_CODES)
@click.argument("run", required=False, type=click.Path())
@click.option("--checkpoint", "-c", "number", type=int, metavar="N", help="Which one; by default the newest.")
@click.option(
    "--tree",
    "pattern",
    is_flag=False,
    flag_value="*",
    metavar="[PATTERN]",
    help="List every leaf of the state: all, or those at and below the paths that PATTERN stands for, "
    "with * and ? as wildcards ('agent', '*.exp_avg*').",
)
@_json
def show(run: str | None, number: int | None, pattern: str | None, as_json: bool) -> int:
    """Show what RUN is, and what is in a checkpoint of it: step, metrics, versions, the size of each part."""
    if run is None:
        hint = f" Was {clean(pattern)!r} meant? Write --tree after RUN." if pattern not in (None, "*") else ""
        raise click.UsageError(f"Missing argument 'RUN'.{hint}")
    from perdure.cli.showing import show_run

    return show_run(run, number, pattern, as_json)


@main.command(epilog=_CODES)
@click.argument("runs", nargs=-1, required=True, type=click.Path(), metavar="RUN...")
@_json
def verify(runs: tuple[str, ...], as_json: bool) -> int:
    """Read every byte of the checkpoints of each RUN, and check it.

    What is wrong is listed with what it means for the run. Notes are about things that no checkpoint needs;
    they are no damage.
    """
    from perdure.cli.verifying import verify_runs

    return verify_runs(runs, as_json)


@main.command(
    epilog="""\b
Exit codes:
  0  nothing is wrong with the run (any more)
  1  something is damaged: it was left, or nothing was done
  2  nothing there, it is being written to, or it cannot be read"""
)
@click.argument("run", type=click.Path())
@click.option("--yes", "-y", is_flag=True, help="Do it, without asking.")
@_json
def repair(run: str, yes: bool, as_json: bool) -> int:
    """Remove what is beyond help in RUN: damaged checkpoints, data that nobody needs, half-written files.

    What will be done is shown first, with what it means for the run; it is done if you agree, or with --yes.
    A lost run.json is restored. What is good is never touched, and without a single good checkpoint nothing is
    removed at all.
    """
    from perdure.cli.repairing import repair_run

    return repair_run(run, yes, as_json)


@main.command(
    epilog="""\b
Exit codes:
  0  the killed run and the uninterrupted one ended with the same state
  1  they did not, or it could not be shown
  2  the demo could not be run"""
)
@click.option(
    "--kills", type=click.IntRange(0, 20), default=3, show_default=True, help="How often to kill it."
)
@click.option(
    "--steps",
    type=click.IntRange(200),
    default=12_000,
    show_default=True,
    help="How long to train, in steps.",
)
@click.option("--seed", type=click.IntRange(0, 2**31), default=1, show_default=True, help="Of the training.")
@click.option(
    "--directory",
    type=click.Path(),
    metavar="DIR",
    help="Keep the two runs here. By default they are removed.",
)
def demo(kills: int, steps: int, seed: int, directory: str | None) -> int:
    """Kill a training at random moments, and compare what it ends with to one that was left alone.

    A DQN agent learns CartPole in a process of its own, which is ended with SIGKILL and started again until
    it is done; the same training runs without interruption beside it. Takes less than a minute on two
    processors.
    """
    from perdure.cli.demonstration import demonstrate

    return demonstrate(kills, steps, seed, directory)


@main.command(
    "check-env",
    epilog="""\b
Exit codes:
  0  it goes on exactly
  1  it does not, or it is refused
  2  it could not be checked, or wrong usage

\b
Examples:
  perdure check-env CartPole-v1
  perdure check-env Ant-v5 --wrapper gymnasium.wrappers:NormalizeObservation
  perdure check-env LunarLander-v3 --replay
  perdure check-env mine/env.py:make --vector async:4
  perdure check-env ALE/Pong-v5 --import ale_py --kwargs '{"frameskip": 4}'
  perdure check-env pettingzoo.classic.chess_v6
  perdure check-env dm_control/cheetah-run""",
)
@click.argument("env")
@click.option(
    "--wrapper",
    "wrappers",
    multiple=True,
    metavar="MODULE:CLASS[=JSON]",
    help="Wrap it in this, with JSON as keyword arguments. May be given several times, the innermost first.",
)
@click.option("--kwargs", metavar="JSON", help="What to make it with.")
@click.option("--import", "imports", multiple=True, metavar="MODULE", help="Import this first.")
@click.option(
    "--steps", type=click.IntRange(1, 10**7), default=500, show_default=True, help="How far to go on."
)
@click.option(
    "--cut",
    type=click.IntRange(1, 10**7),
    default=200,
    show_default=True,
    help="Reset an episode after so many steps, so that resets are met where episodes are long.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 2), default=1, show_default=True)
@click.option(
    "--replay",
    is_flag=True,
    help="Have episodes played again (perdure.environments.EpisodeReplay and its like).",
)
@click.option(
    "--vector",
    default="",
    metavar="KIND[:N]",
    help="Run N of them (3) together: sync, async, sb3-dummy, sb3-subproc, tianshou-dummy, tianshou-subproc, "
    "tianshou-shmem or tianshou-ray. Those in other processes are wrapped in perdure.environments.Resumable.",
)
@click.option(
    "--ignore", multiple=True, metavar="PATTERN", help="Leave this out of the comparison (\"info['time']\")."
)
@click.option(
    "--timeout", type=click.FloatRange(1), default=300, show_default=True, help="Of each process, in seconds."
)
@_json
def check_env(env: str, **options: Any) -> int:
    """Find out whether the environment ENV goes on exactly, restored in a fresh process.

    ENV is a Gymnasium id, `module:factory` or `file.py:factory`, a module of PettingZoo or MPE2,
    dm_control/domain-task, or envpool/id. It is run in several fresh processes with the same seed and actions,
    captured in mid-episode and right after an end, restored elsewhere, and taken on across resets; everything it
    returns and all its state is compared bit by bit.
    """
    from perdure.cli.environments import check_environment

    return check_environment(env, **options)
