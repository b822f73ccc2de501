"""What is acknowledged survives SIGKILL, a full disk and damage; what is not is never half there."""
