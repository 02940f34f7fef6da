"""What each command can be told, known without importing what does the work."""
