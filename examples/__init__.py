"""Small controllers built on the toolkit: workqueue, informers and controller.runtime."""
