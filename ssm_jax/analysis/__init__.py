"""What trained masks tell: shares, flips, overlap, connectivity, transfer; of one run or of several."""
