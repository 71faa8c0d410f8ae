"""Independent variables, and the differential operators by them."""
