"""How a score is laid out and drawn: the settings of Verovio."""

from dataclasses import dataclass
from typing import Any

VIRTUAL_STAFF_SPACE = 180.0
"""Verovio's staff space in the units of its drawings; it does not depend on the page size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Settings of layout and drawing; lengths in units of Verovio (a staff space is 18)."""

    font: str = "Leipzig"
    page_width: int = 2100
    page_height: int = 2970
    spacing_linear: float = 0.25
    spacing_system: int = 8
    spacing_staff: int = 12
    staff_line_width: float = 0.15
    staff_space_px: float = 10.0
    """Staff space of the picture, in pixels."""

    @property
    def width_px(self) -> int:
        """Width of the picture, in pixels."""
        return round(self.page_width * 10 / VIRTUAL_STAFF_SPACE * self.staff_space_px)

    def options(self) -> dict[str, Any]:
        """The layout as options of Verovio."""
        return {
            "font": self.font,
            "pageWidth": self.page_width,
            "pageHeight": self.page_height,
            "spacingLinear": self.spacing_linear,
            "spacingSystem": self.spacing_system,
            "spacingStaff": self.spacing_staff,
            "staffLineWidth": self.staff_line_width,
            "breaks": "auto",
            "header": "auto",
            "footer": "none",
            "justifyVertically": False,
            "xmlIdSeed": 1,
        }
