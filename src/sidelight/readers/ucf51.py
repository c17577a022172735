"""UCF51: the classes of UCF101 that have sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sidelight.readers.ucf101 import UCF101

# UCF101 added these 51 classes to UCF50 and kept their sound; the videos of UCF50 have none (Soomro et al. 2012).
NAMES = """
ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BasketballDunk BlowDryHair BlowingCandles
BodyWeightSquats Bowling BoxingPunchingBag BoxingSpeedBag BrushingTeeth CliffDiving CricketBowling CricketShot
CuttingInKitchen FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl Haircut HammerThrow Hammering
HandstandPushups HandstandWalking HeadMassage IceDancing Knitting LongJump MoppingFloor ParallelBars PlayingCello
PlayingDaf PlayingDhol PlayingFlute PlayingSitar Rafting ShavingBeard Shotput SkyDiving SoccerPenalty StillRings
SumoWrestling Surfing TableTennisShot Typing UnevenBars WallPushups WritingOnBoard
"""
CLASSES_WITH_SOUND = tuple(NAMES.split())


@dataclass(frozen=True, kw_only=True)
class UCF51(UCF101):
    """Reads the 51 classes of UCF101 that have sound; otherwise as UCF101."""

    name: ClassVar[str] = "ucf51"
    summary: ClassVar[str] = "UCF51: 6845 videos of the 51 actions of UCF101 that have sound"
    classes: ClassVar[tuple[str, ...]] = CLASSES_WITH_SOUND
