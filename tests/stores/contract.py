"""What every store must do: derive a class from StoreContract where there is a fixture ``bench``, and it is tested."""

from __future__ import annotations

from .claiming import ClaimContract, PublishedContract
from .delivery import DeliverContract
from .running import FinishContract, JournalContract, StartContract
from .tasks import CloseRunContract, TaskContract
from .waiting import BindContract, PostponeContract, SettleContract, SuspendContract, WithdrawContract

__all__ = ["StoreContract"]


class StoreContract(
    SuspendContract,
    WithdrawContract,
    BindContract,
    PostponeContract,
    SettleContract,
    DeliverContract,
    ClaimContract,
    PublishedContract,
    StartContract,
    JournalContract,
    FinishContract,
    TaskContract,
    CloseRunContract,
):
    """The whole contract."""

    def test_no_group_hides_a_test_of_another(self) -> None:
        names = [name for group in StoreContract.__bases__ for name in vars(group) if name.startswith("test_")]
        assert len(names) == len(set(names))
