"""What the file system, the power, damage, other processes and hostile callers may do, and what must hold then."""
