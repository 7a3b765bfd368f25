"""What a translation must keep exactly: numbers, units, dates, times, prices, identifiers, addresses, names."""
