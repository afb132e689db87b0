"""The public namespace."""

import controller.runtime as runtime


def test_everything_exported_exists_and_is_sorted() -> None:
    """__all__ names what a program builds on, and nothing else is documented as public."""
    assert all(hasattr(runtime, name) for name in runtime.__all__)
    assert len(set(runtime.__all__)) == len(runtime.__all__)
    assert {"Controller", "Manager", "EventRecorder", "LeaderElectionConfig", "Metrics", "Result"} <= set(
        runtime.__all__
    )
