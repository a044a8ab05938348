"""What a cascade is made of, as frozen values that travel with its weights."""
