"""What the command line needs besides its flags."""
