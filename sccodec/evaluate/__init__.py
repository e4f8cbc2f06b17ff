"""MEASURES: networks, tasks and anchors, on written files and never on estimates."""
