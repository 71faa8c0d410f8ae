"""What the library rests on."""
