"""PostgreSQL servers of one's own, for tests and benchmarks: begun, killed, thrown away.

::

    version, bindir = newest(servers())
    with cluster_folder() as folder, Cluster.create(folder / "one", bindir) as cluster:
        cluster.start()
        url = cluster.create_database("audit")      # postgresql://postgres@127.0.0.1:23456/audit
        cluster.kill()                              # SIGKILL, the postmaster and all its children
        cluster.start()                             # recovers from its log

Durability is on, data checksums too. PostgreSQL refuses to run as root: then the server runs as
`nobody`, in a folder that `nobody` can enter. A server does not outlive the process that began it.
"""

from __future__ import annotations

from scripts.clusters.accounts import cluster_folder
from scripts.clusters.binaries import newest, servers
from scripts.clusters.cluster import Cluster, ClusterError, Server

__all__ = ["Cluster", "ClusterError", "Server", "cluster_folder", "newest", "servers"]
