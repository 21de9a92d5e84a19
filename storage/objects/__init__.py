"""Object stores: adapters of `storage.ports.ObjectStore`."""
