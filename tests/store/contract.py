"""What every store must do: derive a class from StoreContract where there is a fixture ``bench``, and it is tested."""

from __future__ import annotations

from .cancelling import CancelContract
from .claiming import ClaimContract, PublishedContract
from .crowds import CrowdContract
from .delivery import DeliverContract, RebindContract
from .housekeeping import CountsContract, HealthContract, LeadContract, NonceContract
from .leasing import HoldContract, LeaseContract
from .running import FinishContract, JournalContract, StartContract
from .tasks import CloseRunContract, EndContract, TaskContract
from .turns import TurnsContract
from .unclaimed import ResultContract, UnclaimedBoundsContract, UnclaimedContract
from .waiting import (
    BindContract,
    PostponeContract,
    SettleContract,
    SuspendContract,
    TakeBackContract,
    WithdrawContract,
)
from .walking import StatesContract

__all__ = ["StoreContract"]


class StoreContract(
    SuspendContract,
    WithdrawContract,
    TakeBackContract,
    BindContract,
    PostponeContract,
    SettleContract,
    TurnsContract,
    CancelContract,
    DeliverContract,
    RebindContract,
    CrowdContract,
    ResultContract,
    UnclaimedContract,
    UnclaimedBoundsContract,
    ClaimContract,
    PublishedContract,
    StartContract,
    LeaseContract,
    HoldContract,
    JournalContract,
    FinishContract,
    TaskContract,
    EndContract,
    CloseRunContract,
    LeadContract,
    NonceContract,
    HealthContract,
    CountsContract,
    StatesContract,
):
    """The whole contract."""

    def test_no_group_hides_a_test_of_another(self) -> None:
        names = [name for group in StoreContract.__bases__ for name in vars(group) if name.startswith("test_")]
        assert len(names) == len(set(names))
