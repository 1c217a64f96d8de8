"""Real Hadoop and Spark daemons on this machine: `python -m cluster up`, and `Cluster` for tests."""

from cluster.cluster import Cluster
from cluster.roles import ROLES

__all__ = ["ROLES", "Cluster"]
