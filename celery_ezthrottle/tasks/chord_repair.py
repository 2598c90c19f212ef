"""Tell a chord about a member whose process was lost after it had stored SUCCESS and before it had told the chord."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from celery_ezthrottle._common.log import logger

__all__ = ["repair_chord"]

#: Seconds until Celery's claim is over; with Celery's defaults it lives for 22 s.
_CLAIM_ENDS_WITHIN = 30.0


def repair_chord(task: Any, request: Any, stored: Mapping[str, Any]) -> None:
    """Tell the chord of a member, if it has one, that the member has succeeded. Otherwise the chord would wait for ever.

    Only an ordered chord on Redis is told: there, telling it a second time changes nothing.

    Args:
        task: the member.
        request: the request of the member's run; ``chord`` is the body of the chord.
        stored: what the result backend has for the member: ``status`` and ``result``.
    """
    if not request.chord or not getattr(task.backend, "_chord_zset", False):
        return
    _tell(task, request, stored)
    # The lost process may have held Celery's claim to send the chord's body, without having sent it. So tell it once more later.
    again = threading.Timer(_CLAIM_ENDS_WITHIN, _tell, [task, request, stored])
    again.daemon = True
    again.start()


def _tell(task: Any, request: Any, stored: Mapping[str, Any]) -> None:
    try:
        task.backend.on_chord_part_return(request, stored["status"], stored["result"])
    except Exception:  # noqa: BLE001 -- logged; whatever a result backend raises, the message must be acknowledged
        logger.exception("Task %s has succeeded; its chord could not be told.", request.id)
