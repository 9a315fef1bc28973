"""What a file declares about its own origin: Content Credentials (C2PA), tags and XMP."""
