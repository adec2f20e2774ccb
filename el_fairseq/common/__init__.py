"""What every step of the way uses: files, command lines."""
