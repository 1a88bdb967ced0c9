package config

// Describe shows tests in the outer package the whole content of a snapshot.
func Describe(s *Snapshot) string { return s.describe() }
