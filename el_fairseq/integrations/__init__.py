"""The encouraging loss in other people's trainers; a trainer's module imports its library."""
