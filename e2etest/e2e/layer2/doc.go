// Package layer2 tells Herald's layer 2 as a user lives it, in a lab with a real
// cluster: who answers for an address, who takes over, and what the cluster says
// about it. The stories are those that MetalLB's users rely on, and those that
// its own tests leave out.
//
// It asks from a client with curl, arping and ndisc6, and reads what kubectl
// shows. It refuses to look into Herald's processes.
//
// Build tag: lab. Run: make test-e2e
package layer2
