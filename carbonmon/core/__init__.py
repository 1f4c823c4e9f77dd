"""Records, rules and ports: pure functions and frozen records. Only `files` and `tomlfile` touch a disk."""
