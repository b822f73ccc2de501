"""Ray: this program's connection to a cluster, what is served there under a name, and replicas as its actors."""
