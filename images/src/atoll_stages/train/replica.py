"""Writing a replica's own copy of a variable.

Under MirroredStrategy every replica computes the same update from summed gradients, so each may write its own copy
without any coordination; outside a strategy this is a plain assignment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def assign_here(variable: tf.Variable, value: tf.Tensor) -> None:
    """variable = value."""
    import tensorflow as tf

    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def subtract_here(variable: tf.Variable, value: tf.Tensor) -> None:
    """variable -= value."""
    import tensorflow as tf

    tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=value)


def sum_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """The sum of each tensor over all replicas, in replica context."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return tensors
    summed: list[tf.Tensor] = context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)
    return summed


def mean_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """The mean of each tensor over all replicas, in replica context."""
    import tensorflow as tf

    count = tf.distribute.get_replica_context().num_replicas_in_sync
    return tensors if count == 1 else [t / count for t in sum_over_replicas(tensors)]
