"""gRPC services and plain HTTP endpoints: one thin file each, validation and status texts."""
