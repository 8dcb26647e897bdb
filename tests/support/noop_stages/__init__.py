"""Stages that do next to nothing, on the real stage runner: for tests of the engine around them."""
