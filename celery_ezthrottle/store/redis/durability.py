"""Find out whether a Redis server could lose what it keeps for us, from what it reports about itself."""

from __future__ import annotations

__all__ = ["problems"]


def problems(info: str, save_points: str | None) -> tuple[str, ...]:
    """Why a server could lose what it keeps; each reason is a sentence with the remedy.

    Args:
        info: the sections memory and persistence of INFO. A field that the server does not report counts as good.
        save_points: the server's setting "save"; None when the server does not permit reading it.
    """
    said = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return tuple(filter(None, (_eviction(said), _disk(said, save_points), _failures(said))))


def _eviction(said: dict[str, str]) -> str:
    policy = said.get("maxmemory_policy", "noeviction")
    # All our keys have a lifetime, so the policies "volatile-…" drop them too.
    if policy == "noeviction" or int(said.get("maxmemory", 0)) == 0:
        return ""
    return (
        f"When Redis reaches its maxmemory, it drops suspended tasks (maxmemory-policy is {policy}): "
        "set maxmemory-policy noeviction."
    )


def _disk(said: dict[str, str], save_points: str | None) -> str:
    if said.get("aof_enabled", "1") == "1":
        return ""
    if save_points is None:
        return (
            "Redis writes no append-only file, and may not be asked whether it saves snapshots: a crash loses the suspended "
            "tasks of the last minutes, or all of them: set appendonly yes."
        )
    if not save_points:
        return "Redis keeps nothing on disk, so that a restart loses all suspended tasks: set appendonly yes."
    return (
        f"Redis saves snapshots (save {save_points}) but writes no append-only file, so that a crash loses the suspended "
        "tasks of the last minutes: set appendonly yes."
    )


def _failures(said: dict[str, str]) -> str:
    failed = [name for name in ("aof_last_write_status", "rdb_last_bgsave_status") if said.get(name, "ok") != "ok"]
    if not failed:
        return ""
    return f"Redis could not write to its disk the last time ({', '.join(failed)}): see its log, and make room on the disk."
