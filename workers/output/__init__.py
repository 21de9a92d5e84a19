"""From pixels to recorded images: encoding, metadata, thumbnails, upload, commit."""
