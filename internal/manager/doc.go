// Package manager is the house that both binaries live in: the client and its
// cache, logging, the metrics and health servers, TLS settings and leader
// election. It knows how a process of Herald runs in a cluster, and nothing of
// addresses or announcements.
//
// The main and run.go of the controller and of the speaker call it once:
//
//	log, err := manager.NewLogger(os.Stdout, options.Process.LogLevel)
//	manager.AdoptLibraries(log)
//	mgr, err := manager.New(log, options.Process.Options("speaker", "127.0.0.1"))
//
// Test: go test ./internal/manager. It starts real servers on loopback and
// needs no cluster.
package manager
