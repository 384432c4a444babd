"""Running studies in virtual time: real methods and a real dispatcher, but no training."""
