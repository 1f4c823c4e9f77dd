"""Records, rules and ports: pure functions and frozen records. Only `files` and `documents` touch a disk."""
