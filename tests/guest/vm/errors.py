# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Why a run can end without the command's own status."""

from __future__ import annotations


class SetupError(Exception):
    """The guests could not be made ready."""


class GuestLost(Exception):
    """A guest ended, or no longer answers, and nobody had asked it to."""


class TimeLimit(Exception):
    """The command ran past its limit."""


class Interrupted(Exception):
    """The runner was told to stop."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"signal {signum}")
        self.signum = signum
