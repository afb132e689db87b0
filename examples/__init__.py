"""A small controller on workqueue, informers and controller.runtime."""
