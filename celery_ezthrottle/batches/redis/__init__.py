"""The batches in Redis 6.2 or newer, or in Valkey: one Lua script for each act."""
