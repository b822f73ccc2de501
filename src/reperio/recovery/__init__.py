"""Diagnose, mend and restore a directory, also one that cannot be opened.

What an open collection does to itself (`check`, `backup`) is a method of `Collection`. What is done to a directory
(`diagnose`, `restore`, `backups`) is a function of this package.
"""

from reperio.recovery.doctor import Diagnosis, Finding, diagnose
from reperio.recovery.restoring import backups, restore

__all__ = ["Diagnosis", "Finding", "backups", "diagnose", "restore"]
