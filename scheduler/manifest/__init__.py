"""From a user's file to checked items in shards: readers, checking, expansion, grouping."""
