"""What a round decides: contrasts, mask, landscape, splits and joins of states, junk; and the evidence for them."""
