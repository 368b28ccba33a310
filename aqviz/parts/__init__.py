"""What tabs are made of: components and their events; no tab of its own."""
