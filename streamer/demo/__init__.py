"""What `streamer demo` is made of: processes, a tally of what they tell, and a view of that."""
