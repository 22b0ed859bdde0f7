"""The command line: look at runs, check and repair them, check environments, and the demo.

What a command needs is imported when it runs: `--help` must not wait for torch.
"""

from __future__ import annotations

import signal
import warnings
from typing import Any, NoReturn

import click

from perdure import __version__, arguments
from perdure.cli.output import clean, error_line, tolerate_any_encoding
from perdure.errors import DamagedError, PerdureError, PerdureWarning

_CODES = """\b
Exit codes:
  0  found, and nothing wrong with it
  1  something is damaged
  2  nothing there, it cannot be read, or wrong usage"""


class _Main(click.Group):
    """Errors that Perdure raises on purpose become one message and an exit code; a traceback is for bugs."""

    def invoke(self, ctx: click.Context) -> Any:
        tolerate_any_encoding()
        ctx.obj = warnings.showwarning
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

    A run is a directory that perdure.Run wrote its checkpoints into. Looking at it changes nothing and needs no
    lock, also while the run goes on.
    """


class _Place(click.Path):
    """A directory on this machine. "" and "s3://bucket" are mistakes, not names of directories."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(arguments.local_path(value, "DIRECTORY"), param, ctx)
        except ValueError as error:
            self.fail(str(error).partition(": ")[2], param, ctx)


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Exit codes: those of the script. After SIGTERM, SIGINT or SIGHUP 128 + the signal's number, once a checkpoint is saved.
  2  the script cannot be read or found, the command is running already, or wrong usage

\b
Examples:
  perdure run train.py --seed 1
  perdure run --every 100 --dir runs/ppo ppo.py --env-id CartPole-v1
  perdure run -m my_package.train
  perdure run --show train.py
  perdure run --restarts 5 train.py""",
)
@click.option("-m", "is_module", is_flag=True, help="SCRIPT is the name of a module, as for python -m.")
@click.option(
    "--every", type=click.IntRange(1), metavar="N", help="A checkpoint when a multiple of N rounds is done."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="A checkpoint every S seconds; by default 60.",
)
@click.option(
    "--dir",
    "directory",
    type=_Place(),
    metavar="DIR",
    help="Where the run is; by default below perdure-runs.",
)
@click.option(
    "--keep", type=click.IntRange(1), metavar="N", help="How many checkpoints to keep; by default 3."
)
@click.option(
    "--grace",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Exit within S seconds after a signal.",
)
@click.option(
    "--loop",
    "lines",
    multiple=True,
    metavar="LINE",
    help="The training is the loop that begins in this line (or FILE:LINE).",
)
@click.option("--show", is_flag=True, help="Show what would be made resumable and why, and run nothing.")
@click.option("--fresh", is_flag=True, help="Begin anew; the old run is set aside.")
@click.option(
    "--restarts",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Start it again up to N times if it dies.",
)
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, /, script: str, arguments: tuple[str, ...], **options: Any) -> int:
    """Run the training script SCRIPT so that it survives being killed.

    The script stays as it is. Its training loop is found in its source; every variable that the loop needs is saved,
    with all that can be reached from it. The same command, started again, goes on where the run was. Once the script
    has come to its end, the same command says so and does nothing.
    """
    from perdure.cli.running import run_command

    warnings.showwarning = ctx.obj  # the script's warnings are shown as Python shows them
    return run_command(script, arguments, **options)


@main.command(epilog=_CODES)
@click.argument("directory", default=".", type=_Place())
@_json
def ls(directory: str, as_json: bool) -> int:
    """List the runs below DIRECTORY (by default the current one), or the checkpoints if it is a run.

    Shows damage that can be found without reading all the data: a damaged manifest, a missing or shortened
    file. `perdure verify` reads everything.
    """
    from perdure.cli.listing import list_runs

    return list_runs(directory, as_json)


@main.command(epilog=_CODES)
@click.argument("run", required=False, type=_Place())
@click.option(
    "--checkpoint", "-c", "number", type=int, metavar="N", help="Which checkpoint; by default the newest."
)
@click.option(
    "--tree",
    "pattern",
    is_flag=False,
    flag_value="*",
    metavar="[PATTERN]",
    help="List every leaf of the state, or those at and below the paths that match PATTERN, with * and ? as "
    "wildcards ('agent', '*.exp_avg*').",
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
@click.argument("runs", nargs=-1, required=True, type=_Place(), metavar="RUN...")
@_json
def verify(runs: tuple[str, ...], as_json: bool) -> int:
    """Read and check every byte of each RUN.

    Each problem is listed with what it means for the run. Notes are about files that no checkpoint needs, and
    are not damage.
    """
    from perdure.cli.verifying import verify_runs

    return verify_runs(runs, as_json)


@main.command(
    epilog="""\b
Exit codes:
  0  nothing is wrong with the run, or everything was repaired
  1  something is damaged, and was left as it is
  2  nothing there, it is being written to, or it cannot be read"""
)
@click.argument("run", type=_Place())
@click.option("--yes", "-y", is_flag=True, help="Repair without asking.")
@_json
def repair(run: str, yes: bool, as_json: bool) -> int:
    """Remove what cannot be used in RUN: damaged checkpoints, data that nothing needs, half-written files.

    Shows first what will be done and what that means for the run, and does it if you agree, or with --yes. A
    lost run.json is restored. What is good is never changed, and without a single good checkpoint nothing is
    removed at all.
    """
    from perdure.cli.repairing import repair_run

    return repair_run(run, yes, as_json)


@main.command(
    epilog="""\b
Exit codes:
  0  the killed run and the uninterrupted one ended with the same state
  1  they did not, or no kill happened
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
@click.option(
    "--seed", type=click.IntRange(0, 2**31), default=1, show_default=True, help="Seed of the training."
)
@click.option(
    "--directory",
    type=_Place(),
    metavar="DIR",
    help="Keep the two runs here. By default they are removed.",
)
def demo(kills: int, steps: int, seed: int, directory: str | None) -> int:
    """Kill a training at random moments, and compare its end with one that was left alone.

    A DQN agent learns CartPole in a process that is killed (SIGKILL) and started again until it is done; the same
    training runs without interruption beside it. Takes less than a minute on two processors.
    """
    from perdure.cli.demonstration import demonstrate

    return demonstrate(kills, steps, seed, directory)


@main.command(
    "check-env",
    epilog="""\b
Exit codes:
  0  it resumes exactly
  1  it does not, or it is refused
  2  it could not be checked, or wrong usage

\b
Examples:
  perdure check-env CartPole-v1
  perdure check-env Ant-v5 --wrapper gymnasium.wrappers:NormalizeObservation
  perdure check-env LunarLander-v3
  perdure check-env mine.py:Mine-v0
  perdure check-env mine/env.py:make --vector async:4
  perdure check-env ALE/Pong-v5 --kwargs '{"frameskip": 4}'
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
@click.option("--kwargs", metavar="JSON", help="Its keyword arguments.")
@click.option("--import", "imports", multiple=True, metavar="MODULE", help="Import this first.")
@click.option(
    "--steps",
    type=click.IntRange(1, 10**7),
    default=500,
    show_default=True,
    help="How many steps to compare.",
)
@click.option(
    "--cut",
    type=click.IntRange(1, 10**7),
    default=200,
    show_default=True,
    help="Reset the environment after so many steps, so that long episodes are reset too.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 2), default=1, show_default=True)
@click.option(
    "--replay",
    is_flag=True,
    help="Restore by playing the episode again (perdure.environments.EpisodeReplay).",
)
@click.option(
    "--vector",
    default="",
    metavar="KIND[:N]",
    help="Check a vector of N environments (by default 3): sync, async, sb3-dummy, sb3-subproc, tianshou-dummy, "
    "tianshou-subproc, tianshou-shmem or tianshou-ray. Environments in other processes are wrapped in "
    "perdure.environments.Resumable.",
)
@click.option(
    "--ignore", multiple=True, metavar="PATTERN", help="Do not compare these paths (\"info['time']\")."
)
@click.option(
    "--timeout", type=click.FloatRange(1), default=300, show_default=True, help="Seconds for each process."
)
@_json
def check_env(env: str, **options: Any) -> int:
    """Find out whether the environment ENV resumes exactly in a new process.

    ENV is a Gymnasium id, `module:id`, `module:factory` or the same with `file.py`, a module of PettingZoo or MPE2,
    dm_control/domain-task, or envpool/id. The installed package that registers an id is imported.

    It runs in several processes with the same seed and actions, is captured in mid-episode and right after an
    episode's end, restored in another process, and continued across resets. Everything it returns and all its state is
    compared bit by bit. Where it is refused, or its state lies in native code, the same is tried with its episodes
    replayed (as with --replay).
    """
    from perdure.cli.environments import check_environment

    return check_environment(env, **options)
