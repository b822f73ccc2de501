"""Diagnose, mend and restore a collection, from outside of it."""

from reperio.recovery.doctor import Diagnosis, Finding, diagnose
from reperio.recovery.restoring import backups, restore

__all__ = ["Diagnosis", "Finding", "backups", "diagnose", "restore"]
