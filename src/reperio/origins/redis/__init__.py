"""An origin in Redis."""

from reperio.origins.redis.origin import RedisOrigin, create

__all__ = ["RedisOrigin", "create"]
