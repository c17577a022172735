"""From the files that sensors write to rows: sessions, one clock, labels, windows (`sidelight windows`)."""

from sidelight.sessions.build import Summary, build_windows
from sidelight.sessions.draft import draft_plan

__all__ = ["Summary", "build_windows", "draft_plan"]
