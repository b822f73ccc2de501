"""What every call to an open collection shares."""
