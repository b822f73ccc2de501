"""An origin in PostgreSQL."""

from reperio.origins.postgres.origin import PostgresOrigin, create

__all__ = ["PostgresOrigin", "create"]
