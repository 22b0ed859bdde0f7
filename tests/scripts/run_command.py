"""What the command `perdure` does; with PERDURE_TEST_FUSE the process dies as by SIGKILL in that round of its loops."""

import os
import signal

from perdure.cli import main
from perdure.run import Rounds

if fuse := int(os.environ.get("PERDURE_TEST_FUSE", "0")):
    end_round = Rounds.end_round
    done = iter(range(1, 1_000_000))

    def end_round_or_die(self):
        if next(done) == fuse:
            self.run.flush()  # so that it is known which checkpoint is the last one
            os.kill(os.getpid(), signal.SIGKILL)
        end_round(self)

    Rounds.end_round = end_round_or_die

main()
