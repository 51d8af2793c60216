"""The parts of scripts/chaos.py: settings, kills, damaged files, full disks, dead trackers."""
